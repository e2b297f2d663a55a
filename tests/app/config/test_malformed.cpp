#include <algorithm>
#include <catch2/catch.hpp>
#include <filesystem>
#include <fstream>
#include <regex>
#include <sstream>

#include "app/config/load.hpp"

using namespace pipecast;

namespace {

namespace fs = std::filesystem;

const fs::path kFolder = fs::path(PIPECAST_SOURCE_DIR) / "tests/app/config/malformed";

std::vector<fs::path> malformed_files() {
  std::vector<fs::path> out;
  for (const auto& entry : fs::directory_iterator(kFolder)) {
    const std::string extension = entry.path().extension();
    if (extension == ".yaml" || extension == ".json") out.push_back(entry.path().filename());
  }
  std::sort(out.begin(), out.end());
  return out;
}

/// The message without this machine's paths: files are named as if the folder were the working
/// directory.
std::string message_of(const fs::path& name) {
  const auto read = [](const fs::path& path) { return config::read_file(kFolder / path); };
  try {
    if (name.extension() == ".json") {
      load_model(name, read);
    } else {
      load_scenario(name, {}, read);
    }
  } catch (const Error& e) {
    return e.what();
  }
  return "no error";
}

std::string expected_message(const fs::path& name) {
  std::ifstream in(kFolder / name.stem().concat(".expected"));
  std::string line;
  std::getline(in, line);
  return line;
}

}  // namespace

TEST_CASE("every malformed file is refused with its message, which begins with file:line:column",
          "[config][malformed]") {
  const std::vector<fs::path> files = malformed_files();
  REQUIRE(files.size() >= 60);
  for (const fs::path& name : files) {
    CAPTURE(name);
    const std::string message = message_of(name);
    CHECK(message == expected_message(name));
    CHECK(std::regex_search(message, std::regex("^[^ :]+:[0-9]+:[0-9]+: ")));
  }
}
