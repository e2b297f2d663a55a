#include <catch2/catch.hpp>
#include <fstream>
#include <sstream>

#include "app/tables/launch_table.hpp"
#include "base/error.hpp"
#include "run_command.hpp"

using namespace pipecast;
using namespace pipecast::testing;
using Catch::Contains;

namespace {

const std::string kScenario = PIPECAST_SOURCE_DIR "/configs/scenarios/deepseek-v3-h800.yaml";
const std::string kTrace = PIPECAST_SOURCE_DIR "/traces/h800_dualpipe_chunk/kernels.csv";
constexpr const char* kPhaseKeys[] = {"time_us", "compute_us", "communication_us", "notify_us"};

nlohmann::json chunk(std::vector<std::string> arguments) {
  arguments.insert(arguments.begin(), kScenario);
  return run_command("chunk", arguments);
}

void require_refused(std::vector<std::string> arguments, const std::string& message) {
  arguments.insert(arguments.begin(), kScenario);
  arguments.emplace_back("--quiet");
  REQUIRE_THROWS_WITH(Registry<Command>::instance().find("chunk").run(arguments),
                      Contains(message));
}

void require_numbers(const nlohmann::json& object, const char* key) {
  CAPTURE(key);
  REQUIRE(object.at(key).is_number());
}

std::string content_of(const std::string& path) {
  std::ostringstream out;
  out << std::ifstream(path, std::ios::binary).rdbuf();
  return out.str();
}

}  // namespace

TEST_CASE("`chunk` gives the keys of the contract", "[commands]") {
  const nlohmann::json out = chunk({"--layers", "1"});
  REQUIRE(out.at("format") == "pipecast-chunk/1");
  REQUIRE(out.at("kind") == "overlapped");
  REQUIRE(out.at("layers") == 1);
  require_numbers(out, "time_us");
  require_numbers(out, "exposed_communication_us");
  REQUIRE(out.at("phases").size() == 10);
  for (const auto& [name, phase] : out.at("phases").items()) {
    for (const char* key : kPhaseKeys) require_numbers(phase, key);
    REQUIRE_FALSE(phase.contains("measured"));
  }
  require_numbers(out.at("streams").at("compute"), "busy_us");
  require_numbers(out.at("streams").at("comm"), "busy_us");
  for (const char* key : {"sm", "tensor_cores", "hbm", "nvlink", "nic"}) {
    const double share = out.at("utilisation").at(key).get<double>();
    CAPTURE(key);
    REQUIRE(share > 0);
    REQUIRE(share < 1);
  }
  REQUIRE(out.at("kernels").at("attention_fwd").at("count") == 1);
}

TEST_CASE("`chunk --compare` sets measured values and errors beside the predicted", "[commands]") {
  const nlohmann::json out = chunk({"--compare", kTrace});
  const auto require_compared = [](const nlohmann::json& object, const char* key) {
    CAPTURE(key);
    const double predicted = object.at(key).get<double>();
    const double measured = object.at("measured").at(key).get<double>();
    const nlohmann::json& error = object.at("error").at(key);
    if (measured > 0) {
      REQUIRE(error.get<double>() == Approx(predicted / measured - 1));
    } else {
      REQUIRE(error == 0.0);  // both are 0
    }
  };
  require_compared(out, "time_us");
  // From the first start to the last end of the trace: its README.
  REQUIRE(out.at("measured").at("time_us").get<double>() == Approx(129.0e3).epsilon(1e-3));
  REQUIRE(out.at("phases").size() == 10);
  for (const auto& [name, phase] : out.at("phases").items()) {
    CAPTURE(name);
    for (const char* key : kPhaseKeys) require_compared(phase, key);
  }
  for (const char* stream : {"compute", "comm"}) {
    require_compared(out.at("streams").at(stream), "busy_us");
  }
  for (const auto& [op, kernel] : out.at("kernels").items()) {
    CAPTURE(op);
    REQUIRE(kernel.contains("median_error"));
    REQUIRE(kernel.contains("p90_error"));
  }
  for (const char* family : {"products_and_attention", "memory_bound", "all"}) {
    REQUIRE(out.at("kernel_families").at(family).at("median_error").get<double>() >= 0);
  }
}

TEST_CASE("`chunk --csv` writes what `--compare` finds no error in", "[commands]") {
  const std::string kind = GENERATE("forward", "backward-weight", "overlapped");
  const TemporaryFile csv("pipecast-chunk-csv");
  const nlohmann::json own = chunk({"--kind", kind, "--csv", csv.path()});
  const nlohmann::json out = chunk({"--kind", kind, "--compare", csv.path()});
  REQUIRE(out.at("time_us") == own.at("time_us"));
  REQUIRE(out.at("error").at("time_us") == 0.0);
  for (const auto& [name, phase] : out.at("phases").items()) {
    for (const char* key : kPhaseKeys) REQUIRE(phase.at("error").at(key) == 0.0);
  }
  for (const auto& [op, kernel] : out.at("kernels").items()) {
    REQUIRE(kernel.at("p90_error") == 0.0);
    REQUIRE(kernel.at("unmatched") == 0);
  }
}

TEST_CASE("`chunk` gives the same bytes twice", "[commands]") {
  const TemporaryFile first("pipecast-chunk-first");
  const TemporaryFile second("pipecast-chunk-second");
  const nlohmann::json once = chunk({"--layers", "1", "--tune-sms", "--svg", first.path()});
  const nlohmann::json twice = chunk({"--layers", "1", "--tune-sms", "--svg", second.path()});
  REQUIRE(once == twice);
  REQUIRE(content_of(first.path()) == content_of(second.path()));
  REQUIRE(content_of(first.path()).rfind("<svg ", 0) == 0);
}

TEST_CASE("`chunk --tune-sms` gives the best split and the curve", "[commands]") {
  const nlohmann::json tuning = chunk({"--layers", "1", "--tune-sms"}).at("tuning");
  const nlohmann::json& best = tuning.at("best");
  double shortest = best.at("time_us").get<double>();
  bool on_curve = false;
  for (const nlohmann::json& point : tuning.at("curve")) {
    REQUIRE(point.at("time_us").get<double>() >= shortest);
    REQUIRE(point.at("order").size() == 10);
    on_curve = on_curve || point == best;
  }
  REQUIRE(on_curve);
  REQUIRE(tuning.at("engine").at("communication_sms") == 0);
}

TEST_CASE("`chunk --peers-late` is what exchanges wait for", "[commands]") {
  const auto notify = [](const nlohmann::json& out) {
    return out.at("phases").at("combine(F)").at("notify_us").get<double>();
  };
  const nlohmann::json none = chunk({"--kind", "forward", "--layers", "1", "--peers-late", "0"});
  const nlohmann::json some = chunk({"--kind", "forward", "--layers", "1", "--peers-late", "250"});
  REQUIRE(none.at("peers_late_us") == 0.0);
  REQUIRE(notify(some) == Approx(notify(none) + 250));
  require_refused({"--peers-late", "-1"},
                  "--peers-late: -1 is not within 0 and 1e+06 microseconds");
}

TEST_CASE("`chunk` refuses nonsense with the legal values", "[commands]") {
  require_refused(
      {"--kind", "sideways"},
      "expected one of: forward, backward, backward-input, backward-weight, overlapped");
  require_refused({"--layers", "0"}, "--layers: 0 is not within 1 and 256");
  require_refused({"--layers", "x"}, "the argument ('x') for option '--layers' is invalid");
  require_refused({"--stage", "99"}, "--stage: 99 is none of the plan's stages 0 to 15");
  for (const char* option : {"--csv", "--trace", "--compare"}) {
    require_refused({"--tune-sms", option, "nowhere/file"},
                    "is of one chunk; --tune-sms plays many");
  }
  require_refused({"--csv", "nowhere/file"}, "nowhere/file: cannot be written");
}

TEST_CASE("`chunk --compare` refuses a bad file by its place", "[commands]") {
  require_refused({"--compare", "nowhere.csv"}, "nowhere.csv: cannot be read or is empty");
  const TemporaryFile csv("pipecast-chunk-bad");
  const std::string header = "layer,phase,stream,op,grid_ctas,start_us,duration_us\n";
  std::ofstream(csv.path()) << header;
  require_refused({"--compare", csv.path()}, csv.path() + ":1:1: no kernels below the header");
  std::ofstream(csv.path()) << header << "0,mlp,compute,rope,,0,1\n";
  require_refused({"--compare", csv.path()}, csv.path() + ":2:3: phase: 'mlp' is none of: attn(F)");
}
