#include "app/report/summary.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "app/forecast/provenance.hpp"
#include "app/report/table.hpp"

namespace pipecast {

namespace {

constexpr double kGiga = 1e9;

/// Letters of the bar, by TimeCategory.
constexpr std::array<char, kTimeCategories> kLetters = {'F', 'i', 'B', 'W', '=', 'o', 'x', '.'};

std::string percent(double share) { return fmt::format("{:.1f} %", 100 * share); }

/// The unit in which an amount of dollars has a few digits before the point.
struct MoneyUnit {
  double usd = 1;
  const char* name = "USD";
};
MoneyUnit money_unit(double usd) {
  if (usd >= 1e6) return {1e6, "M USD"};
  if (usd >= 1e3) return {1e3, "K USD"};
  return {};
}

/// Critical path by operation and resource, over all ranks; longest first.
std::vector<CriticalShare> merged_path(const StepTimes& times) {
  std::vector<CriticalShare> merged;
  for (const CriticalShare& share : times.critical_path) {
    const auto same = std::find_if(merged.begin(), merged.end(), [&](const CriticalShare& m) {
      return m.operation == share.operation && m.resource == share.resource;
    });
    if (same == merged.end()) {
      merged.push_back(share);
    } else {
      same->time += share.time;
    }
  }
  std::stable_sort(merged.begin(), merged.end(),
                   [](const auto& a, const auto& b) { return a.time > b.time; });
  return merged;
}

void print_headline(const Scenario& scenario, const Forecast& f, SimulationMode mode) {
  const StepForecast& step = f.step;
  fmt::print("{}: {} on {} {} ({} mode, {} GPUs simulated)\n\n", scenario.name, scenario.model.name,
             grouped(scenario.cluster.gpus()), scenario.cluster.gpu.name, name_of(mode),
             grouped(step.times.simulated_gpus));
  Table table({"forecast", "value", "low", "high", ""}, {4});
  const auto row = [&](const char* name, const Interval& i, double unit, int decimals,
                       const char* suffix) {
    const auto number = [&](double v) { return fmt::format("{:.{}f}", v / unit, decimals); };
    table.add({name, number(i.expected), number(i.low), number(i.high), suffix});
  };
  row("step time", f.step_time_s, 1, 3, "s");
  row("GPU hours per trillion tokens", f.gpu_hours_per_trillion, 1e3, 1, "K");
  const MoneyUnit money = money_unit(f.cost_usd.expected);
  row("cost of the run", f.cost_usd, money.usd, 3, money.name);
  fmt::print("{}\n", table.text());
  fmt::print("{} micro-batches in {} make {} tokens a step; {:.2f} days per trillion tokens.\n",
             step.microbatches, step.schedule, grouped(static_cast<double>(step.tokens.count())),
             f.days_per_trillion_tokens);
  fmt::print("{:.0f} TFLOP/s per GPU causal, {:.0f} non-causal; MFU {} causal, {} non-causal.\n\n",
             f.throughput.tflops_per_gpu_causal, f.throughput.tflops_per_gpu_noncausal,
             percent(f.throughput.mfu_causal), percent(f.throughput.mfu_noncausal));
}

void print_breakdown(const StepTimes& times) {
  const auto mean = mean_breakdown(times);
  Table table({"where the step goes (mean over ranks)", "s", "share", ""}, {3});
  for (std::size_t c = 0; c < kTimeCategories; ++c) {
    if (mean[c] == Duration()) continue;
    table.add({std::string(name_of(static_cast<TimeCategory>(c))),
               fmt::format("{:.3f}", to_seconds(mean[c])),
               percent(to_seconds(mean[c]) / to_seconds(times.time)), std::string(1, kLetters[c])});
  }
  fmt::print("{}\n", table.text());
}

/// One sentence each: what is hidden, what holds the step back, which 1 % helps most.
void print_findings(const Forecast& f) {
  const StepTimes& times = f.step.times;
  const OverlapTimes overlap = mean_overlap(times);
  if (overlap.communication > Duration()) {
    fmt::print(
        "Hidden: of {:.3f} s that all-to-alls take on a GPU, {} passes behind computation; a GPU "
        "waits {:.3f} s\nfor its peers.\n",
        to_seconds(overlap.communication),
        percent(to_seconds(overlap.hidden) / to_seconds(overlap.communication)),
        to_seconds(overlap.waiting_for_peers));
  }
  const double step_s = to_seconds(times.time);
  fmt::print("Lost: ");
  std::string separator;
  const auto lost = [&](const char* cause, double seconds) {
    fmt::print("{}{:.3f} s ({}) to {}", separator, seconds, percent(seconds / step_s), cause);
    separator = ", ";
  };
  lost("uneven routing", f.lost.routing_imbalance_s);
  lost("slow or late GPUs", f.lost.variation_s);
  fmt::print(",\n");
  separator.clear();
  lost("waiting for pipeline messages", f.lost.pipeline_transfers_s);
  lost("the optimizer's collectives", f.lost.optimizer_collectives_s);
  fmt::print(".\n");
  const std::vector<CriticalShare> path = merged_path(times);
  if (!path.empty()) {
    fmt::print("Held back: {} of the step's critical path is {}, limited by {}.\n",
               percent(to_seconds(path.front().time) / step_s), path.front().operation,
               path.front().resource);
  }
  const auto best = std::min_element(
      f.sensitivities.begin(), f.sensitivities.end(), [](const auto& a, const auto& b) {
        return a.step_percent_per_percent < b.step_percent_per_percent;
      });
  if (best != f.sensitivities.end()) {
    fmt::print("Helps most: 1 % more {} changes the step by {:+.2f} %.\n\n", best->resource,
               best->step_percent_per_percent);
  }
}

void print_ranks(const Scenario& scenario, const Forecast& f) {
  const StepForecast& step = f.step;
  constexpr std::size_t kWidth = 60;
  const bool colours = colours_wanted();
  const double capacity = static_cast<double>(scenario.cluster.gpu.hbm_capacity.count());
  fmt::print("rank  memory GB  time of the step\n");
  for (std::size_t rank = 0; rank < step.times.ranks.size(); ++rank) {
    std::vector<BarPart> parts;
    for (std::size_t c = 0; c < kTimeCategories; ++c) {
      parts.push_back({to_seconds(step.times.ranks[rank].breakdown[c]), kLetters[c]});
    }
    fmt::print(
        "{:>4}  {:>9.1f}  {}\n", rank,
        static_cast<double>(f.memory.peak(static_cast<int>(rank)).totals.total().count()) / kGiga,
        bar(parts, kWidth, colours));
  }
  fmt::print("Each GPU has {:.1f} GB, {:.1f} GB of them for tensors.\n\n", capacity / kGiga,
             static_cast<double>(f.memory_capacity.count()) / kGiga);
}

void print_phases(const Forecast& f) {
  const MoneyUnit money = money_unit(f.total.cost.count());
  Table table({"phase", "source", "tokens T", "K GPU hours", "days", money.name}, {1});
  const auto row = [&](const PhaseForecast& p, const char* source) {
    table.add({p.name, source,
               p.tokens ? fmt::format("{:.3f}", static_cast<double>(p.tokens->count()) / 1e12) : "",
               fmt::format("{:.1f}", p.gpu_hours / 1e3), fmt::format("{:.2f}", p.days),
               fmt::format("{:.3f}", p.cost.count() / money.usd)});
  };
  for (const PhaseForecast& phase : f.phases)
    row(phase, phase.simulated ? "simulated" : "published");
  row(f.total, "");
  fmt::print("{}\n", table.text());
}

void print_critical_path(const StepTimes& times) {
  std::vector<CriticalShare> merged = merged_path(times);
  constexpr std::size_t kRows = 8;
  merged.resize(std::min(merged.size(), kRows));
  Table table({"longest on the critical path", "limited by", "s", "share"}, {1});
  for (const CriticalShare& share : merged) {
    table.add({share.operation, share.resource, fmt::format("{:.3f}", to_seconds(share.time)),
               percent(to_seconds(share.time) / to_seconds(times.time))});
  }
  fmt::print("{}\n", table.text());
}

void print_sensitivities(const Forecast& f) {
  Table table({"1 % more of", "changes the step by"});
  for (const Sensitivity& s : f.sensitivities)
    table.add({s.resource, fmt::format("{:+.3f} %", s.step_percent_per_percent)});
  fmt::print("{}\n", table.text());
}

}  // namespace

void print_summary(const Scenario& scenario, const Forecast& forecast, SimulationMode mode,
                   const SimulatorCost& cost) {
  print_headline(scenario, forecast, mode);
  print_breakdown(forecast.step.times);
  print_findings(forecast);
  print_ranks(scenario, forecast);
  print_phases(forecast);
  print_critical_path(forecast.step.times);
  print_sensitivities(forecast);
  for (const Assumption& a : forecast.assumptions) {
    if (a.key == "routing.distribution")
      fmt::print("Assumed: {} routing; {}.\n", a.value, a.reason);
  }
  fmt::print("{} assumptions in all; --json lists them with their ranges.\n",
             forecast.assumptions.size());
  fmt::print("What the costs of operations rest on: {}; --json has their sources.\n",
             provenance_text(forecast.provenance));
  fmt::print("Simulated in {:.2f} s, {} events, {:.0f} MB.\n", cost.wall_s,
             grouped(static_cast<double>(forecast.events)),
             static_cast<double>(cost.peak_rss_bytes) / 1e6);
}

}  // namespace pipecast
