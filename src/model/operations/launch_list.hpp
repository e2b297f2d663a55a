/// Builders of single kernel launches: what each kind reads, writes and computes. Internal to
/// model/operations.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <string_view>
#include <vector>

#include "model/operations/memory_shapes.hpp"
#include "model/operations/operation.hpp"
#include "model/specs/plan.hpp"

namespace pipecast {

/// Extents of C[m,n] = A[m,k] * B[k,n].
struct ProductShape {
  std::int64_t m = 0;
  std::int64_t n = 0;
  std::int64_t k = 0;
};

/// Tensors of rows x columns that a pointwise kernel reads and writes.
struct PointwiseShape {
  std::int64_t rows = 0;
  std::int64_t columns = 0;
  std::int64_t tensors_read = 1;
  std::int64_t tensors_written = 1;
};

/// Format in which inputs of linear layers and of SwiGLU are kept: as the products read them, if
/// the plan does not say. Source: DeepSeek-V3 report, section 3.3.3.
inline Precision cached_precision(const PlanSpec& plan) {
  return plan.precision.activations.value_or(plan.precision.gemm);
}

/// Appends launches to one phase of a layer. Casts and transposes of FP8 vanish where the plan
/// multiplies in BF16.
class LaunchList {
 public:
  LaunchList(std::vector<Operation>& out, const PlanSpec& plan, Stream stream = Stream::kCompute)
      : out_(out), plan_(plan), stream_(stream) {}

  [[nodiscard]] bool fp8() const { return plan_.precision.gemm == Precision::kFp8; }
  [[nodiscard]] Precision gemm_precision() const { return plan_.precision.gemm; }
  [[nodiscard]] Precision cached() const { return cached_precision(plan_); }

  /// Any kind that only moves bytes, by the extents of memory_operation().
  void memory(std::string_view op, std::string_view label,
              std::initializer_list<std::int64_t> extents, const MemoryFormats& formats = {});
  void pointwise(std::string_view label, Precision p, PointwiseShape s);
  /// `launches` pointwise kernels that each read and write `elements` of FP32.
  void small(std::string_view label, int launches, std::int64_t elements);
  /// The sum of two BF16 tensors.
  void add(std::string_view label, std::int64_t rows, std::int64_t columns);
  /// A pointwise BF16 copy between views.
  void copy(std::string_view label, std::int64_t rows, std::int64_t columns);

  void cast(std::string_view label, std::int64_t rows, std::int64_t columns);
  /// From BF16 to the format in which the plan keeps inputs, and back.
  void cache(std::string_view label, std::int64_t rows, std::int64_t columns);
  void uncache(std::string_view label, std::int64_t rows, std::int64_t columns);
  /// The same where FP8 serves storage or the exchange between GPUs, whatever the products use.
  void cast_always(std::string_view label, std::int64_t rows, std::int64_t columns);
  /// Of tokens that a dispatch sends: their scales are powers of two.
  void cast_to_dispatch(std::string_view label, std::int64_t rows, std::int64_t columns);
  void uncast_always(std::string_view label, std::int64_t rows, std::int64_t columns);
  /// @param from  format of the source: BF16, or FP8 that changes the direction of its tiles
  void cast_transpose(std::string_view label, std::int64_t rows, std::int64_t columns,
                      Precision from = Precision::kBf16);
  void transpose_weight(std::string_view label, std::int64_t rows, std::int64_t columns);
  void transpose_scales(std::string_view label, std::int64_t rows, std::int64_t columns);

  /// A linear layer's forward or input-gradient product in the plan's precision.
  void product(std::string_view label, ProductShape s);
  void grouped_product(std::string_view label, ProductShape s, std::int64_t groups);
  /// A weight gradient, added to the accumulator in the plan's gradient precision.
  void weight_product(std::string_view label, ProductShape s, Stream stream = Stream::kCompute);
  /// A product that stays in BF16 whatever the plan says: head and gate.
  void bf16_product(std::string_view op, std::string_view label, ProductShape s);
  void bf16_weight_product(std::string_view op, std::string_view label, ProductShape s);

  void norm(std::string_view label, std::int64_t rows, std::int64_t columns);
  /// Input gradient, weight gradient and its accumulation: three launches.
  void norm_backward(std::string_view label, std::int64_t rows, std::int64_t columns);

  void push(const Operation& operation);

 private:
  void push_as(Operation operation, std::string_view label, Stream stream);

  std::vector<Operation>& out_;
  const PlanSpec& plan_;
  Stream stream_;
};

}  // namespace pipecast
