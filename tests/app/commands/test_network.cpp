#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <map>

#include "base/error.hpp"
#include "run_command.hpp"

using namespace pipecast;
using namespace pipecast::testing;
using Json = nlohmann::json;

namespace {

const std::filesystem::path kCases = PIPECAST_SOURCE_DIR "/validate/network";

Json read_json(const std::filesystem::path& path) {
  std::ifstream in(path);
  REQUIRE(in);
  return Json::parse(in);
}

std::vector<std::filesystem::path> files(const std::string& folder) {
  std::vector<std::filesystem::path> out;
  for (const auto& entry : std::filesystem::directory_iterator(kCases / folder)) {
    out.push_back(entry.path());
  }
  std::sort(out.begin(), out.end());
  return out;
}

/// What the command makes of a file with this text.
Json network(const std::string& text, const std::vector<std::string>& more = {},
             const std::string& suffix = ".yaml") {
  const TemporaryFile file("network-case" + suffix);
  // The name ends as a JSON file's does, or not.
  const std::string path = file.path() + suffix;
  std::ofstream(path) << text;
  std::vector<std::string> arguments = {path};
  arguments.insert(arguments.end(), more.begin(), more.end());
  try {
    Json out = run_command("network", arguments);
    std::filesystem::remove(path);
    return out;
  } catch (const ImpossiblePlan& e) {
    std::filesystem::remove(path);
    throw;
  } catch (const Error& e) {
    std::filesystem::remove(path);
    // Without the path, which is another one every time.
    const std::string message = e.what();
    const bool names_file = message.rfind(path, 0) == 0;
    throw Error(names_file ? message.substr(path.size() + 1) : message);
  }
}

/// A case of two links and two flows in which one line is another.
std::string edited(const std::string& line = "", const std::string& by = "") {
  std::string text =
      "format: network-case/1\n"
      "links:\n"
      "- { id: up, bandwidth_Bps: 10 }\n"
      "- { id: down, bandwidth_Bps: 5 }\n"
      "flows:\n"
      "- { id: first, links: [up, down], bytes: 20, group: g }\n"
      "- { id: second, links: [up], bytes: 5, start_s: 1, latency_s: 0.5, after: [first] }\n";
  const std::size_t at = text.find(line);
  REQUIRE(at != std::string::npos);
  return text.replace(at, line.size(), by);
}

/// Of a computed value against the expected one.
double error(const Json& computed, const Json& expected) {
  return std::abs(computed.get<double>() / expected.get<double>() - 1);
}

}  // namespace

TEST_CASE("flow mode completes SimGrid's cases at the same times", "[commands][network]") {
  const auto paths = files("cases");
  REQUIRE(paths.size() == 25);
  for (const auto& path : paths) {
    const Json expected = read_json(path).at("expected");
    const Json out = run_command("network", {path.string()});
    CAPTURE(path.filename().string());
    REQUIRE(out.at("completion_s").size() == expected.at("completion_s").size());
    for (const auto& [id, time] : expected.at("completion_s").items()) {
      CAPTURE(id);
      REQUIRE(error(out.at("completion_s").at(id), time) < 1e-6);
    }
    REQUIRE(error(out.at("makespan_s"), expected.at("makespan_s")) < 1e-6);
    const Json groups = expected.value("group_completion_s", Json::object());
    REQUIRE(out.at("group_completion_s").size() == groups.size());
    for (const auto& [id, time] : groups.items()) {
      REQUIRE(error(out.at("group_completion_s").at(id), time) < 1e-6);
    }
  }
}

TEST_CASE("flow mode completes ns-3's cases within what packets cost", "[commands][network]") {
  const auto paths = files("packet");
  REQUIRE(paths.size() == 5);
  for (const auto& path : paths) {
    const Json expected = read_json(path);
    const Json out = run_command("network", {path.string()});
    CAPTURE(path.filename().string());
    REQUIRE(error(out.at("makespan_s"), expected.at("ns3_makespan_s")) < 0.002);
    for (const Json& flow : expected.at("flows")) {
      const std::string id = flow.at("src").dump() + "-" + flow.at("dst").dump();
      CAPTURE(id);
      REQUIRE(error(out.at("completion_s").at(id), flow.at("ns3_s")) < 0.03);
    }
  }
}

TEST_CASE("every link of a case carries what its flows send", "[commands][network]") {
  const std::string mode = GENERATE("flow", "coflow");
  for (const auto& path : files("cases")) {
    const Json in = read_json(path);
    std::map<std::string, std::int64_t> bytes;
    for (const Json& flow : in.at("flows")) {
      for (const Json& link : flow.at("links")) bytes[link] += flow.at("bytes").get<std::int64_t>();
    }
    const Json out = run_command("network", {path.string(), "--mode", mode});
    CAPTURE(path.filename().string(), mode);
    REQUIRE(out.at("links").size() == in.at("links").size());
    for (const Json& link : in.at("links")) {
      const Json& traffic = out.at("links").at(link.at("id").get<std::string>());
      REQUIRE(traffic.at("bytes") == bytes[link.at("id")]);
      const double could_carry =
          link.at("bandwidth_Bps").get<double>() * out.at("makespan_s").get<double>();
      const double busy = traffic.at("busy_fraction");
      REQUIRE(busy == Approx(static_cast<double>(bytes[link.at("id")]) / could_carry));
      REQUIRE(busy <= 1 + 1e-12);
    }
  }
}

TEST_CASE("a case in YAML means what it means in JSON", "[commands][network]") {
  const Json yaml = network(edited());
  REQUIRE(yaml == network(R"({"format": "network-case/1",
    "links": [{"id": "up", "bandwidth_Bps": 10}, {"id": "down", "bandwidth_Bps": 5}],
    "flows": [{"id": "first", "links": ["up", "down"], "bytes": 20, "group": "g"},
              {"id": "second", "links": ["up"], "bytes": 5, "start_s": 1, "latency_s": 0.5,
               "after": ["first"]}]})",
                          {}, ".json"));
  const double first = 20 / 5.0;
  const double second = first + 0.5 + 5 / 10.0;
  REQUIRE(yaml.at("completion_s") == Json{{"first", first}, {"second", second}});
  REQUIRE(yaml.at("group_completion_s") == Json{{"g", first}});
  REQUIRE(yaml.at("makespan_s") == second);
  REQUIRE(yaml.at("links").at("up") == Json{{"bytes", 25}, {"busy_fraction", 25 / (10 * second)}});
  REQUIRE(yaml.size() == 4);  // the keys of the contract, no more
}

TEST_CASE("arbitration of coflows is by flow or by job", "[commands][network]") {
  std::string text = "format: network-case/1\nlinks: [{ id: l, bandwidth_Bps: 8 }]\nflows:\n";
  for (int i = 0; i < 7; ++i) {
    text += "- { id: f" + std::to_string(i) + ", links: [l], bytes: 100, group: g }\n";
  }
  text += "- { id: send, links: [l], bytes: 8 }\n";
  const auto send = [&](std::vector<std::string> more) {
    return network(text, more).at("completion_s").at("send").get<double>();
  };
  REQUIRE(send({}) == Approx(8 / (8 / 8.0)));
  REQUIRE(send({"--mode", "coflow"}) == Approx(8 / (8 / 8.0)));
  REQUIRE(send({"--mode", "coflow", "--arbitration", "job"}) == Approx(8 / (8 / 2.0)));
}

TEST_CASE("a packet case tells pairs that send twice apart", "[commands][network]") {
  const Json out = network(
      "format: network-packet-case/1\nnics: 2\npayload_Bps: 10\nlatency_s: 1\n"
      "flows: [{ src: 0, dst: 1, bytes: 10 }, { src: 0, dst: 1, bytes: 10 }]\n");
  REQUIRE(out.at("completion_s") == Json{{"0-1", 3.0}, {"0-1#2", 3.0}});
  REQUIRE(out.at("links").at("nic0.up").at("bytes") == 20);
}

TEST_CASE("a case takes in other files, and --set changes its keys", "[commands][network]") {
  const TemporaryFile base("network-base");
  std::ofstream(base.path()) << edited();
  const std::string text = "format: network-case/1\nextends: " + base.path() + "\n";
  REQUIRE(network(text) == network(edited()));
  REQUIRE(
      network(text, {"--set", "links.1.bandwidth_Bps=20", "--set", "flows.1.after=[]"}) ==
      network(edited("bandwidth_Bps: 5 ", "bandwidth_Bps: 20 "), {"--set", "flows.1.after=[]"}));
  REQUIRE_THROWS_AS(network(text, {"--set", "links.1.bandwidth_Bps=0"}), ImpossiblePlan);
  REQUIRE_THROWS_WITH(network(text, {"--set", "flows.2.bytes=1"}),
                      "--set flows.2.bytes=1: flows.2: there is no such element; the list has 2, "
                      "counted from 0");
  REQUIRE_THROWS_WITH(network(text, {"--set", "format=pipecast-fabric/1"}),
                      Catch::Contains("format: is 'pipecast-fabric/1'; "));
}

TEST_CASE("a case that says nothing clear is refused where it says so", "[commands][network]") {
  struct Refused {
    std::string line;
    std::string by;
    std::string message;
  };
  const Refused refused = GENERATE(values<Refused>({
      {"format: network-case/1\n", "", "1:1: format: is missing; expected one of"},
      {"network-case/1", "network-case/2", "1:9: format: is 'network-case/2'; expected one of"},
      {"{ id: up, bandwidth_Bps", "{ id: up, bandwith_Bps",
       "3:13: links.0.bandwith_Bps: unknown key; did you mean 'bandwidth_Bps'?"},
      {"bandwidth_Bps: 10 ", "bandwidth_Bps: -1 ", "3:28: links.0.bandwidth_Bps: "},
      {"bandwidth_Bps: 10 ", "bandwidth_Bps: 0.5 ",
       "3:28: links.0.bandwidth_Bps: '0.5' must be 0 (a failed link) or at least 1 byte/s"},
      {"bandwidth_Bps: 10 ", "bandwidth_Bps: fast ", "3:28: links.0.bandwidth_Bps: "},
      {"id: down", "id: up", "4:9: links.1.id: 'up' is the name of an earlier link already"},
      {"id: second", "id: first", "7:9: flows.1.id: 'first' is the name of an earlier flow"},
      {"[up, down]", "[up, dwn]",
       "6:28: flows.0.links.1: there is no link 'dwn'; did you mean 'down'?"},
      {"[up, down]", "[up, up]", "6:28: flows.0.links.1: 'up' stands twice"},
      {"[up, down]", "[]", "6:9: flows.0.links: is empty; expected the links that 20 bytes cross"},
      {"[up, down]", "up", "6:23: flows.0.links: is 'up'; expected a list of ids"},
      {"after: [first]", "after: [frist]",
       "7:76: flows.1.after.0: there is no flow 'frist'; did you mean 'first'?"},
      {"bytes: 20", "bytes: -20", "6:42: flows.0.bytes: '-20' must be at least 0"},
      {"bytes: 20", "bytes: 2.5", "6:42: flows.0.bytes: "},
      {"bytes: 20, ", "", "6:3: flows.0.bytes: is missing; expected bytes to move"},
      {"start_s: 1", "start_s: -1", "7:49: flows.1.start_s: '-1' must be at least 0"},
      {"latency_s: 0.5", "latency_s: .inf", "7:63: flows.1.latency_s: "},
      {"latency_s: 0.5", "weight: 0", "7:60: flows.1.weight: '0' must be at least 1e-06"},
      {"flows:\n", "flows: none\nmore:\n", "6:1: more: unknown key"},
  }));
  CAPTURE(refused.line, refused.by);
  REQUIRE_THROWS_WITH(network(edited(refused.line, refused.by)),
                      Catch::StartsWith(refused.message));
}

TEST_CASE("a NIC that a packet case lacks is named where it stands", "[commands][network]") {
  REQUIRE_THROWS_WITH(network("format: network-packet-case/1\nnics: 2\npayload_Bps: 10\n"
                              "latency_s: 0\nflows:\n- { src: 0, dst: 2, bytes: 1 }\n"),
                      "6:18: flows.0.dst: there is no NIC 2; they count from 0 to 1");
}

TEST_CASE("cases beyond the limits are refused before they are read", "[commands][network]") {
  std::string text = "format: network-case/1\nlinks: []\nflows:\n";
  for (int i = 0; i <= 100'000; ++i) text += "- {}\n";
  REQUIRE_THROWS_WITH(network(text), "4:1: flows: has 100001 entries; expected at most 100000");
}

TEST_CASE("what cannot complete is an impossible plan", "[commands][network]") {
  REQUIRE_THROWS_AS(network(edited("bytes: 20, ", "bytes: 20, after: [second], ")), ImpossiblePlan);
  REQUIRE_THROWS_AS(network(edited("bandwidth_Bps: 5 ", "bandwidth_Bps: 0 ")), ImpossiblePlan);
}

TEST_CASE("options that say nothing clear are refused", "[commands][network]") {
  REQUIRE_THROWS_WITH(network(edited(), {"--mode", "job"}),
                      "--mode: unknown 'job'; it is flow or coflow");
  REQUIRE_THROWS_WITH(network(edited(), {"--mode", "coflow", "--arbitration", "fair"}),
                      "--arbitration: unknown 'fair'; it is flow or job");
  REQUIRE_THROWS_WITH(network(edited(), {"--arbitration", "job"}),
                      Catch::StartsWith("--arbitration is between the jobs of --mode coflow"));
  REQUIRE_THROWS_WITH(network(edited(), {"--limit", "-1"}),
                      Catch::StartsWith("--limit: -1 is negative"));
}

TEST_CASE("collectives of the cases end in coflow mode nearly when SimGrid says",
          "[commands][network]") {
  struct Overlap {
    std::string name;
    double first_band = 0;
  };
  // The last to end is bound by its most loaded port; the first by how the two share, which a job
  // knows less well where loads are uneven.
  const Overlap overlap = GENERATE(values<Overlap>({{"20_two_collectives", 0.06},
                                                    {"21_a2a_and_pipeline_send", 1e-6},
                                                    {"23_ring_and_a2a", 1e-6}}));
  const auto path = kCases / "cases" / (overlap.name + ".json");
  const Json expected = read_json(path).at("expected");
  const Json out = run_command("network", {path.string(), "--mode", "coflow"});
  CAPTURE(overlap.name);
  for (const auto& [id, time] : expected.at("group_completion_s").items()) {
    REQUIRE(error(out.at("group_completion_s").at(id), time) < overlap.first_band);
  }
  REQUIRE(error(out.at("makespan_s"), expected.at("makespan_s")) < 0.01);
}

TEST_CASE("a case made one collective ends in coflow mode as flow by flow", "[commands][network]") {
  const std::string name =
      GENERATE("04_incast_equal", "07_fan_out", "13_a2a_balanced_plane", "14_ep16_uniform_dispatch",
               "15_ep64_uniform_dispatch", "16_ep32_zipf_combine", "17_ep64_zipf_dispatch",
               "19_a2a_staggered", "22_ring_reduce_scatter");
  Json one = read_json(kCases / "cases" / (name + ".json"));
  for (Json& flow : one.at("flows")) flow["group"] = "all";
  const Json out = network(one.dump(), {"--mode", "coflow"}, ".json");
  CAPTURE(name);
  constexpr double kAgree = 1e-3;
  REQUIRE(error(out.at("makespan_s"), one.at("expected").at("makespan_s")) < kAgree);
}
