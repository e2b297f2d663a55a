#include "model/ops/grouped_gemm.hpp"

#include "model/operations/product_shapes.hpp"

namespace pipecast {

namespace {

constexpr std::string_view kOperation = "grouped_gemm_fp8";

double bytes_of(const Operation& op) { return static_cast<double>((op.read + op.written).count()); }

}  // namespace

GroupLoads balanced_loads(std::int64_t rows, std::int64_t groups) {
  const std::int64_t larger = rows % groups;
  GroupLoads high;
  high.add(rows / groups + 1);
  GroupLoads low;
  low.add(rows / groups);
  const auto both = [&](std::int64_t GroupLoads::*of) {
    return larger * (high.*of) + (groups - larger) * (low.*of);
  };
  return {.groups = groups,
          .rows = rows,
          .with_rows = both(&GroupLoads::with_rows),
          .blocks = both(&GroupLoads::blocks),
          .later_bands = both(&GroupLoads::later_bands)};
}

Product contiguous_product(const GroupLoads& loads, std::int64_t n, std::int64_t k) {
  PIPECAST_ASSERT(loads.rows > 0);
  // Padding is read and written as well; groups without rows read no weights.
  const std::int64_t padded_rows = loads.blocks * kPaddedRows;
  const Operation padded = product_operation(kOperation, padded_rows, n, k, loads.with_rows);
  return {.kind = ProductKind::kFp8,
          .rows = Fp8Rows::kContiguous,
          .extents = {.rows = ceil_div(loads.rows, loads.groups),
                      .n = n,
                      .k = k,
                      .groups = loads.groups,
                      .padded_blocks = loads.blocks},
          .flops = 2.0 * static_cast<double>(loads.rows) * static_cast<double>(n) *
                   static_cast<double>(k),
          .hbm_bytes = bytes_of(padded),
          .group_weight_bytes = static_cast<double>(n) * static_cast<double>(k),
          .later_bands = loads.later_bands};
}

GroupedGemm::GroupedGemm(const Shape& shape, const GpuSpec& gpu, const CalibrationSpec& calibration,
                         int sms, std::int64_t most_rows)
    : launch_seconds_(calibration.product.launch_us.value * 1e-6),
      memory_rate_(product_streaming_rate(gpu, calibration)) {
  require(shape.n > 0 && shape.k > 0 && shape.groups > 0,
          "{}: extents must be positive: n={} k={} groups={}", kOperation, shape.n, shape.k,
          shape.groups);
  require_fp8(gpu);
  PIPECAST_ASSERT(!shape.options.masked && !shape.options.with_cast);
  const auto bytes = [&](std::int64_t rows) {
    return bytes_of(product_operation(kOperation, rows, shape.n, shape.k, 1));
  };
  weight_bytes_ = bytes(0);
  block_bytes_ = bytes(kPaddedRows) - weight_bytes_;

  GroupLoads one;
  one.add(kPaddedRows);
  one.groups = shape.groups;
  Product product = contiguous_product(one, shape.n, shape.k);
  product.options = shape.options;
  extents_ = product.extents;
  seconds_.push_back(0);
  for (std::int64_t blocks = 1; blocks <= ceil_div(most_rows, kPaddedRows); ++blocks) {
    product.extents.padded_blocks = blocks;
    seconds_.push_back(busy_seconds(product, gpu, calibration, sms));
  }
  product.later_bands = 1;
  constexpr GemmTile kAny{.m = kPaddedRows, .n = kPaddedRows};  // bands are of padded blocks
  band_bytes_ = product_bytes(product, kAny, gpu) - product.hbm_bytes;
}

Duration GroupedGemm::time(const GroupLoads& loads) const {
  const auto blocks = static_cast<std::size_t>(loads.blocks);
  PIPECAST_ASSERT(loads.groups == extents_.groups && blocks < seconds_.size());
  const double bytes = static_cast<double>(loads.blocks) * block_bytes_ +
                       static_cast<double>(loads.with_rows) * weight_bytes_ +
                       static_cast<double>(loads.later_bands) * band_bytes_;
  return duration_from_seconds(
      launch_seconds_ + overlapped_seconds(extents_, seconds_[blocks], bytes / memory_rate_));
}

}  // namespace pipecast
