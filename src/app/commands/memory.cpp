#include <fmt/format.h>

#include <thread>

#include "app/commands/command.hpp"
#include "app/commands/command_line.hpp"
#include "app/commands/does_not_fit.hpp"
#include "app/commands/simulation_mode.hpp"
#include "app/config/load.hpp"
#include "app/memory/memory_options.hpp"
#include "app/report/gpt_layer_report.hpp"
#include "app/report/headroom_report.hpp"
#include "app/report/inference_memory_report.hpp"
#include "app/report/kept_tensors_report.hpp"
#include "app/report/memory_report.hpp"
#include "app/report/model_instance_report.hpp"
#include "app/report/progress.hpp"
#include "app/report/result_json.hpp"
#include "app/validate/published.hpp"
#include "base/text.hpp"

namespace pipecast {

namespace {

void declare_options(CommandLine& line) {
  namespace po = boost::program_options;
  const auto text = [](const char* name) { return po::value<std::string>()->value_name(name); };
  const int cores = static_cast<int>(std::max(1U, std::thread::hardware_concurrency()));
  line.add_positional("scenario", "scenario file; --gpt-layer needs none", true);
  line.add_scenario_options();
  line.options().add_options()  //
      ("mode", text("MODE")->default_value("folded"),
       "folded: one data-parallel replica stands for all; full: every GPU is simulated by "
       "itself")  //
      ("rank", po::value<int>()->value_name("R"),
       "look into the peak of pipeline rank R (default: the fullest); --svg draws it alone")  //
      ("tensors", po::value<int>()->default_value(15)->value_name("N"),
       "show the N largest tensors")  //
      ("explain", text("NAME"),
       "show the arithmetic of a category, a tensor or the total at the rank's peak instead of the "
       "tables")  //
      ("svg", text("FILE"),
       "draw what every pipeline rank holds over the step, by category")  //
      ("headroom",
       "search for the longest sequence, largest micro-batch and largest imbalance that fit")  //
      ("kept", "instead: what a micro-batch makes every kind of layer keep, and why")          //
      ("inference", text("PLAN"),
       "instead: KV cache, and tokens that fit beside the weights under a plan such as "
       "tp=4,dense_tp=1,dp=80,ep=320,extra_experts=64,shared_as_routed,weights=fp8,cache=bf16")  //
      ("contexts", text("T,T,...")->default_value("4096,32768,131072"),
       "tokens of a request, for --inference")  //
      ("instance", po::value<int>()->value_name("GPUS"),
       "instead: what one instance of the model needs to be trained, and whether so many GPUs hold "
       "it")  //
      ("gpt-layer", text("SHAPE"),
       "instead: what a GPT layer keeps, beside the published formulas; a shape such as "
       "s=2048,b=1,h=12288,a=96,t=8,sequence_parallel,recompute=selective")  //
      ("threads", po::value<int>()->default_value(cores)->value_name("N"),
       "threads of the simulation; the result does not depend on it");
}

int positive(const CommandLine& line, const char* option) {
  const int value = line.get<int>(option);
  require(value > 0, "--{}: {} is not positive", option, value);
  return value;
}

std::optional<int> rank_of(const CommandLine& line, int ranks) {
  if (!line.has("rank")) return std::nullopt;
  const int rank = line.get<int>("rank");
  require(rank >= 0 && rank < ranks, "--rank: {} is none of the pipeline ranks 0 to {}", rank,
          ranks - 1);
  return rank;
}

using Json = nlohmann::ordered_json;

Json document() { return {{"format", "pipecast-memory/1"}, {"version", PIPECAST_VERSION}}; }

Json document_of(const CommandLine& line, const LoadedScenario& loaded, SimulationMode mode) {
  Json out = document();
  out.update(Json{{"scenario", loaded.scenario.name},
                  {"mode", name_of(mode)},
                  {"seed", line.seed()},
                  {"config", config_json(loaded)}});
  return out;
}

/// What one of the studies that no step is simulated for has to say.
struct Study {
  std::string key;  ///< of the document
  std::string text;
  Json json;
};

Study study_serving(const CommandLine& line, const Scenario& scenario, const PlanSpec& plan) {
  InferencePlan serving = parse_inference_plan(line.text("inference"));
  serving.capacity = scenario.cluster.gpu.hbm_capacity;
  serving.reserve = plan.memory.reserve;
  const PublishedValues published = load_published(validation_directory() / "published.yaml");
  const InferenceReport report = inference_report(
      scenario.model, serving, parse_contexts(line.text("contexts")), published.dense_models);
  return {"inference", inference_text(report), inference_json(report)};
}

std::optional<Study> other_study(const CommandLine& line, const Scenario& scenario) {
  const PlanSpec& plan = main_phase(scenario.recipe).plan;
  if (line.has("kept")) {
    return Study{"kept", kept_tensors_text(scenario, plan), kept_tensors_json(scenario, plan)};
  }
  if (line.has("inference")) return study_serving(line, scenario, plan);
  if (line.has("instance")) {
    const InstanceReport report =
        instance_report(scenario.model, MtpModules::kExcluded, positive(line, "instance"),
                        scenario.cluster.gpu.hbm_capacity, plan.memory.reserve);
    return Study{"instance", instance_text(report), instance_json(report)};
  }
  return std::nullopt;
}

void answer_with(const CommandLine& line, const Study& study, Json document) {
  if (line.talks()) fmt::print("{}", study.text);
  document[study.key] = study.json;
  if (line.has("json")) line.write_json(document);
}

/// Options that leave no room for one another.
void require_one_study(const CommandLine& line) {
  std::vector<std::string> given;
  for (const char* const option :
       {"kept", "inference", "instance", "gpt-layer", "explain", "headroom"}) {
    if (line.has(option)) given.push_back(fmt::format("--{}", option));
  }
  require(given.size() <= 1, "{} exclude each other", join(given));
  const bool other = !given.empty() && given[0] != "--explain" && given[0] != "--headroom";
  for (const char* const option : {"svg", "rank"}) {
    require(!other || !line.has(option), "--{} draws or picks from a step, and {} simulates none",
            option, given.empty() ? "" : given[0]);
  }
  require(line.has("scenario") || line.has("gpt-layer"),
          "a scenario file is missing; expected memory SCENARIO.yaml, see memory --help");
}

/// Prints what it finds.
Json search_headroom(const CommandLine& line, const Scenario& scenario,
                     const MemoryRequest& request) {
  ProgressBar progress(!line.quiet());
  const Headroom headroom =
      find_headroom(scenario, {.mode = request.mode,
                               .seed = request.seed,
                               .threads = request.threads,
                               .progress = [&progress](std::string_view stage, double fraction) {
                                 progress.update(stage, fraction);
                               }});
  progress.finish();
  if (line.talks()) fmt::print("\n{}", headroom_text(headroom));
  return headroom_json(headroom);
}

int run_memory(const std::vector<std::string>& arguments) {
  CommandLine line("memory SCENARIO.yaml [options]",
                   "Simulates one training step and tells what fills the GPUs of every pipeline "
                   "rank at its peak, tensor by tensor.");
  declare_options(line);
  if (!line.parse(arguments)) return 0;
  require_one_study(line);
  if (line.has("gpt-layer")) {
    const GptLayerReport report = gpt_layer_report(parse_gpt_layer(line.text("gpt-layer")));
    answer_with(line, {"gpt_layer", gpt_layer_text(report), gpt_layer_json(report)}, document());
    return 0;
  }
  const MemoryRequest request{.mode = mode_of(line.text("mode")),
                              .seed = line.seed(),
                              .threads = positive(line, "threads")};
  const auto tensors = static_cast<std::size_t>(positive(line, "tensors"));
  const LoadedScenario loaded = load_scenario(line.text("scenario"), line.sets());
  if (line.has("print-config")) {
    fmt::print("{}", print_config(loaded));
    return 0;
  }
  const Scenario& scenario = loaded.scenario;
  if (const std::optional<Study> study = other_study(line, scenario)) {
    answer_with(line, *study, document_of(line, loaded, request.mode));
    return 0;
  }
  const PlanSpec& plan = main_phase(scenario.recipe).plan;
  const std::optional<int> rank = rank_of(line, plan.pp);
  const MemoryAnswer answer{
      .scenario = scenario, .study = study_memory(scenario, request), .rank = rank};
  const std::string text = line.has("explain") ? memory_explanation(answer, line.text("explain"))
                                               : memory_text(answer, tensors);
  if (line.talks()) fmt::print("{}", text);
  if (line.has("svg")) write_file(line.text("svg"), memory_svg(answer));
  std::optional<Json> headroom;
  if (line.has("headroom")) headroom = search_headroom(line, scenario, request);
  if (line.has("json")) {
    Json out = document_of(line, loaded, request.mode);
    out.update(memory_json(answer));
    if (headroom) out["headroom"] = *headroom;
    line.write_json(out);
  }
  try {
    require_memory(answer.study.memory, scenario, plan, answer.study.step);
  } catch (const DoesNotFit& why) {
    if (!line.talks()) throw;  // nobody reads what would help
    ProgressBar progress(!line.quiet());
    refuse_with_fixes(why, scenario, line,
                      {.mode = request.mode,
                       .seed = request.seed,
                       .threads = request.threads,
                       .progress = [&progress](std::string_view stage, double fraction) {
                         progress.update(stage, fraction);
                       }});
  }
  return 0;
}

const Register<Command> kEntry{"memory",
                               {run_memory, "memory of every pipeline rank, tensor by tensor"}};

}  // namespace

}  // namespace pipecast
