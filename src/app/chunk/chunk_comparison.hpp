/// A simulated chunk beside a measured one, kernel by kernel.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "app/chunk/chunk_measures.hpp"
#include "app/kernel/kernel_table.hpp"
#include "app/tables/launch_table.hpp"

namespace pipecast {

/// Kernels of a kind: how far their times are off.
struct KernelGroup {
  std::size_t unmatched = 0;   ///< in one of the two only: an error of 100 %
  std::size_t unresolved = 0;  ///< measured as no time at all, which leaves no ratio: not counted
  std::optional<ErrorSummary> errors{};  ///< of matched and unmatched ones
};

/// Kernels that are judged together.
enum class LaunchFamily { kProductsAndAttention, kMemoryBound, kElementwise, kExchange, kAll };
inline constexpr int kLaunchFamilies = 5;

/// "products_and_attention", "memory_bound", "elementwise", "exchange", "all".
std::string_view name_of(LaunchFamily family);
/// Never kAll.
LaunchFamily family_of(const TraceRow& row);

struct ChunkComparison {
  ChunkMeasures predicted;
  ChunkMeasures measured;
  std::map<std::string, KernelGroup> ops{};
  std::array<KernelGroup, kLaunchFamilies> families{};
};

/// Kernels match by layer, phase, op and occurrence in order of their start.
ChunkComparison compare_chunk(const std::vector<TraceRow>& predicted,
                              const std::vector<TraceRow>& measured);

/// Predicted over measured, less 1; 0 where both are 0, nothing where only the measured one is.
std::optional<double> relative_error(double predicted, double measured);

}  // namespace pipecast
