#include "app/memory/memory_study.hpp"

#include <algorithm>
#include <map>
#include <tuple>

#include "base/error.hpp"
#include "base/text.hpp"

namespace pipecast {

namespace {

constexpr std::string_view kTotal = "total";

bool is_category(std::string_view word) {
  for (std::size_t c = 0; c < kMemoryCategories; ++c) {
    if (name_of(static_cast<MemoryCategory>(c)) == word) return true;
  }
  return false;
}

std::vector<MemoryTensor> named(const std::vector<MemoryTensor>& tensors, std::string_view word) {
  std::vector<MemoryTensor> out;
  const bool category = is_category(word);
  for (const MemoryTensor& t : tensors) {
    if (word == kTotal || (category ? name_of(t.category) : t.name) == word) out.push_back(t);
  }
  return out;
}

/// @throws Error always
[[noreturn]] void refuse(const StepMemory& memory, int rank, const std::string& name) {
  std::vector<std::string> words = {std::string(kTotal)};
  for (std::size_t c = 0; c < kMemoryCategories; ++c) {
    words.emplace_back(name_of(static_cast<MemoryCategory>(c)));
  }
  std::vector<std::string> holders;
  for (int other = 0; other < memory.ranks(); ++other) {
    bool holds = false;
    for (const MemoryTensor& t : memory.tensors_at_peak(other)) {
      holds = holds || t.name == name;
      if (other == rank) words.emplace_back(t.name);
    }
    if (holds) holders.push_back(std::to_string(other));
  }
  require(holders.empty(), "pipeline rank {} holds no '{}' at its peak; these do: {}", rank, name,
          join(holders));
  std::sort(words.begin(), words.end());
  words.erase(std::unique(words.begin(), words.end()), words.end());
  const std::string close = nearest(name, words);
  throw Error(fmt::format("pipeline rank {} holds no '{}' at its peak{}; it holds: {}", rank, name,
                          close.empty() ? "" : fmt::format(", did you mean {}?", close),
                          join(words)));
}

}  // namespace

MemoryStudy study_memory(const Scenario& scenario, const MemoryRequest& request) {
  const PhaseSpec& main = main_phase(scenario.recipe);
  const StepRouting routing = step_routing(scenario, main.plan, request.seed);
  MemoryStudy out;
  out.step = forecast_step(scenario, main.plan, main.global_batch_size->to, routing, request.mode,
                           request.seed, request.threads, nullptr, false);
  out.memory = step_memory(scenario, main.plan, out.step, routing, request.mode, request.threads);
  out.capacity = memory_capacity(scenario.cluster.gpu, main.plan);
  return out;
}

std::string doing_at_peak(const MemoryStudy& study, int rank) {
  const int step = study.memory.peak(rank).step;
  if (step < 0) return "gather";
  const auto& steps = study.step.passes.ranks[static_cast<std::size_t>(rank)];
  return to_text(steps[static_cast<std::size_t>(step)]);
}

std::vector<TensorGroup> tensor_groups(const std::vector<MemoryTensor>& tensors, bool alike) {
  using Extents = std::tuple<std::int64_t, std::int64_t, std::int64_t, std::string_view>;
  const auto key = [alike](const MemoryTensor& t) {
    const Extents extents{t.rows, t.columns, t.bytes.count() / t.copies, t.reason};
    return std::tuple(t.name, t.layer, t.stage, t.category, t.precision, t.rows_are,
                      alike ? extents : Extents{});
  };
  std::vector<TensorGroup> out;
  std::map<decltype(key(tensors.front())), std::size_t> known;
  for (const MemoryTensor& t : tensors) {
    const auto [at, fresh] = known.try_emplace(key(t), out.size());
    if (fresh) {
      out.push_back({.tensor = t, .live = t.position >= 0, .copies = t.copies, .bytes = t.bytes});
      continue;
    }
    TensorGroup& group = out[at->second];
    if (t.position != group.tensor.position) {
      group.tensor.position = -1;
      group.tensor.copies_are = "live chunks x layers";
    }
    group.copies += t.copies;
    group.bytes += t.bytes;
  }
  std::stable_sort(out.begin(), out.end(),
                   [](const TensorGroup& a, const TensorGroup& b) { return a.bytes > b.bytes; });
  return out;
}

NamedMemory memory_named(const StepMemory& memory, int rank, const std::string& name) {
  NamedMemory out{.tensors = named(memory.tensors_at_peak(rank), name),
                  .on_host = named(memory.persistent(rank).on_host, name)};
  const bool empty = out.tensors.empty() && out.on_host.empty();
  if (empty && !is_category(name)) refuse(memory, rank, name);
  return out;
}

}  // namespace pipecast
