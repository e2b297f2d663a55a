/// The whole YAML front end on one text: whatever the bytes, it loads or throws Error; what loads
/// prints to a text that loads to the same. Lines "#--set path=value" at the top are applied.
#include <cstdint>
#include <string>
#include <vector>

#include "app/config/load.hpp"
#include "base/assert.hpp"
#include "sets_of.hpp"

namespace {

using pipecast::LoadedScenario;

LoadedScenario load(const std::string& text, const std::vector<std::string>& sets) {
  // No file but the one text: `extends` leads nowhere.
  const auto read = [&](const std::filesystem::path& path) {
    pipecast::require(path == "fuzz.yaml", "cannot be read: no such file");
    return text;
  };
  return pipecast::load_scenario("fuzz.yaml", sets, read);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string text(reinterpret_cast<const char*>(data), size);
  LoadedScenario loaded;
  try {
    loaded = load(text, fuzz::sets_of(text));
  } catch (const pipecast::Error&) {
    return 0;
  }
  const LoadedScenario again = load(pipecast::print_config(loaded), {});
  PIPECAST_ASSERT(pipecast::config_json(again) == pipecast::config_json(loaded));
  return 0;
}
