#include <fmt/format.h>

#include <algorithm>

#include "app/commands/command.hpp"
#include "app/commands/command_line.hpp"
#include "app/config/load.hpp"
#include "app/forecast/forecast.hpp"
#include "app/report/schedule_ascii.hpp"
#include "app/report/schedule_report.hpp"
#include "app/report/schedule_svg.hpp"
#include "app/report/table.hpp"
#include "app/schedule/pass_durations.hpp"
#include "app/schedule/scenario_costs.hpp"
#include "base/error.hpp"
#include "base/text.hpp"
#include "model/schedules/cost_table.hpp"
#include "model/schedules/plan_schedule.hpp"
#include "model/schedules/text.hpp"

namespace pipecast {

namespace {

namespace po = boost::program_options;

constexpr int kMostRanks = 4'096;
constexpr int kMostMicrobatches = 100'000;
constexpr std::int64_t kMostForwards = 2'000'000;  // of all stages: with backwards about a gigabyte
constexpr std::int64_t kMostTicks = 10'000'000;    // of one pass; so many passes fit a Duration
/// A comparison counts in these parts of a tick, so that most numbers of chunks divide one.
constexpr std::int64_t kPartsOfTick = 2'520;

void declare_options(CommandLine& line) {
  const auto text = [](const char* name) { return po::value<std::string>()->value_name(name); };
  const auto number = [](const char* name) { return po::value<int>()->value_name(name); };
  line.add_scenario_options();
  line.options().add_options()                                                                   //
      ("kind", text("K"), "a name that `pipecast list schedules` tells, or file:PATH")           //
      ("compare", text("K,K,..."), "several kinds in one table and one picture")                 //
      ("ranks", number("P"), "pipeline ranks")                                                   //
      ("microbatches", number("M"), "micro-batches of a step, all directions together")          //
      ("virtual-stages", number("V"), "chunks of the model on a rank, for kinds with a choice")  //
      ("activation-limit", number("N"),
       "most live chunks on a rank; the searched kind keeps to it (its default: as many as 1F1B "
       "keeps), other kinds are refused if they do not")  //
      ("durations", text("F=10,B=30,Bi=18,W=12,FB=34"),
       "ticks of a forward, a backward, its two parts, and of a forward beside a backward: of one "
       "chunk, with --compare of a rank's whole share of the model, which kinds with V chunks "
       "divide by V (default: F=1,B=2,Bi=1,W=1,FB=3)")                                        //
      ("transfer-latency", text("T"), "ticks until a result can be used on another rank")     //
      ("transfer-time", text("T"), "ticks for which a result occupies the link to its rank")  //
      ("stage-factors", text("X,X,..."),
       "factor on the durations of each stage; fewer factors stand for equal groups of stages")  //
      ("microbatch-factors", text("X,X,..."), "factor on the durations of each micro-batch")     //
      ("from", text("SCENARIO.yaml"),
       "take kind, ranks, micro-batches, chunk and transfer times and activation sizes from a "
       "scenario")  //
      ("format", text("F"),
       "text: the passes of every rank (the default); summary: times, idle times and memory (the "
       "default where a time, --from or --compare is given); ascii, svg: a picture; json")  //
      ("svg", text("FILE"), "draw the picture into a file, whatever the format")            //
      ("width", number("N"), "letters of a line of --format ascii (default: the terminal's)");
}

std::int64_t ticks(const CommandLine& line, const std::string& option) {
  if (!line.has(option)) return 0;
  constexpr std::int64_t kMost = 1'000'000;
  const std::string text = line.text(option);
  const bool digits = !text.empty() && text.size() <= 7 &&
                      text.find_first_not_of("0123456789") == std::string::npos;
  const std::int64_t value = digits ? std::stoll(text) : -1;
  require(value >= 0 && value <= kMost, "--{}: got '{}'; expected whole ticks from 0 to {}", option,
          text, kMost);
  return value;
}

int positive(const CommandLine& line, const std::string& option, int most) {
  if (!line.has(option)) return 0;
  const int value = line.get<int>(option);
  require(value >= 1 && value <= most, "--{}: {} is not within 1 and {}", option, value, most);
  return value;
}

/// Times for schedules of any number of stages.
class CostSource {
 public:
  explicit CostSource(const CommandLine& line) {
    if (line.has("from")) {
      for (const char* const option : {"durations", "transfer-latency", "transfer-time",
                                       "stage-factors", "microbatch-factors"}) {
        require(!line.has(option), "--{} and --from exclude each other: the scenario has its times",
                option);
      }
      loaded_ = load_scenario(line.text("from"), line.sets());
      return;
    }
    require(line.sets().empty() && !line.has("print-config"),
            "--set and --print-config change and show a scenario; expected --from SCENARIO.yaml");
    compared_ = line.has("compare");
    durations_ = line.has("durations") ? parse_durations(line.text("durations")) : kUnitDurations;
    latency_ = Duration(ticks(line, "transfer-latency"));
    time_ = Duration(ticks(line, "transfer-time"));
    const auto factors = [&](const std::string& option) {
      return line.has(option) ? parse_factors(line.text(option), "--" + option)
                              : std::vector<double>{};
    };
    by_stage_ = factors("stage-factors");
    by_microbatch_ = factors("microbatch-factors");
  }

  [[nodiscard]] const LoadedScenario* loaded() const { return loaded_ ? &*loaded_ : nullptr; }
  [[nodiscard]] TimeUnit unit() const {
    constexpr double kMicrosecondsPerCount = 1e-6;
    if (loaded_) return {"us", kMicrosecondsPerCount};
    return {"ticks", 1.0 / static_cast<double>(parts())};
  }

  /// @param ranks  that share the stages
  [[nodiscard]] StageCosts of(int stages, int microbatches, int ranks) const {
    if (loaded_) return scenario_costs(loaded_->scenario, stages);
    const auto n = static_cast<int>(by_stage_.size());
    require(n == 0 || stages % n == 0, "--stage-factors: {} factors for {} stages", n, stages);
    require(by_microbatch_.empty() || by_microbatch_.size() == index(microbatches),
            "--microbatch-factors: {} factors for {} micro-batches", by_microbatch_.size(),
            microbatches);
    StageCosts out;
    out.costs.transfer_latency = latency_ * parts();
    out.costs.transfer_time = time_ * parts();
    const double chunk =
        compared_ ? static_cast<double>(parts()) * ranks / static_cast<double>(stages) : 1;
    if (n == 0 && by_microbatch_.empty()) {
      out.costs.passes = {scaled(durations_, chunk)};
      return out;
    }
    const std::vector<double> one{1};
    const std::vector<double>& inner = by_microbatch_.empty() ? one : by_microbatch_;
    for (int stage = 0; stage < stages; ++stage) {
      const double factor = n == 0 ? 1 : by_stage_[index(stage / (stages / n))];
      for (const double microbatch : inner) {
        out.costs.passes.push_back(scaled(durations_, chunk * factor * microbatch));
        const PassDurations& d = out.costs.passes.back();
        require(std::max({d.forward, d.backward, d.overlapped}).count() <= kMostTicks * parts(),
                "factors of {} and {} make a pass longer than {} ticks", factor, microbatch,
                kMostTicks);
      }
    }
    return out;
  }

 private:
  static std::size_t index(int value) { return static_cast<std::size_t>(value); }
  [[nodiscard]] std::int64_t parts() const { return compared_ ? kPartsOfTick : 1; }

  std::optional<LoadedScenario> loaded_;
  bool compared_ = false;
  PassDurations durations_;
  Duration latency_;
  Duration time_;
  std::vector<double> by_stage_;
  std::vector<double> by_microbatch_;
};

ScheduleRequest request_of(const CommandLine& line, const CostSource& source) {
  ScheduleRequest out{
      .ranks = positive(line, "ranks", kMostRanks),
      .microbatches = positive(line, "microbatches", kMostMicrobatches),
      .virtual_stages = positive(line, "virtual-stages", kMostRanks),
      .activation_limit = positive(line, "activation-limit", kMostMicrobatches * kMostRanks)};
  if (source.loaded() == nullptr) return out;
  const Scenario& scenario = source.loaded()->scenario;
  const PlanSpec& plan = main_phase(scenario.recipe).plan;
  require(out.ranks == 0, "--ranks and --from exclude each other; expected --set plan.pp={}",
          out.ranks);
  out.ranks = plan.pp;
  if (out.microbatches == 0) out.microbatches = microbatches_of_step(scenario);
  const bool own_kind = !line.has("kind") && !line.has("compare");
  if (own_kind && out.virtual_stages == 0) out.virtual_stages = plan.vpp.value_or(0);
  if (own_kind && out.activation_limit == 0) {
    out.activation_limit = plan.activation_limit.value_or(0);
  }
  return out;
}

std::vector<std::string> kinds_of(const CommandLine& line, const CostSource& source) {
  require(!(line.has("kind") && line.has("compare")), "--kind and --compare exclude each other");
  if (line.has("compare")) return split(line.text("compare"), ',');
  if (line.has("kind")) return {line.text("kind")};
  require(source.loaded() != nullptr,
          "a schedule needs a kind; expected --kind K or --compare K,K");
  return {main_phase(source.loaded()->scenario.recipe).plan.schedule};
}

void require_known(const std::string& kind) {
  const auto& kinds = Registry<ScheduleKind>::instance();
  if (kinds.contains(kind)) return;
  const std::string close = nearest(kind, kinds.names());
  throw Error(fmt::format("unknown schedule '{}'{}; known: {}, file:PATH", kind,
                          close.empty() ? "" : ", did you mean " + close + "?",
                          join(kinds.names())));
}

ScheduleStudy study_of(const std::string& kind, const ScheduleRequest& request,
                       const CostSource& source) {
  const bool from_file = names_file(kind);
  if (!from_file) require_known(kind);
  require(from_file || (request.ranks > 0 && request.microbatches > 0),
          "{} needs a shape; expected --ranks P and --microbatches M", kind);
  return study_schedule(kind, request, [&](int stages, int microbatches, int ranks) {
    const std::int64_t forwards = std::int64_t{stages} * microbatches;
    require(forwards <= kMostForwards,
            "{} micro-batches on {} stages are {} forwards; expected at most {}", microbatches,
            stages, forwards, kMostForwards);
    return source.of(stages, microbatches, ranks);
  });
}

std::string format_of(const CommandLine& line) {
  static constexpr const char* kTimed[] = {"compare",           "durations",     "from",
                                           "stage-factors",     "transfer-time", "transfer-latency",
                                           "microbatch-factors"};
  const bool timed = std::any_of(std::begin(kTimed), std::end(kTimed),
                                 [&](const char* option) { return line.has(option); });
  const std::string out = line.has("format") ? line.text("format") : timed ? "summary" : "text";
  const std::vector<std::string> known{"text", "summary", "json", "ascii", "svg"};
  require(std::find(known.begin(), known.end(), out) != known.end(),
          "--format: unknown '{}'; expected one of: {}", out, join(known));
  return out;
}

nlohmann::ordered_json json_of(const std::vector<ComparedSchedule>& rows, bool compared,
                               const TimeUnit& unit) {
  return compared ? comparison_json(rows, unit) : schedule_json(*rows.front().study, unit);
}

void show(const std::vector<ComparedSchedule>& rows, bool compared, const std::string& format,
          const TimeUnit& unit, std::size_t width) {
  if (format == "json") {
    fmt::print("{}\n", json_of(rows, compared, unit).dump(2));
    return;
  }
  if (format == "summary" && compared) {
    fmt::print("{}", comparison_text(rows, unit));
    return;
  }
  if (format == "svg") {
    fmt::print("{}", schedule_svg(schedule_picture(rows, unit)));
    return;
  }
  if (format == "ascii") {
    const TextStyle style{.width = width, .colours = colours_wanted()};
    fmt::print("{}", schedule_ascii(schedule_picture(rows, unit), style));
    return;
  }
  for (const ComparedSchedule& row : rows) {
    if (!row.study) continue;
    if (format == "text") {
      fmt::print("{}{}", compared ? fmt::format("# schedule: {}\n", row.kind) : "",
                 to_text(row.study->schedule));
    } else if (format == "summary") {
      fmt::print("{}", schedule_text(*row.study, unit));
    }
  }
}

std::size_t width_of(const CommandLine& line) {
  constexpr int kLeast = 40;
  constexpr int kMost = 10'000;
  if (!line.has("width")) return terminal_width();
  const int width = line.get<int>("width");
  require(width >= kLeast && width <= kMost, "--width: {} is not within {} and {}", width, kLeast,
          kMost);
  return static_cast<std::size_t>(width);
}

int run_schedule(const std::vector<std::string>& arguments) {
  CommandLine line("schedule --kind K --ranks P --microbatches M [options]",
                   "Generates, times, draws and compares pipeline schedules.");
  declare_options(line);
  if (!line.parse(arguments)) return 0;
  const std::string format = format_of(line);
  const std::size_t width = width_of(line);
  const CostSource source(line);
  if (line.has("print-config")) {
    fmt::print("{}", print_config(*source.loaded()));
    return 0;
  }
  const ScheduleRequest request = request_of(line, source);
  const bool compared = line.has("compare");
  std::vector<ComparedSchedule> rows;
  for (const std::string& kind : kinds_of(line, source)) {
    ComparedSchedule& row = rows.emplace_back(ComparedSchedule{.kind = kind});
    try {
      row.study = study_of(kind, request, source);
    } catch (const ImpossiblePlan& e) {
      if (!compared) throw;
      row.reason = e.what();
    }
  }
  const bool any = std::any_of(rows.begin(), rows.end(),
                               [](const ComparedSchedule& row) { return row.study.has_value(); });
  require<ImpossiblePlan>(any, "none of the schedules is possible: {}", rows.front().reason);
  if (line.talks()) show(rows, compared, format, source.unit(), width);
  if (line.has("svg"))
    write_file(line.text("svg"), schedule_svg(schedule_picture(rows, source.unit())));
  if (line.has("json")) line.write_json(json_of(rows, compared, source.unit()));
  return 0;
}

const Register<Command> kEntry{"schedule",
                               {run_schedule, "generate, time, draw and compare schedules"}};

}  // namespace

}  // namespace pipecast
