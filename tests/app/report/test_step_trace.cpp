#include <catch2/catch.hpp>
#include <map>
#include <string>
#include <vector>

#include "app/report/step_trace.hpp"
#include "trace_file.hpp"

using namespace pipecast;
using nlohmann::json;

TEST_CASE("a step's trace has one process per pipeline rank and a track per stream, in order",
          "[trace]") {
  constexpr int kRanks = 12;  // two digits, so that sorting by name would differ
  Scenario scenario;
  scenario.plan.pp = kRanks;
  StepTrace trace;
  for (int rank = kRanks; rank-- > 0;) {
    trace.chunks.push_back({rank, "F0.0&B1.0", Time(0), Time(100)});
    // The three streams run at once; on tracks of their own that is no crossing.
    StreamSpan span;
    span.pipeline_rank = rank;
    span.start = Time(10);
    span.end = Time(90);
    for (const Stream stream : {Stream::kCompute, Stream::kSide, Stream::kCommunication}) {
      span.stream = stream;
      trace.streams.push_back(span);
    }
  }
  const TemporaryFolder folder("step");
  const auto path = folder.path() / "trace.json.gz";
  write_step_trace(path, scenario, trace);

  const json whole = read_trace(path);
  std::map<int, std::string> processes;
  std::map<int, int> sort_index;
  std::map<int, std::vector<std::string>> threads;
  std::map<std::pair<int, int>, int> open;
  std::map<std::pair<int, int>, int> slices;
  for (const json& event : whole.at("traceEvents")) {
    const int process = event.at("pid");
    const std::string name = event.value("name", "");
    if (name == "process_name") processes[process] = event.at("args").at("name");
    if (name == "process_sort_index") sort_index[process] = event.at("args").at("sort_index");
    if (name == "thread_name") threads[process].push_back(event.at("args").at("name"));
    int& depth = open[{process, event.at("tid")}];
    if (event.at("ph") == "B") {
      REQUIRE(++depth == 1);
      ++slices[{process, event.at("tid")}];
    }
    if (event.at("ph") == "E") REQUIRE(--depth == 0);
  }
  REQUIRE(processes.size() == kRanks);
  for (int rank = 0; rank < kRanks; ++rank) {
    REQUIRE(processes[rank] == "pipeline rank " + std::to_string(rank));
    REQUIRE(sort_index[rank] == rank);
    REQUIRE(threads[rank] == std::vector<std::string>{"schedule", "compute", "wgrad_side", "comm"});
    for (int thread = 0; thread < 4; ++thread) REQUIRE(slices[{rank, thread}] == 1);
  }
}
