#include <catch2/catch.hpp>
#include <nlohmann/json.hpp>

#include "program.hpp"

using namespace pipecast::testing;
using Catch::Contains;
using Catch::StartsWith;
using Json = nlohmann::json;

namespace {

const std::string kTiny = "configs/scenarios/tiny-moe-h100.yaml ";
const std::string kRunTiny = "run " + kTiny + "--mode folded ";

/// What a result says of the simulated world: without what the simulation itself took.
Json simulated(const std::string& text) {
  Json result = Json::parse(text);
  result.erase("simulator");
  return result;
}

void require_refused(const std::string& arguments, const std::string& message) {
  CAPTURE(arguments);
  const Outcome outcome = run_program(arguments);
  REQUIRE(outcome.code == 2);
  REQUIRE(outcome.out.empty());
  REQUIRE_THAT(outcome.err, StartsWith(message));
}

}  // namespace

TEST_CASE("without a command the program explains itself and fails", "[program]") {
  const Outcome bare = run_program("");
  REQUIRE(bare.code == 2);
  REQUIRE_THAT(bare.out, StartsWith("Usage: pipecast COMMAND [options]"));
  const Outcome help = run_program("--help");
  REQUIRE(help.code == 0);
  REQUIRE(help.out == bare.out);
}

TEST_CASE("every command has help and knows its version", "[program]") {
  const auto* const command =
      GENERATE("calibrate", "chunk", "compare", "kernel", "run", "memory", "model", "network",
               "numerics", "routing", "schedule", "schema", "list", "validate");
  CAPTURE(command);
  const Outcome help = run_program(std::string(command) + " --help");
  REQUIRE(help.code == 0);
  REQUIRE_THAT(help.out, StartsWith(std::string("Usage: pipecast ") + command));
  REQUIRE_THAT(help.out, Contains("--json") && Contains("--quiet"));
  REQUIRE(run_program(std::string(command) + " --version").out == run_program("--version").out);
}

TEST_CASE("an unknown command names the nearest and all", "[program]") {
  require_refused("rnu", "unknown command 'rnu', did you mean run?; commands: ");
  require_refused(
      "xyzxyz",
      "unknown command 'xyzxyz'; commands: calibrate, chunk, compare, kernel, list, memory, "
      "model, network, numerics, routing, run");
}

TEST_CASE("an unknown option names the nearest", "[program]") {
  require_refused("run --jsn " + kTiny,
                  "unknown option '--jsn', did you mean --json?; usage: pipecast run "
                  "SCENARIO.yaml [options]");
  require_refused("run " + kTiny + "--thread=2",
                  "unknown option '--thread=2', did you mean "
                  "--threads?; usage: ");
  require_refused("run " + kTiny + "--thread 2",
                  "unknown option '--thread', did you mean --threads?; usage: ");
  require_refused("run " + kTiny + "-x", "unknown option '-x'");
}

TEST_CASE("missing, superfluous and wrong arguments are refused", "[program]") {
  require_refused("run", "scenario is missing; usage: pipecast run SCENARIO.yaml [options]");
  require_refused("run a.yaml b.yaml", "too many arguments; usage: pipecast run");
  require_refused("run " + kTiny + "--mode half",
                  "--mode: unknown mode 'half'; expected full or folded");
  require_refused("run " + kTiny + "--threads 0", "--threads: 0 is not positive");
  require_refused("run " + kTiny + "--threads two", "the argument ('two') for option '--threads'");
  require_refused("run " + kTiny + "--json",
                  "the required argument for option '--json' is missing");
  require_refused("list cars",
                  "list: unknown 'cars'; there are: gpus, models, operations, "
                  "scenarios, schedules");
  require_refused("schema car",
                  "unknown kind of schema 'car'; known: calibration, cluster, gpu, "
                  "model, plan, recipe, result, scenario");
}

TEST_CASE("a scenario that is not there is refused by its name", "[program]") {
  require_refused("run nowhere/nothing.yaml", "nowhere/nothing.yaml");
}

TEST_CASE("a bad value is refused by its place", "[program]") {
  require_refused(kRunTiny + "--set plan.pp=-1", "--set");
}

TEST_CASE("a plan that does not fit exits with 1 and says why", "[program]") {
  const Outcome outcome = run_program(kRunTiny + "--set cluster.gpu.hbm_capacity=1GB --json -");
  REQUIRE(outcome.code == 1);
  REQUIRE(outcome.out.empty());
  REQUIRE_THAT(outcome.err, StartsWith("impossible plan: pipeline rank ") &&
                                Contains("a h100 has 1.0 GB, less a reserve of 4.0 GB"));
}

TEST_CASE("DeepSeek-V3 does not fit on 40 GB", "[program]") {
  const Outcome outcome = run_program(
      "run configs/scenarios/deepseek-v3-h800.yaml --mode folded "
      "--set cluster.gpu.hbm_capacity=40GB");
  REQUIRE(outcome.code == 1);
  REQUIRE_THAT(outcome.err, StartsWith("impossible plan: pipeline rank "));
}

TEST_CASE("memory shows what does not fit and fails as run does", "[program]") {
  const std::string small = kTiny + "--mode folded --set cluster.gpu.hbm_capacity=5GB";
  const Outcome run = run_program("run " + small);
  const Outcome memory = run_program("memory " + small);
  REQUIRE(run.code == 1);
  REQUIRE(memory.code == 1);
  REQUIRE(memory.err == run.err);
  REQUIRE_THAT(memory.out, Contains("peak GB of rank") && Contains("\ndoes not fit: "));
}

TEST_CASE("option --json - prints JSON and nothing else", "[program]") {
  const Outcome outcome = run_program(kRunTiny + "--json -");
  REQUIRE(outcome.code == 0);
  REQUIRE(outcome.err.empty());
  REQUIRE(Json::parse(outcome.out)["format"] == "pipecast-result/1");
}

TEST_CASE("option --json FILE writes what --json - prints, --out the same and a trace",
          "[program]") {
  const TemporaryFolder folder;
  const std::string direct = run_program(kRunTiny + "--json -").out;
  const Outcome outcome = run_program(kRunTiny + "--json " + folder.file("r.json") + " --out " +
                                      folder.file("deep/er") + " --trace " + folder.file("t.gz"));
  REQUIRE(outcome.code == 0);
  REQUIRE(simulated(text_of(folder.file("r.json"))) == simulated(direct));
  REQUIRE(simulated(text_of(folder.file("deep/er/result.json"))) == simulated(direct));
  const std::string trace = text_of(folder.file("t.gz"));
  REQUIRE_THAT(trace, StartsWith("\x1f\x8b"));  // gzip
  REQUIRE(text_of(folder.file("deep/er/trace.json.gz")) == trace);
}

TEST_CASE("with equal GPUs full and folded mode, one thread and four give the same result",
          "[program]") {
  const std::string equal = "--set variation.late_arrivals=0 ";
  Json full = simulated(run_program("run " + kTiny + equal + "--threads 1 --json -").out);
  Json folded = simulated(run_program(kRunTiny + equal + "--threads 4 --json -").out);
  REQUIRE(full["mode"] == "full");
  for (Json* result : {&full, &folded}) {
    result->erase("mode");
    result->erase("network");  // counts the simulated GPUs' bytes
  }
  REQUIRE(full == folded);
}

TEST_CASE("output that cannot be written exits with 2 and leaves nothing behind", "[program]") {
  const TemporaryFolder folder;
  require_refused(kRunTiny + "--quiet --json " + folder.file("missing/r.json"),
                  folder.file("missing/r.json") + ": cannot be written");
  require_refused(kRunTiny + "--quiet --json " + folder.path(),
                  folder.path() + ": cannot be written");
  require_refused(kRunTiny + "--out /dev/null/folder",
                  "--out /dev/null/folder: the directory cannot be created");
  REQUIRE(std::filesystem::is_empty(folder.path()));
  REQUIRE_FALSE(std::filesystem::exists(folder.path() + ".part"));
}

TEST_CASE("output goes through a link, it does not replace it", "[program]") {
  // A link stands for all that is no plain file; /dev/null itself must survive a failing test.
  const TemporaryFolder folder;
  for (const auto* name : {"result", "trace"})
    std::filesystem::create_symlink(folder.file(std::string(name) + "-target"), folder.file(name));
  const Outcome outcome = run_program(kRunTiny + "--quiet --json " + folder.file("result") +
                                      " --trace " + folder.file("trace"));
  REQUIRE(outcome.code == 0);
  REQUIRE(std::filesystem::is_symlink(folder.file("result")));
  REQUIRE(std::filesystem::is_symlink(folder.file("trace")));
  REQUIRE(simulated(text_of(folder.file("result")))["format"] == "pipecast-result/1");
  REQUIRE_THAT(text_of(folder.file("trace-target")), StartsWith("\x1f\x8b"));
}

TEST_CASE("a full disk behind standard output is noticed", "[program]") {
  // More than the buffer of standard output holds, and less.
  const auto* const command = GENERATE("schema scenario", "schema scenario --json -", "--version");
  CAPTURE(command);
  const Outcome outcome =
      shell("{ '" PIPECAST_PROGRAM "' " + std::string(command) + " >/dev/full; }");
  REQUIRE(outcome.code == 2);
  REQUIRE(outcome.err == "standard output cannot be written\n");
}

TEST_CASE("option --quiet prints nothing", "[program]") {
  const auto* const command =
      GENERATE("run configs/scenarios/tiny-moe-h100.yaml --mode folded", "list schedules",
               "schema gpu", "model configs/models/tiny-moe.yaml",
               "compare configs/schemas/gpu.json configs/schemas/plan.json");
  CAPTURE(command);
  const Outcome outcome = run_program(std::string(command) + " --quiet");
  REQUIRE(outcome.code == 0);
  REQUIRE(outcome.out.empty());
  REQUIRE(outcome.err.empty());
}

TEST_CASE("a printed configuration runs to the same result", "[program]") {
  const TemporaryFolder folder;
  const std::string set = "--set plan.communication_sms=24 ";
  const Outcome printed = run_program(kRunTiny + set + "--print-config");
  REQUIRE(printed.code == 0);
  REQUIRE(printed.err.empty());
  std::ofstream(folder.file("printed.yaml")) << printed.out;
  const Outcome again = run_program("run --mode folded --json - " + folder.file("printed.yaml"));
  REQUIRE(again.code == 0);
  REQUIRE(simulated(again.out) == simulated(run_program(kRunTiny + set + "--json -").out));
}

TEST_CASE("a pipe gets no escape codes, whatever the environment wants", "[program]") {
  const auto* const environment = GENERATE("", "NO_COLOR=1 ", "TERM=xterm-256color ");
  const Outcome outcome = shell(std::string(environment) + "'" PIPECAST_PROGRAM "' " + kRunTiny);
  REQUIRE(outcome.code == 0);
  REQUIRE_FALSE(outcome.out.empty());
  REQUIRE(outcome.out.find('\x1b') == std::string::npos);
  REQUIRE(outcome.err.empty());
}

TEST_CASE("the summary gives the result's numbers", "[program]") {
  const Json result = Json::parse(run_program(kRunTiny + "--json -").out);
  const std::string summary = run_program(kRunTiny).out;
  REQUIRE_THAT(summary, StartsWith("tiny-moe-h100: tiny-moe on 64 h100 (folded mode, 4 GPUs"));
  REQUIRE_THAT(summary, Contains("16 micro-batches in dualpipe"));
  for (const auto& [category, seconds] : result["step"]["breakdown_s"].items()) {
    CAPTURE(category);
    REQUIRE((summary.find(category) != std::string::npos) == (seconds.get<double>() > 0));
  }
}

TEST_CASE("compare shows what a change of the plan does, settings first", "[program]") {
  const TemporaryFolder folder;
  const std::string a = folder.file("a.json");
  const std::string b = folder.file("b.json");
  REQUIRE(run_program(kRunTiny + "--quiet --json " + a).code == 0);
  REQUIRE(run_program(kRunTiny + "--quiet --set plan.communication_sms=24 --json " + b).code == 0);

  const Outcome same = run_program("compare " + a + " " + a);
  REQUIRE(same.code == 0);
  REQUIRE_THAT(same.out, Contains("identical: all "));

  const Outcome outcome = run_program("compare " + a + " " + b);
  REQUIRE(outcome.code == 0);
  REQUIRE(outcome.err.empty());
  const std::size_t setting = outcome.out.find("config.plan.communication_sms  ");
  REQUIRE(setting < outcome.out.find("step.time_s"));

  const Json seen = Json::parse(run_program("compare --json - " + a + " " + b).out);
  REQUIRE(seen["format"] == "pipecast-comparison/1");
  const Json result_a = Json::parse(text_of(a));
  const Json result_b = Json::parse(text_of(b));
  bool found = false;
  for (const Json& difference : seen["differences"]) {
    if (difference["key"] != "step.time_s") continue;
    found = difference["a"] == result_a["step"]["time_s"] &&
            difference["b"] == result_b["step"]["time_s"];
  }
  REQUIRE(found);
  require_refused("compare " + a + " configs/scenarios/tiny-moe-h100.yaml",
                  "configs/scenarios/tiny-moe-h100.yaml:1:1: not valid JSON: unexpected '#'");
}

TEST_CASE("schema prints the committed schemas", "[program]") {
  const auto* const kind =
      GENERATE("calibration", "cluster", "gpu", "model", "plan", "recipe", "result", "scenario");
  const std::string committed =
      text_of(std::string(PIPECAST_SOURCE_DIR) + "/configs/schemas/" + kind + ".json");
  const Outcome printed = run_program(std::string("schema ") + kind);
  REQUIRE(printed.code == 0);
  REQUIRE(printed.out == committed);
  REQUIRE(run_program(std::string("schema --json - ") + kind).out == committed);
}

TEST_CASE("list names what is shipped", "[program]") {
  const auto names = [](const std::string& what) {
    std::vector<std::string> out;
    for (const Json& item : Json::parse(run_program("list --json - " + what).out)) {
      REQUIRE_FALSE(item["description"].get<std::string>().empty());
      out.push_back(item["name"]);
    }
    return out;
  };
  using Names = std::vector<std::string>;
  REQUIRE(names("gpus") == Names{"a100", "h100", "h800"});
  REQUIRE(names("models") == Names{"deepseek-v3", "lab-moe", "tiny-moe"});
  REQUIRE(names("scenarios") == Names{"deepseek-v3-h800",
                                      "lab/01-bubble",
                                      "lab/02-memory",
                                      "lab/03-virtual-stages",
                                      "lab/04-split-backward",
                                      "lab/05-zero-bubble-v",
                                      "lab/06-overlap",
                                      "lab/07-two-copies",
                                      "lab/08-chimera",
                                      "lab/09-unequal-stages",
                                      "lab/10-where-the-time-goes",
                                      "tiny-moe-h100",
                                      "what-if/communication-coprocessor",
                                      "what-if/double-infiniband",
                                      "what-if/full-precision-accumulation",
                                      "what-if/h100-nvlink",
                                      "what-if/half-hbm",
                                      "what-if/native-tile-scaling",
                                      "what-if/no-overlap",
                                      "what-if/no-promotion"});
  REQUIRE(names("schedules") == Names{"1f1b", "bfs", "chimera", "dualpipe", "dualpipev",
                                      "forward-only", "gpipe", "interleaved", "searched", "v-half",
                                      "v-min", "zb-h1", "zb-h2", "zb-v"});
}

TEST_CASE("the shipped calibrations are what their fit prints", "[program]") {
  const auto* const gpu = GENERATE("h800", "h100");
  CAPTURE(gpu);
  const Outcome fit = shell("'" PIPECAST_FIT_CALIBRATION "' " + std::string(gpu));
  REQUIRE(fit.code == 0);
  REQUIRE(fit.err.empty());
  const std::string shipped =
      text_of(std::string(PIPECAST_SOURCE_DIR) + "/configs/calibration/" + gpu + ".yaml");
  REQUIRE(shipped == fit.out);
}

TEST_CASE("the fit refuses a GPU without measurements", "[program]") {
  const auto* const arguments = GENERATE("", "a100", "h800 h100");
  const Outcome fit = shell("'" PIPECAST_FIT_CALIBRATION "' " + std::string(arguments));
  REQUIRE(fit.code == 2);
  REQUIRE(fit.err == "usage: fit_calibration h800|h100\n");
}

TEST_CASE("calibrate without a GPU says so and exits with 77", "[program]") {
  // A machine of a tester may have one: it is hidden.
  const Outcome outcome = shell("CUDA_VISIBLE_DEVICES= '" PIPECAST_PROGRAM "' calibrate --json -");
  REQUIRE(outcome.code == 77);
  REQUIRE(outcome.out.empty());
  REQUIRE_THAT(outcome.err, StartsWith("calibrate: there is no GPU to calibrate on: ") &&
                                Contains("--dry-run lists what would be timed"));
}

TEST_CASE("calibrate --dry-run needs no GPU and predicts as pipecast kernel does", "[program]") {
  const std::string hidden = "CUDA_VISIBLE_DEVICES= '" PIPECAST_PROGRAM "' ";
  const Outcome outcome =
      shell(hidden + "calibrate --gpu h100 --only rmsnorm-fwd --dry-run --json -");
  REQUIRE(outcome.code == 0);
  const Json plan = Json::parse(outcome.out);
  REQUIRE(plan["gpu"] == "h100");
  REQUIRE(plan["device"].is_null());
  REQUIRE(plan["no_gpu"].is_string());
  REQUIRE(plan["measurements"].size() >= 3);
  for (const Json& row : plan["measurements"]) {
    REQUIRE(row["name"] == "rmsnorm_fwd");
    REQUIRE(row["kernel"] == true);
    const Json kernel = Json::parse(run_program("kernel rmsnorm_fwd --gpu h100 --rows " +
                                                row["shape"]["rows"].dump() + " --columns " +
                                                row["shape"]["columns"].dump() + " --sms " +
                                                row["sms"].dump() + " --json -")
                                        .out);
    REQUIRE(row["predicted"] == kernel["time_us"]);
  }
}

TEST_CASE("calibrate refuses what it cannot do", "[program]") {
  require_refused("calibrate --model deepseek-v4 --dry-run",
                  "--model: no shipped model or scenario 'deepseek-v4'");
  require_refused("calibrate --time-limit 10 --dry-run", "--time-limit: '10' is no time; expected");
  require_refused("calibrate --gpus some --dry-run", "--gpus: 'some' is neither a number");
  require_refused("calibrate --only gemm_fp9 --dry-run",
                  "--only: this scenario times no 'gemm_fp9', did you mean gemm_fp8?");
}
