#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <map>

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
