#include "app/kernel/kernel_name.hpp"

#include <algorithm>
#include <charconv>

#include "app/config/node.hpp"
#include "base/error.hpp"
#include "base/text.hpp"
#include "model/operations/operation_kinds.hpp"

namespace pipecast {

namespace {

constexpr std::array kFamilies = {
    KernelFamily{"gemm", {"gemm_fp8", "gemm_bf16"}, {"grouped_gemm_fp8", "grouped_gemm_bf16"}},
    KernelFamily{"grouped_gemm", {"grouped_gemm_fp8", "grouped_gemm_bf16"}},
    KernelFamily{"gemm_wgrad", {"gemm_fp8_wgrad", "gemm_bf16_wgrad"}},
    KernelFamily{"attention_forward", {"attention_fwd"}},
    KernelFamily{"attention_backward", {"attention_bwd"}},
    KernelFamily{"dispatch", {"ep_dispatch"}},
    KernelFamily{"combine", {"ep_combine"}},
};

std::string underscored(std::string_view text) {
  std::string out(text);
  std::replace(out.begin(), out.end(), '-', '_');
  return out;
}

/// Index into a family's operations.
std::size_t index_of(const KernelFamily& family, const std::optional<std::string>& precision) {
  return precision == "bf16" && !family.operations[1].empty() ? 1 : 0;
}

std::int64_t value_of(std::string_view option, std::span<const KernelOption> options,
                      std::span<const std::int64_t> values) {
  for (std::size_t i = 0; i < options.size(); ++i) {
    if (options[i].name == option) return values[i];
  }
  return 1;
}

/// Keeps every product of four extents and a few bytes within 63 bits.
void refuse_huge(const KernelName& name, std::span<const std::int64_t> values) {
  std::vector<double> largest(values.begin(), values.end());
  std::sort(largest.rbegin(), largest.rend());
  if (largest.size() > 4) largest.resize(4);
  double product = 1;
  for (const double value : largest) product *= std::max(1.0, value);
  constexpr double kMost = 0x1p58;
  require(product <= kMost, "{}: the extents multiply to {:.3g}; expected at most {:.3g}", name.op,
          product, kMost);
}

}  // namespace

std::vector<KernelFamily> kernel_families() {
  const auto& kernels = Registry<KernelKind>::instance();
  std::vector<KernelFamily> out;
  for (const KernelFamily& family : kFamilies) {
    if (kernels.contains(family.operations[0])) out.push_back(family);
  }
  return out;
}

KernelName kernel_name(std::string_view word, const std::optional<std::string>& precision) {
  require(!precision || precision == "fp8" || precision == "bf16",
          "--precision: unknown {}; it is fp8 or bf16", config::in_quotes(precision.value_or("")));
  const std::string wanted = underscored(word);
  std::vector<std::string> known;
  for (const KernelFamily& family : kernel_families()) {
    if (family.name == wanted) {
      const std::size_t i = index_of(family, precision);
      const std::string_view op = family.operations[i];
      return {op, family.grouped[i].empty() ? op : family.grouped[i], precision};
    }
    known.push_back(hyphened(family.name));
  }
  for (const OperationKind& kind : operation_kinds()) {
    if (kind.name == wanted) return {kind.name, kind.name, precision};
    known.emplace_back(kind.name);
  }
  const std::string close = nearest(word, known);
  throw Error(fmt::format("unknown operation {}{}; `pipecast list operations` names all",
                          config::in_quotes(word),
                          close.empty() ? "" : fmt::format(", did you mean {}?", close)));
}

std::span<const KernelOption> options_of(const KernelName& name) {
  const auto& kernels = Registry<KernelKind>::instance();
  const bool alone = kernels.contains(name.grouped) && kernels.find(name.grouped).make != nullptr;
  require(alone, "{} cannot be predicted by itself: no options define its shape", name.grouped);
  return kernels.find(name.grouped).options;
}

std::int64_t parse_option(const KernelOption& option, std::string_view text) {
  if (!option.names.empty()) {
    std::vector<std::string> words;
    for (const NamedValue& named : option.names) {
      if (named.name == text) return named.value;
      words.emplace_back(named.name);
    }
    throw Error(
        fmt::format("{}: {} is none of {}", option.name, config::in_quotes(text), join(words)));
  }
  std::int64_t value = -1;
  const auto [end, failure] = std::from_chars(text.data(), text.data() + text.size(), value);
  require(failure == std::errc() && end == text.data() + text.size() && value >= 0,
          "{}: {} is not a whole number from 0 on", option.name, config::in_quotes(text));
  return value;
}

Operation make_operation(const KernelName& name, std::span<const std::int64_t> values) {
  const std::span<const KernelOption> options = options_of(name);
  refuse_huge(name, values);
  const std::string_view op = value_of("groups", options, values) > 1 ? name.grouped : name.op;
  const KernelKind& kind = Registry<KernelKind>::instance().find(op);
  std::vector<std::int64_t> own;
  for (const KernelOption& option : kind.options) {
    own.push_back(value_of(option.name, options, values));
  }
  const Operation made = kind.make(op, own);
  require(!name.precision || *name.precision == name_of(made.precision),
          "--precision: {} is {}, not {}", op, name_of(made.precision), *name.precision);
  return made;
}

std::string hyphened(std::string_view text) {
  std::string out(text);
  std::replace(out.begin(), out.end(), '_', '-');
  return out;
}

}  // namespace pipecast
