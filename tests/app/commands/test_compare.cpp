#include <catch2/catch.hpp>
#include <fstream>
#include <string>

#include "base/error.hpp"
#include "run_command.hpp"

using namespace pipecast;
using namespace pipecast::testing;
using Catch::Contains;

namespace {

class TextFile {
 public:
  TextFile(const std::string& name, const std::string& text) : file_("pipecast-" + name) {
    std::ofstream(file_.path(), std::ios::binary) << text;
  }
  [[nodiscard]] std::string path() const { return file_.path(); }

 private:
  TemporaryFile file_;
};

nlohmann::json compare_texts(const std::string& a, const std::string& b) {
  const TextFile file_a("a.json", a);
  const TextFile file_b("b.json", b);
  return run_command("compare", {file_a.path(), file_b.path()});
}

}  // namespace

TEST_CASE("`compare` gives the keys of its format", "[commands][compare]") {
  const nlohmann::json out = compare_texts(R"({"config": {"sms": 20}, "time_us": 4, "old": 1})",
                                           R"({"config": {"sms": 24}, "time_us": 5, "new": 1})");
  REQUIRE(out.at("format") == "pipecast-comparison/1");
  REQUIRE(out.at("identical") == false);
  REQUIRE(out.at("settings") ==
          nlohmann::json::parse(R"([{"key": "config.sms", "a": 20, "b": 24}])"));
  REQUIRE(out.at("differences") == nlohmann::json::parse(R"([{"key": "time_us", "a": 4, "b": 5,
            "difference": 1.0, "relative": 0.25, "weight": 0.2}])"));
  REQUIRE(out.at("only_a") == nlohmann::json{"old"});
  REQUIRE(out.at("only_b") == nlohmann::json{"new"});
  REQUIRE_THAT(out.at("a").get<std::string>(), Contains("a.json"));
  REQUIRE_THAT(out.at("b").get<std::string>(), Contains("b.json"));
}

TEST_CASE("`compare` does not mind the order of keys", "[commands][compare]") {
  REQUIRE(compare_texts(R"({"a": 1, "b": {"c": [1, 2], "d": null}})",
                        R"({"b": {"d": null, "c": [1, 2.0]}, "a": 1})")
              .at("identical") == true);
}

TEST_CASE("`compare` reads what other commands write", "[commands][compare]") {
  const TemporaryFile a("pipecast-model-a");
  const TemporaryFile b("pipecast-model-b");
  const std::string model = PIPECAST_SOURCE_DIR "/configs/models/tiny-moe.yaml";
  const auto write = [&](const TemporaryFile& file, const std::string& sequence) {
    std::ofstream(file.path()) << run_command("model", {model, "--seq-length", sequence});
  };
  write(a, "4096");
  write(b, "8192");
  const nlohmann::json out = run_command("compare", {a.path(), b.path()});
  REQUIRE(out.at("settings") ==
          nlohmann::json::parse(R"([{"key": "seq_length", "a": 4096, "b": 8192}])"));
  REQUIRE(out.at("only_a").empty());
  REQUIRE(out.at("only_b").empty());
  bool rows_double = false;
  for (const auto& difference : out.at("differences")) {
    if (difference.at("key") != "layers[embedding].operations.mlp(F)[embedding_lookup].bytes_read")
      continue;
    rows_double = difference.at("relative") == 1.0;  // one row of the table per token
  }
  REQUIRE(rows_double);
}

TEST_CASE("`compare` takes maps with more keys than a configuration may have",
          "[commands][compare]") {
  nlohmann::json a;
  for (int i = 0; i < 5000; ++i) a["links"]["link " + std::to_string(i)] = i;
  nlohmann::json b = a;
  b["links"]["link 4999"] = 0;
  const nlohmann::json out = compare_texts(a.dump(), b.dump());
  REQUIRE(out.at("differences").size() == 1);
  REQUIRE(out.at("differences").at(0).at("relative") == -1.0);
}

TEST_CASE("`compare` refuses malformed files by file, line and column", "[commands][compare]") {
  const std::pair<std::string, std::string> cases[] = {
      {"", ":1:1: not valid JSON: the text ends too early"},
      {"{\"a\": 1,\n \"b\": NaN}", ":2:7: not valid JSON: unexpected 'N'"},
      {"{\"a\": -Infinity}", ":1:8: not valid JSON: unexpected 'I'"},
      {"{\"a\": 1e999}", ":1:7: the number is too large; expected one below 1.8e308"},
      {"{\"a\": 1} {}", ":1:10: not valid JSON: unexpected '{'"},
      {"{\"a\": [1,\n", ":2:1: not valid JSON: the text ends too early"},
      {"[1, 2]", ":1:1: is a list; expected a map of keys"},
      {"  17", ":1:3: is '17'; expected a map of keys"},
      {"null", ":1:1: is empty; expected a map of keys"},
      {"{\"a\": 1, \"a\": 2}", ":1:10: duplicate key 'a'; it stands already at "},
      {"{\"a\": " + std::string(100'000, '['), ":1:70: nested more than 64 levels deep"},
      {std::string("{\"a\": \0}", 8), ":1:7: a NUL byte; expected text in UTF-8"},
      {"{\"a\": \"\xff\"}", ":1:8: the byte 0xff is not UTF-8; expected text in UTF-8"},
      {"---\na: 1\n", ":1:2: not valid JSON: unexpected '-'"}};
  const TextFile good("good.json", "{}");
  for (const auto& [text, message] : cases) {
    CAPTURE(text.substr(0, 40));
    const TextFile bad("bad.json", text);
    REQUIRE_THROWS_WITH(run_command("compare", {bad.path(), good.path()}),
                        Catch::StartsWith(bad.path() + message));
    REQUIRE_THROWS_WITH(run_command("compare", {good.path(), bad.path()}),
                        Catch::StartsWith(bad.path() + message));
  }
}

TEST_CASE("`compare` refuses what is no readable file of up to 16 MiB", "[commands][compare]") {
  const TextFile good("good.json", "{}");
  const TextFile large("large.json", std::string((16 << 20) + 1, ' '));
  const std::pair<std::string, std::string> cases[] = {{"/nowhere/a.json", "no such file"},
                                                       {"/", "it is a directory"},
                                                       {"/dev/null", "it is no regular file"},
                                                       {large.path(), "it has more than 16 MiB"}};
  for (const auto& [path, reason] : cases) {
    REQUIRE_THROWS_WITH(run_command("compare", {good.path(), path}),
                        path + ": cannot be read: " + reason);
  }
}

TEST_CASE("`compare` refuses options that mean nothing", "[commands][compare]") {
  const TextFile file("good.json", "{}");
  const auto run = [&](std::vector<std::string> options) {
    options.insert(options.begin(), {file.path(), file.path()});
    return run_command("compare", options);
  };
  REQUIRE_THROWS_WITH(run({"--limit", "-1"}),
                      "--limit: -1 is negative; expected a number of lines, or 0 for all");
  REQUIRE_THROWS_WITH(run({"--threshold", "-2"}),
                      "--threshold: -2 is no threshold; expected a percentage from 0 on");
  REQUIRE_THROWS_WITH(run({"--threshold", "nan"}),
                      "--threshold: nan is no threshold; expected a percentage from 0 on");
  REQUIRE_THROWS_WITH(run_command("compare", {file.path()}),
                      "B is missing; usage: pipecast compare A.json B.json [options]");
  REQUIRE(run({"--limit", "0", "--threshold", "100"}).at("identical") == true);
}
