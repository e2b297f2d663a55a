/// The reader of config.json on one text: whatever the bytes, it loads or throws Error.
#include <cstdint>
#include <string>

#include "app/config/load.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string text(reinterpret_cast<const char*>(data), size);
  const auto read = [&](const std::filesystem::path& path) {
    pipecast::require(path == "config.json", "cannot be read: no such file");
    return text;
  };
  try {
    pipecast::load_model("config.json", read);
  } catch (const pipecast::Error&) {
    return 0;
  }
  return 0;
}
