/// What users call kernels: operations by their names, and families of them.
#pragma once

#include <array>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "model/ops/kernel_cost.hpp"

namespace pipecast {

/// A word for operations that differ only in precision, or a plainer name of one.
struct KernelFamily {
  std::string_view name;
  /// In FP8 and in BF16; the second is empty where there is one for both.
  std::array<std::string_view, 2> operations{};
  /// The same for several groups; empty where the number of groups changes nothing.
  std::array<std::string_view, 2> grouped{};
};

/// All families, of which those without a kernel are left out.
std::vector<KernelFamily> kernel_families();

/// The operations that a word stands for.
struct KernelName {
  std::string_view op;                     ///< with one group
  std::string_view grouped;                ///< with several groups; mostly the same
  std::optional<std::string> precision{};  ///< what the user asked for
};

/// @param word  an operation ("gemm_fp8") or a family ("gemm"); `-` and `_` are the same
/// @param precision  fp8 or bf16: chooses within a family (FP8 if not given), else must fit
/// @throws Error with the nearest known word
KernelName kernel_name(std::string_view word, const std::optional<std::string>& precision);

/// What defines the shape of these operations.
/// @throws Error if the kernel cannot be asked for by its shape
std::span<const KernelOption> options_of(const KernelName& name);

/// The value that a user's text means.
/// @throws Error without origin: what is wrong and what was expected
std::int64_t parse_option(const KernelOption& option, std::string_view text);

/// @param values  one per option of options_of(), in their order
/// @throws Error if they make no operation, or one far beyond any GPU
Operation make_operation(const KernelName& name, std::span<const std::int64_t> values);

/// `text` with every `_` as `-`, as on command lines.
std::string hyphened(std::string_view text);

}  // namespace pipecast
