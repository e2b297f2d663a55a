#include <algorithm>
#include <catch2/catch.hpp>
#include <random>
#include <set>
#include <string>

#include "app/report/comparison_report.hpp"

using namespace pipecast;
using Catch::Contains;
using Catch::StartsWith;
using Json = nlohmann::json;

namespace {

/// A result in small: every kind of list, unit and section.
Json small_result() {
  return Json::parse(R"({
    "format": "pipecast-result/1", "version": "0.1.0", "seed": 1,
    "config": { "plan": { "communication_sms": 20, "overlap": true, "layout": ["moe*4", "head"] } },
    "step": { "time_s": 20.0, "tokens": 1000, "tokens_per_day": 4320000.0,
              "breakdown_s": { "forward": 15.0, "bubble": 5.0 },
              "ranks": [ { "pipeline_rank": 0, "time_s": 20.0, "memory_bytes": { "total": 600 } },
                         { "pipeline_rank": 1, "time_s": 20.0, "memory_bytes": { "total": 800 } } ] },
    "parameters": { "total": 64, "per_rank": [32, 32] },
    "run": { "cost_usd": 500.0, "phases": [ { "name": "ramp", "tokens": null, "days": 2.0 } ] },
    "critical_path": [
      { "operation": "gemm", "resource": "tensor", "pipeline_rank": 0, "seconds": 2.0 },
      { "operation": "gemm", "resource": "tensor", "pipeline_rank": 1, "seconds": 3.0 },
      { "operation": "gemm", "resource": "hbm", "pipeline_rank": 0, "seconds": 1e-9 } ],
    "simulator": { "wall_s": 1.0 } })");
}

/// Changes scalars and drops values at random; elements of lists stay what they are.
void disturb(Json& value, std::mt19937& random) {
  const auto one_in = [&](unsigned n) { return random() % n == 0; };
  const auto is_identity = [](const std::string& name) {
    return name == "operation" || name == "resource" || name == "pipeline_rank" || name == "name";
  };
  if (value.is_object()) {
    std::set<std::string> dropped;
    for (auto& [name, member] : value.items()) {
      if (is_identity(name)) continue;
      disturb(member, random);
      if (one_in(12)) dropped.insert(name);
    }
    for (const std::string& name : dropped) value.erase(name);
  } else if (value.is_array()) {
    for (Json& element : value) disturb(element, random);
    if (!value.empty() && one_in(6)) value.erase(random() % value.size());
  } else if (value.is_number_float() && one_in(2)) {
    value = one_in(6) ? 0.0 : value.get<double>() * (0.5 + static_cast<double>(random() % 16) / 8);
  } else if (value.is_number_integer() && one_in(3)) {
    value = random() % 1000;
  } else if (value.is_string() && one_in(4)) {
    value = value.get<std::string>() + "!";
  }
}

Json disturbed(unsigned seed) {
  std::mt19937 random(seed);
  Json out = small_result();
  disturb(out, random);
  return out;
}

Json json_of(const Comparison& comparison) { return comparison_json({"a", "b"}, comparison); }

/// The only difference between two results; fails where there are more.
NumberChange only_difference(const Json& a, const Json& b) {
  const Comparison comparison = compare_results(a, b);
  REQUIRE(comparison.differences.size() == 1);
  REQUIRE(comparison.settings.empty());
  return comparison.differences.front();
}

/// A small result with the value at a pointer replaced.
Json with(const std::string& pointer, const Json& value) {
  Json out = small_result();
  out[Json::json_pointer(pointer)] = value;
  return out;
}

std::vector<std::string> keys_of(const std::vector<NumberChange>& changes) {
  std::vector<std::string> out;
  for (const NumberChange& change : changes) out.push_back(change.path.key);
  return out;
}

std::size_t count_of(const std::string& text, const std::string& part) {
  std::size_t count = 0;
  for (std::size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1))
    ++count;
  return count;
}

}  // namespace

TEST_CASE("a result is identical with itself", "[comparison][property]") {
  const unsigned seed = GENERATE(range(0U, 50U));
  const Json result = disturbed(seed);
  const Comparison comparison = compare_results(result, result);
  REQUIRE(comparison.identical());
  REQUIRE(comparison.numbers > 0);
  REQUIRE(json_of(comparison).at("identical") == true);
  REQUIRE_THAT(comparison_text({"a", "b"}, comparison, {}), Contains("identical: all "));
}

TEST_CASE("swapping the results negates every difference and keeps their order",
          "[comparison][property]") {
  const unsigned seed = GENERATE(range(0U, 100U));
  const Json x = disturbed(seed);
  const Json y = disturbed(seed + 1000);
  const Comparison forth = compare_results(x, y);
  const Comparison back = compare_results(y, x);
  REQUIRE(forth.identical() == back.identical());
  REQUIRE(json_of(forth).at("only_a") == json_of(back).at("only_b"));
  REQUIRE(json_of(forth).at("only_b") == json_of(back).at("only_a"));
  REQUIRE(forth.numbers == back.numbers);
  REQUIRE(keys_of(forth.differences) == keys_of(back.differences));
  for (std::size_t i = 0; i < forth.differences.size(); ++i) {
    REQUIRE(forth.differences[i].difference == -back.differences[i].difference);
    REQUIRE(forth.differences[i].weight == back.differences[i].weight);
  }
  REQUIRE(forth.settings.size() == back.settings.size());
  for (std::size_t i = 0; i < forth.settings.size(); ++i) {
    REQUIRE(forth.settings[i].path.key == back.settings[i].path.key);
    REQUIRE(forth.settings[i].a == back.settings[i].b);
    REQUIRE(forth.settings[i].b == back.settings[i].a);
  }
}

TEST_CASE("the order of elements that say what they are does not matter",
          "[comparison][property]") {
  const unsigned seed = GENERATE(range(0U, 50U));
  const Json x = disturbed(seed);
  const Json y = disturbed(seed + 1000);
  Json shuffled = y;
  std::mt19937 random(seed);
  for (const char* pointer : {"/critical_path", "/step/ranks"}) {
    const Json::json_pointer at(pointer);
    if (shuffled.contains(at)) std::shuffle(shuffled[at].begin(), shuffled[at].end(), random);
  }
  REQUIRE(json_of(compare_results(x, shuffled)) == json_of(compare_results(x, y)));
}

TEST_CASE("a change is found under its path, with difference and relative change", "[comparison]") {
  const std::pair<const char*, const char*> paths[] = {
      {"/step/time_s", "step.time_s"},
      {"/step/breakdown_s/bubble", "step.breakdown_s.bubble"},
      {"/step/ranks/1/memory_bytes/total", "step.ranks[1].memory_bytes.total"},
      {"/parameters/per_rank/1", "parameters.per_rank[1]"},
      {"/run/phases/0/days", "run.phases[ramp].days"},
      {"/critical_path/1/seconds", "critical_path[gemm, tensor, 1].seconds"}};
  for (const auto& [pointer, key] : paths) {
    CAPTURE(pointer);
    const double before = small_result().at(Json::json_pointer(pointer));
    const NumberChange change = only_difference(small_result(), with(pointer, before * 1.5));
    REQUIRE(change.path.key == key);
    REQUIRE(change.difference == before / 2);
    REQUIRE(change.relative == 0.5);
  }
}

TEST_CASE("relative changes are of the size of A, and of zero there are none", "[comparison]") {
  const auto relative = [](const Json& a, const Json& b) {
    return only_difference({{"x", a}}, {{"x", b}}).relative;
  };
  REQUIRE(relative(-2, -1) == 0.5);
  REQUIRE(relative(4, 0) == -1);
  REQUIRE_FALSE(relative(0, 4).has_value());
  REQUIRE_FALSE(relative(5e-324, 1e308).has_value());  // beyond a double
  REQUIRE(json_of(compare_results({{"x", 0}}, {{"x", 4}})).at("differences").at(0).at("relative") ==
          nullptr);
}

TEST_CASE("numbers are compared to the last bit", "[comparison]") {
  const std::int64_t beyond_double = (std::int64_t{1} << 53) + 1;
  REQUIRE(only_difference({{"x", beyond_double - 1}}, {{"x", beyond_double}}).difference == 1);
  const double next = std::nextafter(1.0, 2.0);
  REQUIRE(only_difference({{"x", 1.0}}, {{"x", next}}).difference == next - 1.0);
  // The smallest difference beside the largest numbers is still one.
  REQUIRE(only_difference({{"x", 0.0}, {"y", 1e308}}, {{"x", 5e-324}, {"y", 1e308}}).difference ==
          5e-324);
  REQUIRE(only_difference({{"x", -1}}, {{"x", std::uint64_t{18446744073709551615U}}}).difference ==
          18446744073709551616.0);
  REQUIRE(compare_results({{"x", 1}}, {{"x", 1.0}}).identical());
}

TEST_CASE("the weight is the share of the largest of one unit in one section", "[comparison]") {
  REQUIRE(only_difference(small_result(), with("/step/breakdown_s/bubble", 6.0)).weight ==
          1.0 / 20.0);  // of step.time_s
  REQUIRE(only_difference(small_result(), with("/step/ranks/0/memory_bytes/total", 800)).weight ==
          200.0 / 800.0);  // of the other rank's bytes, not of the step's seconds or tokens
  REQUIRE(only_difference(small_result(), with("/critical_path/0/seconds", 1.5)).weight ==
          0.5 / 3.0);
  REQUIRE(only_difference(small_result(), with("/critical_path/0/seconds", 4.0)).weight ==
          2.0 / 4.0);  // of both results
  REQUIRE(only_difference(small_result(), with("/parameters/total", 32)).weight ==
          32.0 / 64.0);  // no unit: of its siblings
}

TEST_CASE("three times a nanosecond comes after five percent of the step", "[comparison]") {
  Json b = with("/critical_path/2/seconds", 4e-9);
  b["step"]["time_s"] = 21.0;
  const Comparison comparison = compare_results(small_result(), b);
  REQUIRE(keys_of(comparison.differences) ==
          std::vector<std::string>{"step.time_s", "critical_path[gemm, hbm, 0].seconds"});
}

TEST_CASE("what was asked, texts, switches and other kinds of values are settings",
          "[comparison]") {
  const std::pair<const char*, Json> changes[] = {{"/config/plan/communication_sms", 24},
                                                  {"/config/plan/overlap", false},
                                                  {"/config/plan/layout/0", "moe*5"},
                                                  {"/format", "other"},
                                                  {"/seed", 2},
                                                  {"/run/phases/0/tokens", 469},
                                                  {"/step/breakdown_s", 3}};
  for (const auto& [pointer, value] : changes) {
    CAPTURE(pointer);
    const Comparison comparison = compare_results(small_result(), with(pointer, value));
    REQUIRE(comparison.differences.empty());
    REQUIRE(comparison.settings.size() == 1);
    REQUIRE(comparison.settings[0].a == small_result().at(Json::json_pointer(pointer)));
    REQUIRE(comparison.settings[0].b == value);
    REQUIRE_FALSE(comparison.identical());
  }
}

TEST_CASE("the configuration comes first among the settings", "[comparison]") {
  Json b = with("/config/plan/overlap", false);
  b["assumptions"] = Json::array({{{"key", "x"}, {"value", "1"}}});
  Json a = small_result();
  a["assumptions"] = Json::array({{{"key", "x"}, {"value", "2"}}});
  const Comparison comparison = compare_results(a, b);
  REQUIRE(comparison.settings.size() == 2);
  REQUIRE(comparison.settings[0].path.key == "config.plan.overlap");
  REQUIRE(comparison.settings[1].path.key == "assumptions[x].value");
}

TEST_CASE("what one result lacks is named by the root of its branch", "[comparison]") {
  Json b = small_result();
  b["step"].erase("breakdown_s");
  b["critical_path"].erase(1);
  b["parameters"]["per_rank"].push_back(7);
  b["network"] = {{"nic", {{"bytes", 1}}}};
  const Json json = json_of(compare_results(small_result(), b));
  REQUIRE(json.at("only_a") == Json{"critical_path[gemm, tensor, 1]", "step.breakdown_s"});
  REQUIRE(json.at("only_b") == Json{"network", "parameters.per_rank[2]"});
  REQUIRE(json.at("differences").empty());
  REQUIRE(json.at("identical") == false);
}

TEST_CASE("elements that say the same are matched in their order", "[comparison]") {
  const auto list = [](std::vector<std::pair<std::string, int>> elements) {
    Json out = Json::array();
    for (const auto& [name, value] : elements) out.push_back({{"name", name}, {"value", value}});
    return Json{{"x", out}};
  };
  REQUIRE(
      compare_results(list({{"f", 1}, {"g", 5}, {"f", 2}}), list({{"f", 1}, {"f", 2}, {"g", 5}}))
          .identical());
  const Comparison one = compare_results(list({{"f", 1}, {"f", 2}}), list({{"f", 1}, {"f", 3}}));
  REQUIRE(keys_of(one.differences) == std::vector<std::string>{"x[f #2].value"});
  // A name that looks like the mark of a second element hides neither.
  const Json strange = list({{"f", 1}, {"f", 2}, {"f #2", 3}});
  REQUIRE(keys_of(compare_results(strange, list({{"f", 1}, {"f", 2}, {"f #2", 4}})).differences) ==
          std::vector<std::string>{"x[f #2 #2].value"});
}

TEST_CASE("lists whose elements do not say what they are go by position", "[comparison]") {
  const Json a = {{"rows", {{{"m", 64}, {"time_us", 1.0}}, {{"m", 128}, {"time_us", 2.0}}}}};
  Json b = a;
  b["rows"][1]["time_us"] = 3.0;
  REQUIRE(only_difference(a, b).path.key == "rows[1].time_us");
  std::swap(b["rows"][0], b["rows"][1]);
  REQUIRE(compare_results(a, b).differences.size() == 4);  // m and time_us of both rows
}

TEST_CASE("version and simulator are not compared, but only at the top", "[comparison]") {
  Json b = with("/simulator/wall_s", 7.0);
  b["version"] = "9";
  REQUIRE(compare_results(small_result(), b).identical());
  b.erase("simulator");
  REQUIRE(compare_results(small_result(), b).identical());
  b["config"]["version"] = 1;
  REQUIRE_FALSE(compare_results(small_result(), b).identical());
}

TEST_CASE("the headline is shown whether it differs or not", "[comparison]") {
  const Comparison comparison = compare_results(small_result(), with("/run/cost_usd", 550.0));
  REQUIRE(keys_of(comparison.headline) ==
          std::vector<std::string>{"step.time_s", "step.tokens_per_day", "run.cost_usd"});
  const std::string text = comparison_text({"a", "b"}, comparison, {});
  REQUIRE_THAT(text, Contains("step.time_s") && Contains("identical") && Contains("+10.00 %"));
  REQUIRE(count_of(text, "run.cost_usd") == 1);  // not among the differences again
  REQUIRE_THAT(text, Contains("\n1 of 22 numbers differ."));
}

TEST_CASE("settings come before the headline, and that before the differences", "[comparison]") {
  Json b = with("/config/plan/communication_sms", 24);
  b["step"]["time_s"] = 21.0;
  b["step"]["breakdown_s"]["bubble"] = 0.0;
  b["run"]["phases"][0]["days"] = 3.0;
  b["step"].erase("tokens");
  const std::string text =
      comparison_text({"a.json", "b.json"}, compare_results(small_result(), b), {});
  REQUIRE_THAT(text, StartsWith("A: a.json\nB: b.json\n\n"));
  std::size_t last = 0;
  for (const char* part : {"config.plan.communication_sms   20  24", "step.time_s", "+5.00 %",
                           "step.breakdown_s.bubble", "-100.00 %", "run.phases[ramp].days",
                           "only in A", "step.tokens"}) {
    CAPTURE(part, text);
    const std::size_t at = text.find(part, last);
    REQUIRE(at != std::string::npos);
    last = at;
  }
  REQUIRE(text.find("only in B") == std::string::npos);
}

TEST_CASE("pipeline ranks that differ share a line, with the largest", "[comparison]") {
  Json b = with("/step/ranks/0/memory_bytes/total", 610);
  b["step"]["ranks"][1]["memory_bytes"]["total"] = 900;
  const Comparison comparison = compare_results(small_result(), b);
  REQUIRE(comparison.differences.size() == 2);
  const std::string text = comparison_text({"a", "b"}, comparison, {});
  REQUIRE_THAT(text, Contains("step.ranks[1].memory_bytes.total and 1 like it"));
  REQUIRE(text.find("step.ranks[0]") == std::string::npos);
}

TEST_CASE("a limit cuts every table, a threshold only small numbers", "[comparison]") {
  Json a;
  Json b;
  for (int i = 0; i < 30; ++i) {
    const std::string name = "n" + std::to_string(i);
    a["results"][name] = 100;
    b["results"][name] = 100 + i;  // i percent
    a["config"][name] = i;
    b["config"][name] = i + 1;
  }
  a["results"]["appears"] = 0;
  b["results"]["appears"] = 1e-9;
  const Comparison comparison = compare_results(a, b);
  const auto results = [&](const ComparisonView& view) {
    return count_of(comparison_text({"a", "b"}, comparison, view), "results.");
  };
  REQUIRE(comparison.differences.size() == 30);  // n0 is equal
  REQUIRE(results({}) == 30);
  REQUIRE(results({.limit = 7}) == 7);
  REQUIRE(results({.limit = 31}) == 30);
  REQUIRE(results({.threshold_percent = 10}) == 21);  // 10 % to 29 %, and what was 0
  const std::string text = comparison_text({"a", "b"}, comparison, {.limit = 7});
  REQUIRE(count_of(text, "config.") == 7);
  REQUIRE_THAT(text, Contains("\nand 23 more; --limit 0 shows all\n"));
  REQUIRE_THAT(comparison_text({"a", "b"}, comparison, {}), !Contains("more;") && Contains("new"));
}

TEST_CASE("texts of the files come out in one line, short and without control characters",
          "[comparison]") {
  const std::string evil = "\x1b[31m\n" + std::string(500, 'x');
  const std::string text = comparison_text(
      {"a", "b"}, compare_results({{evil, "1"}, {"k", evil}}, {{evil, 1}, {"k", "b"}}), {});
  REQUIRE(text.find('\x1b') == std::string::npos);
  REQUIRE(count_of(text, "\n") == 9);  // two names, blank, header, rule, two settings, blank, sum
  REQUIRE_THAT(text, Contains("  \"1\"") && Contains("  1\n") && Contains("..."));
}
