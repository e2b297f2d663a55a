/// What a GPU has to do for one layer, kernel by kernel, before anything is known of time.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "base/units.hpp"
#include "model/specs/phase.hpp"
#include "model/specs/plan.hpp"
#include "model/specs/precision.hpp"

namespace pipecast {

enum class Stream : std::uint8_t { kCompute, kSide, kCommunication };

/// As the trace's column `stream` has it.
constexpr std::string_view name_of(Stream stream) {
  switch (stream) {
    case Stream::kCompute:
      return "compute";
    case Stream::kSide:
      return "wgrad_side";
    case Stream::kCommunication:
      return "comm";
  }
  return "";
}

/// Extents of an attention kernel. Queries are the last of the keys, so that a causal mask hides
/// nothing of the first `keys - queries`.
struct AttentionShape {
  std::int64_t batch = 0;     ///< sequences
  std::int64_t heads = 0;     ///< query heads
  std::int64_t kv_heads = 0;  ///< heads of keys and values; 1 for absorbed MLA
  std::int64_t queries = 0;   ///< per sequence
  std::int64_t keys = 0;      ///< per sequence
  std::int64_t qk_dim = 0;    ///< dimension of queries and keys
  std::int64_t v_dim = 0;
  bool causal = false;
  /// Format of the KV cache that the library fills in the same call, as inference does, where it
  /// also rotates the queries; keys and values are read in this format. None in training.
  std::optional<Precision> cache{};

  bool operator==(const AttentionShape&) const = default;
};

/// What a matrix product may be asked to do differently: hardware and software that one wonders
/// about.
struct ProductOptions {
  bool promotion = true;           ///< FP8: partial sums go to FP32 registers every 128 of K
  bool full_accumulation = false;  ///< FP8: the tensor core accumulates in FP32
  bool native_scaling = false;     ///< FP8: the tensor core applies the scales of 128 elements
  bool with_cast = false;          ///< FP8: timed together with the cast of a BF16 A
  bool masked = false;  ///< groups have a fixed capacity instead of following one another
  int block_m = 0;      ///< rows of the tile; 0: the kernel's choice
  int block_n = 0;      ///< columns of the tile, given together with its rows

  bool operator==(const ProductOptions&) const = default;
};

enum class Exchange : std::uint8_t { kDispatch, kCombine };

/// Extents of a dispatch or combine, seen from one GPU. Every GPU of the group has the same, so
/// that it sends as much as it receives.
struct ExchangeShape {
  Exchange kind{};
  double tokens = 0;       ///< of its own
  double gpu_copies = 0;   ///< copies of tokens to GPUs, its own included
  double node_copies = 0;  ///< copies to nodes, its own included; 0 if the group is one node
  Bytes copy{};            ///< payload of one copy, scales included
  bool cached = false;     ///< repeats a known exchange, as the backward pass does

  bool operator==(const ExchangeShape&) const = default;
};

/// One kernel launch.
struct Operation {
  std::string_view
      op;  ///< kernel kind: a name of the column `op` of traces/h800_dualpipe_chunk/kernels.csv
  std::string_view label{};  ///< which matrix product ("q_b", "routed_gate_up_wgrad") or tensor;
                             ///< empty if `op` says all
  Precision precision = Precision::kBf16;  ///< of the multiplied operands, or of the moved elements
  /// Matrix products: rows (of all groups together), columns, depth. Kernels that move memory: rows
  /// and columns in m and n where they have them. Else 0.
  std::int64_t m = 0;
  std::int64_t n = 0;
  std::int64_t k = 0;
  std::int64_t groups = 1;  ///< experts in a grouped product
  AttentionShape attention{};
  ProductOptions product{};
  ExchangeShape exchange{};
  Flops flops{};  ///< useful work: 2 m n k, or attention's causal half
  Bytes read{};   ///< from HBM, every operand once
  Bytes written{};
  /// A cast whose scales are powers of two, as those of dispatched tokens (arXiv
  /// 2412.19437, 3.3.3).
  bool power_of_two = false;
  Stream stream = Stream::kCompute;

  bool operator==(const Operation&) const = default;
};

/// Whether an operation is a matrix product, dense or grouped.
inline bool is_product(const Operation& o) { return o.op.find("gemm") != std::string_view::npos; }

/// Size of `rows` x `columns` elements, with one FP32 scale per 128 of a row for FP8 and E5M6.
Bytes stored_bytes(Precision p, std::int64_t rows, std::int64_t columns);

/// What the rows of a tensor are.
enum class RowKind : std::uint8_t {
  kTokens,    ///< of the micro-batch
  kRouted,    ///< at the GPU's experts
  kReceived,  ///< distinct tokens that came to its experts
};

constexpr std::string_view name_of(RowKind kind) {
  switch (kind) {
    case RowKind::kTokens:
      return "tokens";
    case RowKind::kRouted:
      return "routed rows";
    case RowKind::kReceived:
      return "received tokens";
  }
  return "";
}

/// A tensor that the forward pass of one micro-batch keeps until its backward pass.
struct KeptTensor {
  std::string_view name;
  Precision precision = Precision::kBf16;
  RowKind rows_are{};
  std::int64_t rows = 0;
  std::int64_t columns = 0;
  std::string_view columns_are;  ///< in the model's words: "hidden_size"
  std::string_view reason;       ///< who needs it: "input of RMSNorm"
  Phase made_in{};               ///< attn(F) or mlp(F); gone after the same part's input gradient
  Bytes bytes;                   ///< with the scales of FP8 and E5M6
};

struct LayerOperations {
  LayerKind kind{};
  std::array<std::vector<Operation>, kPhases> phases;
  std::vector<KeptTensor> kept;
  /// What recomputation makes of `kept` at the beginning of the layer's backward pass, for the rest
  /// of it: where whole layers are computed again.
  std::vector<KeptTensor> replayed;

  [[nodiscard]] const std::vector<Operation>& at(Phase p) const {
    return phases[static_cast<std::size_t>(p)];
  }
  [[nodiscard]] std::vector<Operation>& at(Phase p) { return phases[static_cast<std::size_t>(p)]; }
};

}  // namespace pipecast
