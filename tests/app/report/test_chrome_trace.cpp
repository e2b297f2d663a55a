#include <algorithm>
#include <catch2/catch.hpp>
#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "app/report/chrome_trace.hpp"
#include "base/error.hpp"
#include "base/random.hpp"
#include "trace_file.hpp"

using namespace pipecast;
using nlohmann::json;

namespace {

const std::vector<TraceTrack> kTracks = {
    {0, 0, "rank 0", "compute"}, {0, 1, "rank 0", "comm"}, {1, 0, "rank 1", "compute"}};

json written(std::vector<TraceSlice> slices, const std::vector<TraceTrack>& tracks = kTracks) {
  const TemporaryFolder folder("trace");
  const auto path = folder.path() / "t.json.gz";
  write_chrome_trace(path, tracks, std::move(slices));
  return read_chrome_trace(path).at("traceEvents");
}

/// Begin and end events by track, in file order.
std::map<std::pair<int, int>, std::vector<json>> by_track(const json& events) {
  std::map<std::pair<int, int>, std::vector<json>> out;
  for (const json& event : events) {
    if (event.at("ph") == "M") continue;
    out[{event.at("pid"), event.at("tid")}].push_back(event);
  }
  return out;
}

}  // namespace

TEST_CASE("every begin is followed by its end and each track runs forward", "[trace][property]") {
  Random random(1, "trace");
  std::vector<TraceSlice> slices;
  for (const TraceTrack& track : kTracks) {
    Time at;
    for (int i = 0; i < 500; ++i) {
      // Slices may touch and may have no length.
      const Time start = at + Duration(static_cast<std::int64_t>(random.below(3)));
      at = start + Duration(static_cast<std::int64_t>(random.below(3)));
      slices.push_back({track.process, track.thread, "s" + std::to_string(i), "c", start, at});
    }
  }
  for (std::size_t i = slices.size(); i > 1; --i) std::swap(slices[i - 1], slices[random.below(i)]);

  const auto tracks = by_track(written(slices));
  REQUIRE(tracks.size() == kTracks.size());
  for (const auto& [track, events] : tracks) {
    REQUIRE(events.size() == 2 * 500);
    double last = 0;
    for (std::size_t i = 0; i < events.size(); ++i) {
      REQUIRE(events[i].at("ph") == (i % 2 == 0 ? "B" : "E"));
      const double at = events[i].at("ts").get<double>();
      REQUIRE(at >= last);
      last = at;
    }
  }
}

TEST_CASE("times are microseconds and lose no picosecond", "[trace]") {
  const TemporaryFolder folder("picoseconds");
  const auto path = folder.path() / "t.json.gz";
  const Time start(12'345'678'901'234'567);  // 3.4 hours
  write_chrome_trace(path, kTracks, {{0, 0, "a", "c", start, start + Duration(1)}});
  gzFile file = gzopen(path.c_str(), "rb");
  std::string text(4096, '\0');
  text.resize(static_cast<std::size_t>(gzread(file, text.data(), 4096)));
  gzclose(file);
  REQUIRE_THAT(text, Catch::Contains("\"ts\":12345678901.234567"));
  REQUIRE_THAT(text, Catch::Contains("\"ts\":12345678901.234568"));
}

TEST_CASE("processes and threads are named once and sorted by their number", "[trace]") {
  const json events = written({{0, 0, "a", "c", Time(0), Time(1)}});
  std::vector<std::pair<std::string, json>> metadata;
  for (const json& event : events) {
    if (event.at("ph") == "M" && event.at("pid") == 0 && event.at("name") != "trace_name") {
      metadata.emplace_back(event.at("name"), event.at("args"));
    }
  }
  const std::vector<std::pair<std::string, json>> expected = {
      {"process_name", {{"name", "rank 0"}}}, {"process_sort_index", {{"sort_index", 0}}},
      {"thread_name", {{"name", "compute"}}}, {"thread_sort_index", {{"sort_index", 0}}},
      {"thread_name", {{"name", "comm"}}},    {"thread_sort_index", {{"sort_index", 1}}}};
  REQUIRE(metadata == expected);
}

TEST_CASE("any name survives the way through JSON", "[trace]") {
  const std::string name = "a \"quoted\" \\ back\nslash \x01 \u00e9";
  const json events = written({{0, 0, name, "c", Time(0), Time(1)}}, {{0, 0, name, name}});
  for (const json& event : events) {
    if (event.at("ph") == "B") REQUIRE(event.at("name") == name);
    if (event.value("name", "") == "thread_name") REQUIRE(event.at("args").at("name") == name);
  }
}

TEST_CASE("a slice of no length may stand at the start of another", "[trace]") {
  const auto tracks = by_track(
      written({{0, 0, "long", "c", Time(5), Time(9)}, {0, 0, "point", "c", Time(5), Time(5)}}));
  const auto& events = tracks.at({0, 0});
  REQUIRE(events.at(0).at("name") == "point");
  REQUIRE(events.at(2).at("name") == "long");
}

TEST_CASE("a trace that cannot be written says so and leaves nothing behind", "[trace]") {
  const TemporaryFolder folder("unwritable");
  const auto missing = folder.path() / "missing" / "t.json.gz";
  REQUIRE_THROWS_AS(write_chrome_trace(missing, kTracks, {}), Error);
  REQUIRE_THROWS_WITH(write_chrome_trace(missing, kTracks, {}),
                      missing.string() + ": cannot be written");
  const auto taken = folder.path() / "taken";
  std::filesystem::create_directories(taken / "by a folder");
  REQUIRE_THROWS_WITH(write_chrome_trace(taken, kTracks, {}),
                      taken.string() + ": cannot be written");
  REQUIRE_FALSE(std::filesystem::exists(folder.path() / "taken.part"));
}

TEST_CASE("counters follow the slices of a trace", "[trace]") {
  const TemporaryFolder folder("counters");
  const auto path = folder.path() / "t.json.gz";
  write_chrome_trace(path, {{0, 0, "p", "t"}}, {{0, 0, "s", "c", Time(0), Time(2'000'000)}},
                     {{.process = 0, .name = "HBM", .when = Time(1'000'000), .value = 2.5}});
  int counters = 0;
  const json whole = read_chrome_trace(path);
  for (const json& event : whole.at("traceEvents")) {
    if (event.at("ph") != "C") continue;
    ++counters;
    REQUIRE(event.at("name") == "HBM");
    REQUIRE(event.at("ts") == 1.0);
    REQUIRE(event.at("args").at("value") == 2.5);
  }
  REQUIRE(counters == 1);
}
