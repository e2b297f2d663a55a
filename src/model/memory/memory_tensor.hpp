/// What a GPU's memory holds, tensor by tensor.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string_view>

#include "base/units.hpp"
#include "model/specs/plan.hpp"
#include "model/specs/precision.hpp"

namespace pipecast {

/// What bytes are for; the keys of `memory_bytes` in the contract.
enum class MemoryCategory : std::uint8_t {
  kWeights,        ///< as the products read them
  kGradients,      ///< accumulators
  kOptimizer,      ///< master weights, moments, moving average
  kActivations,    ///< kept for backward passes that are still to come
  kCommunication,  ///< received and outgoing tokens, pipeline messages, gathered parameters
  kWorkspace,      ///< operands and results of kernels beyond what is kept; what rounding up loses
};
inline constexpr std::size_t kMemoryCategories = 6;

constexpr std::string_view name_of(MemoryCategory category) {
  constexpr std::string_view kNames[kMemoryCategories] = {
      "weights", "gradients", "optimizer", "activations", "communication", "workspace"};
  return kNames[static_cast<std::size_t>(category)];
}

/// Bytes by category.
class MemoryTotals {
 public:
  [[nodiscard]] Bytes of(MemoryCategory category) const {
    return bytes_[static_cast<std::size_t>(category)];
  }
  void add(MemoryCategory category, Bytes bytes) {
    bytes_[static_cast<std::size_t>(category)] += bytes;
  }
  [[nodiscard]] Bytes total() const {
    Bytes out;
    for (const Bytes b : bytes_) out += b;
    return out;
  }
  bool operator==(const MemoryTotals&) const = default;

 private:
  std::array<Bytes, kMemoryCategories> bytes_{};
};

/// A tensor of one GPU, or `copies` equal ones. Names point to text that lives as long as the
/// program.
struct MemoryTensor {
  std::string_view name;             ///< "routed_gate_up"
  std::optional<LayerKind> layer{};  ///< whose it is; none: of the stage or the rank
  int stage = -1;                    ///< -1: of no stage
  int position = -1;                 ///< of the layer in its stage; -1: several, or of no layer
  MemoryCategory category{};
  Precision precision{};
  std::int64_t rows = 0;
  std::int64_t columns = 1;
  std::string_view rows_are{};     ///< "tokens"
  std::string_view columns_are{};  ///< in the model's words: "hidden_size"
  std::int64_t copies = 1;
  std::string_view copies_are{};  ///< "layers", "live chunks x layers", "experts"
  std::int64_t shards = 1;        ///< GPUs that hold a part each, rounded up
  std::string_view reason{};      ///< who needs it
  bool scaled = false;            ///< every row has the scales of FP8 and E5M6 with it
  /// Of a kernel's working set, which is no rows x columns: what it reads and writes beyond what is
  /// counted elsewhere. Both 0: a tensor.
  Bytes operands{};
  Bytes results{};
  Bytes bytes{};  ///< of all copies on this GPU
};

/// What the caching allocator makes of a request: blocks of 512 bytes, and from 10 MiB on whole
/// segments of 2 MiB. Source: PyTorch, c10/cuda/CUDACachingAllocator.cpp (kMinBlockSize,
/// kMinLargeAlloc, kRoundLarge).
/// Not modelled: the segments of 2 and 20 MiB that smaller blocks share, and fragmentation; both
/// are in the plan's reserve.
Bytes allocated_bytes(Bytes requested);

}  // namespace pipecast
