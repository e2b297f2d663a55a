/// Measured kernels of traces/ with the operation that each of them ran.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "model/operations/operation.hpp"

namespace pipecast {

/// One row of a table: a kernel alone on a whole GPU.
struct MeasuredKernel {
  Operation operation;
  double time_us = 0;
  std::string shape;  ///< what stays the same while the amount of work grows: "n=7168 k=2048"
};

/// A table whose columns are the options of `op` (`pipecast list operations`) and `time_us`.
/// @param op     kind of kernel: "gemm_fp8"
/// @param shape  columns that tell shapes apart, as far as the table has them
/// @throws Error with file and line
std::vector<MeasuredKernel> read_kernels(const std::filesystem::path& path, std::string_view op,
                                         const std::vector<std::string_view>& shape);

/// The same for products: what n, k and groups have in common is one shape.
std::vector<MeasuredKernel> read_products(const std::filesystem::path& path, std::string_view op);

/// Those of at least kLargeKernelFlop, and the others, which are bound by latency.
std::vector<MeasuredKernel> large(std::vector<MeasuredKernel> kernels);
std::vector<MeasuredKernel> small(std::vector<MeasuredKernel> kernels);

/// The folder traces/ of the source tree that the program was built from.
std::filesystem::path trace_directory();

}  // namespace pipecast
