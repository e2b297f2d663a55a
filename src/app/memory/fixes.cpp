#include "app/memory/fixes.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <optional>
#include <utility>

#include "model/schedules/plan_schedule.hpp"

namespace pipecast {

namespace {

constexpr std::size_t kMostTried = 40;
constexpr std::size_t kMostSimulated = 8;
constexpr std::size_t kMostListed = 6;
constexpr int kDoublings = 4;  // of expert-parallel ranks

using Sets = std::vector<std::string>;

/// The key that a change is about.
std::string key_of(const Sets& sets) { return sets.front().substr(0, sets.front().find('=')); }

/// Changes of one plan, gentlest first within a key.
class Candidates {
 public:
  Candidates(const Scenario& scenario, const PlanSpec& plan) : scenario_(scenario), plan_(plan) {}

  std::vector<Sets> run() {
    add_recomputation();
    for (int stage = plan_.zero_stage + 1; stage <= 3; ++stage) add("plan.zero_stage", stage);
    add_formats();
    if (plan_.memory.optimizer == MemoryPlace::kDevice) add("plan.memory.optimizer", "host");
    if (plan_.memory.ema == MemoryPlace::kDevice) add("plan.memory.ema", "host");
    for (int size = plan_.micro_batch_size; size % 2 == 0;) add("plan.micro_batch_size", size /= 2);
    int ep = plan_.ep;
    for (int i = 0; i < kDoublings && scenario_.model.n_routed_experts % (2 * ep) == 0; ++i) {
      add("plan.ep", ep *= 2);
    }
    out_.push_back({fmt::format("plan.pp={}", 2 * plan_.pp), "plan.pipeline_layout=auto"});
    if (has_two_copies()) add("plan.schedule", "1f1b");
    return std::move(out_);
  }

 private:
  template <class Value>
  void add(std::string_view key, const Value& value) {
    out_.push_back({fmt::format("{}={}", key, value)});
  }

  /// Modules in the order of what they cost: elementwise first, the attention proper last.
  void add_recomputation() {
    constexpr std::string_view kKey = "plan.recompute_modules";
    const RecomputeSpec& now = plan_.recompute;
    if (now.full) return;
    Sets kept;
    Sets missing;
    for (const auto& [name, recomputed] :
         {std::pair{"layernorm", now.layernorm}, std::pair{"moe_act", now.moe_act},
          std::pair{"mla_up_proj", now.mla_up_proj}, std::pair{"core_attn", now.core_attn}}) {
      (recomputed ? kept : missing).emplace_back(name);
    }
    const auto list = [&](Sets more) {
      more.insert(more.begin(), kept.begin(), kept.end());
      std::string words;
      for (const std::string& word : more) words += (words.empty() ? "" : ",") + word;
      add(kKey, more == Sets{"core_attn"} ? "selective" : "[" + words + "]");
    };
    for (const std::string& module : missing) list({module});
    const bool attention_missing = !now.core_attn;
    if (missing.size() > 2 && attention_missing) list({missing.begin(), missing.end() - 1});
    if (missing.size() > 1) list(missing);
    add(kKey, "full");
  }

  void add_formats() {
    const PrecisionSpec& p = plan_.precision;
    if (p.moments == Precision::kFp32) add("plan.precision.moments", "bf16");
    if (p.activations == Precision::kBf16) add("plan.precision.activations", "fp8");
    if (p.attention_output == Precision::kBf16) add("plan.precision.attention_output", "e5m6");
  }

  /// Whether two ranks hold a stage.
  [[nodiscard]] bool has_two_copies() const {
    if (names_file(plan_.schedule)) return false;
    const PhaseSpec& main = main_phase(scenario_.recipe);
    const int replicas = scenario_.cluster.gpus() / (plan_.tp * plan_.cp * plan_.pp);
    const int microbatches = main.global_batch_size->to / (replicas * plan_.micro_batch_size);
    return held_stages(choose_schedule(plan_, microbatches).schedule, 0).front().holders > 1;
  }

  const Scenario& scenario_;
  const PlanSpec& plan_;
  std::vector<Sets> out_;
};

/// A plan that can run.
struct Tried {
  Sets sets;
  Scenario scenario;
  RecipeMemory memory;
};

StepForecast simulated(const Scenario& scenario, std::uint64_t seed) {
  const PhaseSpec& main = main_phase(scenario.recipe);
  return forecast_step(scenario, main.plan, main.global_batch_size->to,
                       step_routing(scenario, main.plan, seed), SimulationMode::kFolded, seed, 1,
                       nullptr, false);
}

class FixFinder {
 public:
  FixFinder(const Scenario& scenario, const LoadWith& load, const FixOptions& options)
      : scenario_(scenario), load_(load), options_(options) {}

  FixSearch run() {
    FixSearch out;
    out.step = simulated(scenario_, options_.seed).times.time;
    const std::vector<Sets> changes =
        Candidates(scenario_, main_phase(scenario_.recipe).plan).run();
    for (const Sets& sets : changes) attempt(sets);
    if (!any_fits()) {
      out.pairs = true;
      for (const Sets& sets : pairs()) attempt(sets);
    }
    out.tried = static_cast<int>(tried_.size());
    list(out);
    return out;
  }

 private:
  void report() const {
    constexpr double kAll = kMostTried + kMostSimulated;
    if (options_.progress) {
      options_.progress("changes that would make it fit", static_cast<double>(work_) / kAll);
    }
  }

  void attempt(const Sets& sets) {
    if (work_ >= kMostTried) return;
    report();
    ++work_;
    try {
      Tried tried{sets, load_(sets), {}};
      tried.memory = recipe_memory(tried.scenario, options_.mode, options_.seed, options_.threads);
      tried_.push_back(std::move(tried));
    } catch (const Error&) {
      // Refused by the loader, or no schedule can run: it is no plan.
    }
  }

  [[nodiscard]] bool any_fits() const {
    return std::any_of(tried_.begin(), tried_.end(),
                       [](const Tried& t) { return t.memory.fullest.fits(); });
  }

  /// Of the changes that save most, at most two of a key, those of different keys two by two.
  [[nodiscard]] std::vector<Sets> pairs() const {
    constexpr int kPerKey = 2;
    constexpr std::size_t kPaired = 8;
    std::vector<const Tried*> best;
    for (const Tried& t : tried_) best.push_back(&t);
    const auto missing = [](const Tried* t) { return t->memory.fullest.missing(); };
    std::stable_sort(best.begin(), best.end(),
                     [&](const Tried* a, const Tried* b) { return missing(a) < missing(b); });
    std::map<std::string, int> of_key;
    best.erase(std::remove_if(best.begin(), best.end(),
                              [&](const Tried* t) { return ++of_key[key_of(t->sets)] > kPerKey; }),
               best.end());
    best.resize(std::min(best.size(), kPaired));
    std::vector<std::pair<Bytes, Sets>> ranked;
    for (std::size_t a = 0; a < best.size(); ++a) {
      for (std::size_t b = a + 1; b < best.size(); ++b) {
        if (key_of(best[a]->sets) == key_of(best[b]->sets)) continue;
        Sets both = best[a]->sets;
        both.insert(both.end(), best[b]->sets.begin(), best[b]->sets.end());
        ranked.emplace_back(missing(best[a]) + missing(best[b]), std::move(both));
      }
    }
    std::stable_sort(ranked.begin(), ranked.end(),
                     [](const auto& a, const auto& b) { return a.first < b.first; });
    std::vector<Sets> out;
    for (auto& [sum, sets] : ranked) out.push_back(std::move(sets));
    return out;
  }

  static bool no_better(const Tried* first, const Tried* then) {
    return key_of(first->sets) == key_of(then->sets) && first->memory.busy == then->memory.busy &&
           first->memory.fullest.peak == then->memory.fullest.peak;
  }

  void list(FixSearch& out) {
    std::vector<const Tried*> fitting;
    for (const Tried& t : tried_) {
      const FullestRank& fullest = t.memory.fullest;
      if (fullest.fits()) fitting.push_back(&t);
      if (!out.closest.empty() && fullest.missing() >= out.missing) continue;
      out.closest = t.sets;
      out.missing = fullest.missing();
    }
    std::stable_sort(fitting.begin(), fitting.end(), [](const Tried* a, const Tried* b) {
      return a->memory.busy < b->memory.busy;
    });
    // What goes further than another change and buys nothing by it.
    fitting.erase(std::unique(fitting.begin(), fitting.end(), no_better), fitting.end());
    fitting.resize(std::min(fitting.size(), kMostSimulated));
    work_ = kMostTried;
    for (const Tried* t : fitting) {
      report();
      ++work_;
      out.fixes.push_back(
          {t->sets, t->memory.fullest, simulated(t->scenario, options_.seed).times.time});
    }
    std::stable_sort(out.fixes.begin(), out.fixes.end(),
                     [](const Fix& a, const Fix& b) { return a.step < b.step; });
    out.fixes.resize(std::min(out.fixes.size(), kMostListed));
  }

  const Scenario& scenario_;
  const LoadWith& load_;
  const FixOptions& options_;
  std::size_t work_ = 0;
  std::vector<Tried> tried_;
};

}  // namespace

FixSearch find_fixes(const Scenario& scenario, const LoadWith& load, const FixOptions& options) {
  return FixFinder(scenario, load, options).run();
}

}  // namespace pipecast
