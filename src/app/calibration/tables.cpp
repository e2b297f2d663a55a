#include "app/calibration/tables.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "app/kernel/kernel_table.hpp"
#include "base/error.hpp"

namespace pipecast {

namespace {

std::int64_t extent(const CsvTable& table, std::size_t row, std::string_view column) {
  return static_cast<std::int64_t>(table.number(row, column));
}

bool is_large(const MeasuredKernel& kernel) {
  return kernel.operation.flops.count() >= kLargeKernelFlop;
}

}  // namespace

std::vector<MeasuredKernel> read_kernels(const std::filesystem::path& path, std::string_view op,
                                         const std::vector<std::string_view>& shape) {
  const CsvTable table(path);
  const KernelName name = kernel_name(op, std::nullopt);
  const KernelConstants constants{std::vector<std::optional<std::int64_t>>(options_of(name).size()),
                                  {}};
  constexpr std::int64_t kAllSms = 0;  // tables of whole GPUs have no column sms; nobody asks
  std::vector<MeasuredKernel> out;
  for (const TableKernel& kernel : kernels_of(table, name, constants, kAllSms)) {
    require(kernel.measured_us.has_value(), "{}: has no column time_us", path.string());
    std::string group;
    for (const std::string_view column : shape) {
      if (!table.has(column)) continue;
      group +=
          fmt::format("{}{}={}", group.empty() ? "" : " ", column, table.text(out.size(), column));
    }
    out.push_back({kernel.operation, *kernel.measured_us, std::move(group)});
  }
  return out;
}

std::vector<MeasuredKernel> read_products(const std::filesystem::path& path, std::string_view op) {
  return read_kernels(path, op, {"n", "k", "groups"});
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
