#include <algorithm>
#include <catch2/catch.hpp>
#include <filesystem>
#include <fstream>
#include <map>
#include <regex>
#include <sstream>
#include <string>
#include <vector>

#include "layers.hpp"

using pipecast::layers::violations;

namespace {

/// The one violation of a file with these lines, without "src/path:".
std::string violation(const std::string& path, const std::string& text) {
  const auto found = violations(path, text);
  REQUIRE(found.size() == 1);
  const std::string start = "src/" + path + ":";
  REQUIRE(found[0].substr(0, start.size()) == start);
  return found[0].substr(start.size());
}

}  // namespace

TEST_CASE("the source tree keeps to its layers", "[layers]") {
  namespace fs = std::filesystem;
  const fs::path src = fs::path(PIPECAST_SOURCE_DIR) / "src";
  std::vector<std::string> found;
  int files = 0;
  for (const auto& entry : fs::recursive_directory_iterator(src)) {
    const std::string suffix = entry.path().extension().string();
    if (suffix != ".cpp" && suffix != ".hpp" && suffix != ".cu" && suffix != ".cuh") continue;
    ++files;
    std::ifstream file(entry.path());
    REQUIRE(file);
    std::stringstream text;
    text << file.rdbuf();
    const std::string path = entry.path().lexically_relative(src).generic_string();
    for (const std::string& wrong : violations(path, text.str())) found.push_back(wrong);
  }
  std::sort(found.begin(), found.end());
  REQUIRE(files > 10);  // the scan looked at something
  std::string all;
  for (const std::string& wrong : found) all += wrong + '\n';
  INFO(all);
  REQUIRE(found.empty());
}

// Two types of one name in one namespace break each other silently where a program links both.
TEST_CASE("no two headers define types of the same name", "[layers]") {
  namespace fs = std::filesystem;
  const fs::path src = fs::path(PIPECAST_SOURCE_DIR) / "src";
  const std::regex definition(R"(^(struct|class|enum class) (\w+)[^;(]*\{)");
  std::map<std::string, std::string> defined_in;
  for (const auto& entry : fs::recursive_directory_iterator(src)) {
    if (entry.path().extension() != ".hpp") continue;
    const std::string path = entry.path().lexically_relative(src).generic_string();
    std::ifstream file(entry.path());
    for (std::string line; std::getline(file, line);) {
      std::smatch match;
      if (!std::regex_search(line, match, definition)) continue;
      const auto [known, fresh] = defined_in.try_emplace(match[2], path);
      CAPTURE(match[2].str(), known->second, path);
      REQUIRE(fresh);
    }
  }
  REQUIRE(defined_in.size() > 100);
}

TEST_CASE("a planted include across layers is found where it stands", "[layers]") {
  REQUIRE(violation("model/a.cpp", "\n#include \"sim/engine/engine.hpp\"\n") ==
          "2: model/ may not include \"sim/engine/engine.hpp\"; it may include base/, model/");
  REQUIRE(violation("sim/engine/a.hpp", "#include \"model/specs/gpu.hpp\"\n") ==
          "1: sim/engine/ may not include \"model/specs/gpu.hpp\"; it may include base/, "
          "sim/engine/");
  REQUIRE(violation("base/a.hpp", "  #  include \"app/config/load.hpp\"  // why\n") ==
          "1: base/ may not include \"app/config/load.hpp\"; it may include base/");
  REQUIRE(violation("sim/gpu/a.cpp", "#include \"chunk.hpp\"\n") ==
          "1: sim/ may not include \"chunk.hpp\"; it may include base/, model/, sim/");
  REQUIRE(violation("elsewhere/a.cpp", "") ==
          "0: no layer has this folder; see CONTRIBUTING.md for where things go");
}

TEST_CASE("a planted library outside its home is found", "[layers]") {
  REQUIRE(violation("app/report/a.cpp", "#include <yaml-cpp/yaml.h>\n") ==
          "1: <yaml-cpp/yaml.h> belongs to app/config/ alone");
  REQUIRE(violation("model/a.cpp", "#include <nlohmann/json.hpp>\n") ==
          "1: <nlohmann/json.hpp> belongs to app/ alone");
  REQUIRE(violation("model/a.cpp", "#include <fstream>\n") == "1: <fstream> belongs to app/ alone");
  REQUIRE(violation("base/text.cpp", "#include <cstdio>\n") ==
          "1: <cstdio> belongs to app/, base/assert.cpp alone");
  REQUIRE(violation("sim/a.cpp", "#include <catch2/catch.hpp>\n") ==
          "1: <catch2/catch.hpp> is in no layer's list; add it to tests/layers/layers.cpp");
}

TEST_CASE("a planted print or exit in a library is found", "[layers]") {
  const std::string reason = "1: only app prints or ends the program; throw an Error instead";
  REQUIRE(violation("model/a.cpp", "std::cout << 1;\n") == reason);
  REQUIRE(violation("sim/a.cpp", "  fmt::print(\"x\");\n") == reason);
  REQUIRE(violation("sim/a.cpp", "std::fprintf(stderr, \"x\");\n") == reason);
  REQUIRE(violation("base/a.cpp", "if (x) exit(2);\n") == reason);
  REQUIRE(violation("sim/engine/a.cpp", "std::abort();\n") == reason);
}

TEST_CASE("what the layers allow is not reported", "[layers]") {
  REQUIRE(violations("app/config/a.cpp", "#include <yaml-cpp/yaml.h>\n").empty());
  REQUIRE(violations("app/main.cpp", "#include \"sim/cluster/x.hpp\"\nstd::cout << 1;\n").empty());
  REQUIRE(violations("sim/cluster/a.cpp", "#include \"model/memory/x.hpp\"\n").empty());
  REQUIRE(violations("model/a.cpp", "#include <vector>\n#include <fmt/format.h>\n").empty());
  REQUIRE(
      violations("model/a.cpp", "// never printf(x) here\nconst char* a = \"exit(1)\";\n").empty());
  REQUIRE(violations("model/a.cpp", "at_exit_of(x); on_exit_handler();\n").empty());
  REQUIRE(violations("base/assert.cpp", "#include <cstdio>\nstd::_Exit(3);\n").empty());
}
