#include <catch2/catch.hpp>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "app/config/load.hpp"
#include "app/forecast/forecast.hpp"
#include "app/report/step_trace.hpp"
#include "trace_file.hpp"

using namespace pipecast;
using nlohmann::json;

namespace {

/// What a viewer makes of a trace.
struct View {
  std::map<int, std::string> processes;
  std::map<int, int> sort_index;
  std::map<int, std::vector<std::string>> threads;
  std::map<std::pair<int, int>, int> slices;  ///< by process and thread
};

/// Requires on the way that every track runs forward and that no slice crosses another.
View view_of(const std::filesystem::path& path) {
  View out;
  std::map<std::pair<int, int>, int> open;
  std::map<std::pair<int, int>, double> last;
  bool forward = true;
  bool matched = true;
  const json whole = read_chrome_trace(path);
  for (const json& event : whole.at("traceEvents")) {
    const int process = event.at("pid");
    const std::pair<int, int> track{process, event.at("tid")};
    const std::string phase = event.at("ph");
    const std::string name = event.value("name", "");
    if (name == "process_name") out.processes[process] = event.at("args").at("name");
    if (name == "process_sort_index") out.sort_index[process] = event.at("args").at("sort_index");
    if (name == "thread_name") out.threads[process].push_back(event.at("args").at("name"));
    if (phase == "M") continue;
    const double at = event.at("ts");
    forward = forward && at >= last[track];
    last[track] = at;
    int& depth = open[track];
    depth += phase == "B" ? 1 : -1;
    matched = matched && (depth == 0 || depth == 1);
    if (phase == "B") ++out.slices[track];
  }
  for (const auto& [track, depth] : open) matched = matched && depth == 0;
  REQUIRE(forward);
  REQUIRE(matched);
  return out;
}

void require_ranks_in_order(const View& view, int ranks) {
  REQUIRE(view.processes.size() == static_cast<std::size_t>(ranks));
  for (int rank = 0; rank < ranks; ++rank) {
    REQUIRE(view.processes.at(rank) == "pipeline rank " + std::to_string(rank));
    REQUIRE(view.sort_index.at(rank) == rank);
    REQUIRE(view.threads.at(rank) ==
            std::vector<std::string>{"schedule", "compute", "wgrad_side", "comm"});
  }
}

}  // namespace

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
  write_step_trace(path, scenario.plan.pp, trace);

  const View view = view_of(path);
  require_ranks_in_order(view, kRanks);
  for (int rank = 0; rank < kRanks; ++rank) {
    for (int thread = 0; thread < 4; ++thread) REQUIRE(view.slices.at({rank, thread}) == 1);
  }
}

TEST_CASE("the trace of a simulated step has matched events on tracks without crossings",
          "[trace]") {
  const Scenario scenario =
      load_scenario(config_directory() / "scenarios" / "tiny-moe-h100.yaml", {}).scenario;
  StepTrace trace;
  const Forecast result =
      forecast(scenario, {.mode = SimulationMode::kFolded, .trace = &trace, .progress = {}});
  const TemporaryFolder folder("simulated");
  const auto path = folder.path() / "trace.json.gz";
  write_step_trace(path, scenario.plan.pp, trace);

  const View view = view_of(path);
  require_ranks_in_order(view, scenario.plan.pp);
  for (int rank = 0; rank < scenario.plan.pp; ++rank) {
    // At least each micro-batch's forward and backward, and something for the streams to do.
    REQUIRE(view.slices.at({rank, 0}) >= result.step.microbatches);
    REQUIRE(view.slices.at({rank, 1}) >= view.slices.at({rank, 0}));
  }
}

TEST_CASE("the counters of a trace show every rank's peak and end as they began", "[trace]") {
  const Scenario scenario =
      load_scenario(config_directory() / "scenarios" / "tiny-moe-h100.yaml", {}).scenario;
  StepTrace trace;
  const Forecast result =
      forecast(scenario, {.mode = SimulationMode::kFolded, .trace = &trace, .progress = {}});
  const TemporaryFolder folder("counters");
  const auto path = folder.path() / "trace.json.gz";
  write_step_trace(path, scenario.plan.pp, trace, result.memory);

  struct Counter {
    double first = -1;
    double last = 0;
    double most = 0;
    double when = 0;
    int values = 0;
  };
  std::map<std::pair<int, std::string>, Counter> counters;
  const json whole = read_chrome_trace(path);
  for (const json& event : whole.at("traceEvents")) {
    if (event.at("ph") != "C") continue;
    Counter& counter = counters[{event.at("pid"), event.at("name")}];
    REQUIRE(event.at("ts") >= counter.when);
    counter.when = event.at("ts");
    counter.last = event.at("args").at("value");
    if (counter.first < 0) counter.first = counter.last;
    counter.most = std::max(counter.most, counter.last);
    ++counter.values;
  }
  REQUIRE(counters.size() == static_cast<std::size_t>(scenario.plan.pp) * (kMemoryCategories + 1));
  constexpr double kDigits = 1e-5;  // six of a value are written
  for (int rank = 0; rank < scenario.plan.pp; ++rank) {
    const MemoryTotals& peak = result.memory.peak(rank).totals;
    const Counter& total = counters.at({rank, "memory GB: total"});
    REQUIRE(total.most == Approx(static_cast<double>(peak.total().count()) / 1e9).epsilon(kDigits));
    // Never more than two values a pass, and those of the gather and the beginning.
    int passes = 0;
    for (const ChunkSpan& span : trace.chunks) passes += span.pipeline_rank == rank ? 1 : 0;
    REQUIRE(total.values <= 2 * passes + 4);
    Bytes persistent;
    for (const MemoryTensor& t : result.memory.persistent(rank).tensors) {
      persistent += allocated_bytes(t.bytes);
    }
    REQUIRE(total.last == Approx(static_cast<double>(persistent.count()) / 1e9).epsilon(kDigits));
  }
}
