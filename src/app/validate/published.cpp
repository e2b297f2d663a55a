#include "app/validate/published.hpp"

#include "app/config/fields.hpp"
#include "app/config/files.hpp"
#include "base/text.hpp"

namespace pipecast {

namespace {

using config::Fields;

const std::map<std::string, double>& units() {
  static const std::map<std::string, double> kUnits = {
      {"%", 0.01},  {"B", 1e9},      {"GFLOP", 1e9}, {"K GPU hours", 1e3}, {"KB", 1e3},
      {"M", 1e6},   {"M USD", 1e6},  {"cables", 1},  {"chunks", 1},        {"days", 1},
      {"ports", 1}, {"switches", 1}, {"ticks", 1}};
  return kUnits;
}

std::vector<std::string_view> unit_names() {
  std::vector<std::string_view> out;
  for (const auto& [name, size] : units()) out.push_back(name);
  return out;
}

}  // namespace

// Not in the unnamed namespace: it is found by its argument's namespace.
static void describe(Fields& f, PublishedValue& value) {
  f.required("quantity", value.quantity, "what it is");
  f.choice("unit", value.unit, config::words(unit_names()), "unit of the number");
  f.required("published", value.published, "the number", config::positive());
  f.choice("kind", value.kind, config::words({"exact", "measured", "derived"}),
           "how the number came about");
  f.required("predict", value.predict, "prediction that stands beside it");
  f.required("source", value.source, "where it was published");
}

namespace {

struct DenseModel {
  std::string name;
  GqaModel extents;
};

struct File {
  std::vector<DenseModel> dense_models;
  std::vector<PublishedValue> values;
};

void describe(Fields& f, DenseModel& model) {
  GqaModel& m = model.extents;
  f.required("name", model.name, "name that predictions begin with");
  f.required("hidden_size", m.hidden_size, "width of the residual stream", config::positive());
  f.required("layers", m.layers, "transformer layers", config::positive());
  f.required("heads", m.heads, "attention heads", config::positive());
  f.required("kv_heads", m.kv_heads, "heads of keys and values", config::positive());
  f.required("head_dim", m.head_dim, "width of a head", config::positive());
  f.required("intermediate_size", m.intermediate_size, "width of the FFN", config::positive());
  f.required("vocab_size", m.vocab_size, "tokens of the vocabulary", config::positive());
}

void describe(Fields& f, File& file) {
  f.required("dense_models", file.dense_models, "models that are only counted");
  f.required("values", file.values, "rows of the comparison");
}

}  // namespace

PublishedValues load_published(const std::filesystem::path& path) {
  File file;
  config::read_section(config::load_tree(path, config::read_file), "",
                       [&](Fields& f) { describe(f, file); });
  PublishedValues out;
  for (const DenseModel& model : file.dense_models) {
    out.dense_models.emplace(model.name, model.extents);
  }
  out.values = std::move(file.values);
  return out;
}

double unit_size(const std::string& unit) {
  const auto it = units().find(unit);
  std::vector<std::string> names;
  for (const auto& [name, size] : units()) names.push_back(name);
  require(it != units().end(), "unknown unit '{}'; known: {}", unit, join(names));
  return it->second;
}

std::filesystem::path validation_directory() { return PIPECAST_VALIDATION_DIRECTORY; }

}  // namespace pipecast
