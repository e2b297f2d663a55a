#include "app/calibration/tables.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "app/kernel/kernel_table.hpp"
#include "base/error.hpp"

namespace pipecast {

namespace {

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
