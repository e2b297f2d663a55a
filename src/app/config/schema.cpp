#include <map>

#include "app/config/load.hpp"
#include "app/config/sections/sections.hpp"
#include "base/text.hpp"

namespace pipecast {

namespace {

using config::Json;

template <class T>
Json schema_of() {
  return config::value_schema(static_cast<const T*>(nullptr), config::Range{});
}

/// One entry per kind; the schema of results joins them here.
const std::map<std::string, Json (*)(), std::less<>>& makers() {
  static const std::map<std::string, Json (*)(), std::less<>> kMakers = {
      {"calibration", schema_of<CalibrationSpec>},
      {"cluster", schema_of<ClusterSpec>},
      {"gpu", schema_of<GpuSpec>},
      {"model", schema_of<ModelSpec>},
      {"plan", schema_of<PlanSpec>},
      {"recipe", schema_of<RecipeSpec>},
      {"scenario", schema_of<Scenario>},
  };
  return kMakers;
}

}  // namespace

std::vector<std::string> schema_kinds() {
  std::vector<std::string> out;
  for (const auto& [kind, make] : makers()) out.push_back(kind);
  return out;
}

nlohmann::ordered_json schema(std::string_view kind) {
  const auto it = makers().find(kind);
  require(it != makers().end(), "unknown kind of schema '{}'; known: {}", kind,
          join(schema_kinds()));
  Json out = {{"$schema", "http://json-schema.org/draft-07/schema#"},
              {"title", fmt::format("Pipecast {}", kind)}};
  out.update(it->second());
  return out;
}

}  // namespace pipecast
