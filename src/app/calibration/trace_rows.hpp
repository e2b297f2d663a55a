/// The recorded launches of one GPU, and which operation of the model each of them is.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string_view>
#include <vector>

#include "app/tables/launch_table.hpp"
#include "model/operations/operation.hpp"
#include "model/specs/model.hpp"
#include "model/specs/plan.hpp"

namespace pipecast {

/// The operation of every row: that of the same phase, kind and occurrence in a layer's list, if
/// there is one. All layers of the trace are of one kind.
std::vector<std::optional<Operation>> operations_of(const std::vector<TraceRow>& rows,
                                                    const LayerOperations& layer);

/// The same at the extents that each pass of each layer had: routed rows and received tokens are
/// thread blocks of the kernels that launch one per row.
std::vector<std::optional<Operation>> operations_as_run(const std::vector<TraceRow>& rows,
                                                        const ModelSpec& model,
                                                        const PlanSpec& plan);

/// Kernels of the trace that are judged together.
enum class TraceFamily : std::uint8_t {
  kProducts,         ///< FP8, single and grouped
  kRouterProducts,   ///< BF16, of the gate
  kWeightGradients,  ///< FP8, of the dense matrices
  kAttention,        ///< forward and backward
  kMemoryBound,      ///< computes next to nothing
  kElementwise,      ///< small pointwise kernels: each lasts about what the trace resolves
};
inline constexpr int kTraceFamilies = 6;

/// "FP8 products", ...
std::string_view name_of(TraceFamily family);

/// A launch of the trace that one kernel's model can be held against.
struct TracedKernel {
  TraceRow row;
  Operation operation;
  TraceFamily family{};
};

/// Where the trace lies in the folder traces/.
inline constexpr const char* kTraceFile = "h800_dualpipe_chunk/kernels.csv";

/// The launches of the compute stream with an operation, at the extents they had, and a family.
/// Left out: the routed experts' weight gradients, which run two at a time on two streams, so that
/// the time of one says nothing; what the exchange launches, which waits for peers; what lasted
/// less than the trace resolves, but for elementwise kernels, which only their sum judges.
/// @throws Error for a file that cannot be read
std::vector<TracedKernel> traced_kernels(const std::filesystem::path& traces,
                                         const ModelSpec& model, const PlanSpec& plan);

/// Tokens of the trace's one sequence.
inline constexpr std::int64_t kTraceSequence = 4096;

}  // namespace pipecast
