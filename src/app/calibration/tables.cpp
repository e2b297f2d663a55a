#include "app/calibration/tables.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "app/tables/csv.hpp"
#include "model/operations/product_shapes.hpp"

namespace pipecast {

namespace {

std::int64_t extent(const CsvTable& table, std::size_t row, std::string_view column) {
  return static_cast<std::int64_t>(table.number(row, column));
}

bool is_large(const MeasuredKernel& kernel) {
  return kernel.operation.flops.count() >= kLargeFlops;
}

}  // namespace

std::vector<MeasuredKernel> read_products(const std::filesystem::path& path, std::string_view op) {
  const CsvTable table(path);
  std::vector<MeasuredKernel> out;
  for (std::size_t i = 0; i < table.rows(); ++i) {
    const std::int64_t n = extent(table, i, "n");
    const std::int64_t k = extent(table, i, "k");
    const std::int64_t groups = table.has("groups") ? extent(table, i, "groups") : 1;
    out.push_back({.operation = product_operation(op, extent(table, i, "m"), n, k, groups),
                   .time_us = table.number(i, "time_us"),
                   .shape = fmt::format("n={} k={} groups={}", n, k, groups)});
  }
  return out;
}

std::vector<MeasuredKernel> read_mla_prefill(const std::filesystem::path& path) {
  constexpr std::int64_t kQueryAndKeyWidth = 192;  // DeepSeek-V3: 128 without position, 64 with
  constexpr std::int64_t kValueWidth = 128;
  const CsvTable table(path);
  std::vector<MeasuredKernel> out;
  for (std::size_t i = 0; i < table.rows(); ++i) {
    if (table.has("kv_dtype") && table.text(i, "kv_dtype") != "bfloat16") continue;
    const std::int64_t heads = extent(table, i, "heads");
    const std::int64_t sequence = extent(table, i, "sequence");
    const std::int64_t batch = extent(table, i, "batch");
    const std::int64_t rows = batch * sequence;
    // Both products, 2 FLOP a multiplication, half of the matrix.
    const double flops = static_cast<double>(heads * rows * sequence) *
                         static_cast<double>(kQueryAndKeyWidth + kValueWidth);
    out.push_back(
        {.operation = {.op = "attention_fwd",
                       .attention = {.batch = batch,
                                     .heads = heads,
                                     .kv_heads = heads,
                                     .queries = sequence,
                                     .keys = sequence,
                                     .qk_dim = kQueryAndKeyWidth,
                                     .v_dim = kValueWidth,
                                     .causal = true},
                       .flops = Flops(flops),
                       .read = stored_bytes(Precision::kBf16, rows * heads,
                                            2 * kQueryAndKeyWidth + kValueWidth),
                       .written = stored_bytes(Precision::kBf16, rows * heads, kValueWidth)},
         .time_us = table.number(i, "time_us"),
         .shape = fmt::format("heads={} batch={}", heads, batch)});
  }
  return out;
}

std::vector<MeasuredKernel> large(std::vector<MeasuredKernel> kernels) {
  kernels.erase(std::remove_if(kernels.begin(), kernels.end(),
                               [](const MeasuredKernel& kernel) { return !is_large(kernel); }),
                kernels.end());
  return kernels;
}

std::vector<MeasuredKernel> small(std::vector<MeasuredKernel> kernels) {
  kernels.erase(std::remove_if(kernels.begin(), kernels.end(), is_large), kernels.end());
  return kernels;
}

std::filesystem::path trace_directory() { return PIPECAST_TRACE_DIRECTORY; }

}  // namespace pipecast
