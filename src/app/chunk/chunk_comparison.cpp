#include "app/chunk/chunk_comparison.hpp"

#include <algorithm>

namespace pipecast {

namespace {

/// Rows in order of their start, by what they have in common with those of another record.
std::map<LaunchKey, const TraceRow*> by_key(std::vector<TraceRow>& rows) {
  std::stable_sort(rows.begin(), rows.end(),
                   [](const TraceRow& a, const TraceRow& b) { return a.start_us < b.start_us; });
  const std::vector<LaunchKey> keys = launch_keys(rows);
  std::map<LaunchKey, const TraceRow*> out;
  for (std::size_t i = 0; i < rows.size(); ++i) out.emplace(keys[i], &rows[i]);
  return out;
}

/// A group while its kernels are counted.
struct Draft {
  KernelGroup group;
  std::vector<double> errors;

  void add(const std::optional<double>& error, bool matched) {
    if (!matched) ++group.unmatched;
    if (error) {
      errors.push_back(*error);
    } else {
      ++group.unresolved;
    }
  }
  KernelGroup finish() {
    group.errors = summarise(errors);
    return group;
  }
};

struct Drafts {
  std::map<std::string, Draft> ops;
  std::array<Draft, kLaunchFamilies> families;

  void add(const TraceRow& row, const std::optional<double>& error, bool matched) {
    ops[row.op].add(error, matched);
    for (const LaunchFamily family : {family_of(row), LaunchFamily::kAll}) {
      families[static_cast<std::size_t>(family)].add(error, matched);
    }
  }
};

}  // namespace

std::string_view name_of(LaunchFamily family) {
  static constexpr std::string_view kNames[kLaunchFamilies] = {
      "products_and_attention", "memory_bound", "elementwise", "exchange", "all"};
  return kNames[static_cast<std::size_t>(family)];
}

LaunchFamily family_of(const TraceRow& row) {
  if (role_of(row) != LaunchRole::kCompute) return LaunchFamily::kExchange;
  if (row.op == "elementwise") return LaunchFamily::kElementwise;
  const bool product = row.op.find("gemm") != std::string::npos;
  const bool attention = row.op == "attention_fwd" || row.op == "attention_bwd";
  return product || attention ? LaunchFamily::kProductsAndAttention : LaunchFamily::kMemoryBound;
}

ChunkComparison compare_chunk(const std::vector<TraceRow>& predicted,
                              const std::vector<TraceRow>& measured) {
  ChunkComparison out{.predicted = measure_chunk(predicted), .measured = measure_chunk(measured)};
  std::vector<TraceRow> own = predicted;
  std::vector<TraceRow> theirs = measured;
  const auto ours = by_key(own);
  const auto others = by_key(theirs);
  Drafts drafts;
  for (const auto& [key, row] : ours) {
    const auto it = others.find(key);
    const bool matched = it != others.end();
    drafts.add(
        *row,
        matched ? relative_error(row->duration_us, it->second->duration_us) : std::optional(1.0),
        matched);
  }
  for (const auto& [key, row] : others) {
    if (ours.count(key) == 0) drafts.add(*row, -1.0, false);
  }
  for (auto& [op, draft] : drafts.ops) out.ops.emplace(op, draft.finish());
  for (std::size_t f = 0; f < out.families.size(); ++f) {
    out.families[f] = drafts.families[f].finish();
  }
  return out;
}

std::optional<double> relative_error(double predicted, double measured) {
  if (measured > 0) return predicted / measured - 1;
  return predicted > 0 ? std::nullopt : std::optional(0.0);
}

}  // namespace pipecast
