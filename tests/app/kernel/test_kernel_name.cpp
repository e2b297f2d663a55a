#include <catch2/catch.hpp>
#include <map>
#include <vector>

#include "app/kernel/kernel_name.hpp"
#include "base/error.hpp"
#include "model/operations/operation_kinds.hpp"

using namespace pipecast;

namespace {

/// The operation of these extents, everything else by default.
Operation made(const KernelName& name, const std::map<std::string_view, std::int64_t>& extents) {
  std::vector<std::int64_t> values;
  for (const KernelOption& option : options_of(name)) {
    const auto given = extents.find(option.name);
    values.push_back(given != extents.end() ? given->second : option.fallback.value());
  }
  return make_operation(name, values);
}

}  // namespace

TEST_CASE("a family is its operation of the asked precision, FP8 if none is asked", "[kernel]") {
  REQUIRE(kernel_name("gemm", "bf16").op == "gemm_bf16");
  REQUIRE(kernel_name("gemm", "fp8").op == "gemm_fp8");
  REQUIRE(kernel_name("gemm", {}).op == "gemm_fp8");
  REQUIRE(kernel_name("gemm-wgrad", "bf16").op == "gemm_bf16_wgrad");
  REQUIRE(kernel_name("grouped-gemm", {}).op == "grouped_gemm_fp8");
  REQUIRE(kernel_name("attention-forward", {}).op == "attention_fwd");
  REQUIRE(kernel_name("attention-backward", {}).op == "attention_bwd");
}

TEST_CASE("every operation is known by its name, with - or _", "[kernel]") {
  for (const OperationKind& kind : operation_kinds()) {
    REQUIRE(kernel_name(kind.name, {}).op == kind.name);
    REQUIRE(kernel_name(hyphened(kind.name), {}).op == kind.name);
  }
}

TEST_CASE("every family stands for operations that there are", "[kernel]") {
  for (const KernelFamily& family : kernel_families()) {
    for (const auto& list : {family.operations, family.grouped}) {
      for (const std::string_view op : list) {
        if (!op.empty()) REQUIRE(operation_kind(op) == op);
      }
    }
  }
}

TEST_CASE("an unknown operation or precision is refused, naming what was meant", "[kernel]") {
  REQUIRE_THROWS_WITH(kernel_name("gem", {}),
                      "unknown operation 'gem', did you mean gemm?; `pipecast list operations` "
                      "names all");
  REQUIRE_THROWS_WITH(kernel_name("12345678901234567890", {}),
                      "unknown operation '12345678901234567890'; `pipecast list operations` names "
                      "all");
  REQUIRE_THROWS_WITH(kernel_name("gemm", "fp4"), "--precision: unknown 'fp4'; it is fp8 or bf16");
}

TEST_CASE("several groups make a product of the family gemm a grouped one", "[kernel]") {
  const KernelName gemm = kernel_name("gemm", "bf16");
  REQUIRE(made(gemm, {{"m", 512}, {"n", 256}, {"k", 128}}).op == "gemm_bf16");
  const Operation grouped = made(gemm, {{"m", 512}, {"n", 256}, {"k", 128}, {"groups", 4}});
  REQUIRE(grouped.op == "grouped_gemm_bf16");
  REQUIRE(grouped.groups == 4);
  REQUIRE(grouped.flops.count() == 2.0 * 512 * 256 * 128);
  // Every group has a right factor of its own.
  REQUIRE(grouped.read.count() == 2 * (512 * 128 + 4 * 256 * 128));
}

TEST_CASE("a precision must be the operation's", "[kernel]") {
  const std::map<std::string_view, std::int64_t> extents = {{"m", 64}, {"n", 64}, {"k", 64}};
  REQUIRE(made(kernel_name("gemm_fp8", "fp8"), extents).precision == Precision::kFp8);
  REQUIRE_THROWS_WITH(made(kernel_name("gemm_fp8", "bf16"), extents),
                      "--precision: gemm_fp8 is fp8, not bf16");
}

TEST_CASE("extents that make no product are refused", "[kernel]") {
  const KernelName gemm = kernel_name("gemm", {});
  REQUIRE_THROWS_WITH(made(gemm, {{"m", 64}, {"n", 0}, {"k", 64}}),
                      "gemm_fp8: extents must be positive: m=64 n=0 k=64 groups=1");
  // 2^19 * 2^20 * 2^20 = 2^59.
  REQUIRE_THROWS_WITH(made(gemm, {{"m", 1 << 19}, {"n", 1 << 20}, {"k", 1 << 20}}),
                      "gemm_fp8: the extents multiply to 5.76e+17; expected at most 2.88e+17");
}

TEST_CASE("an operation without options cannot be asked for by its shape", "[kernel]") {
  const KernelName nothing{"no_kernel", "no_kernel"};
  REQUIRE_THROWS_WITH(options_of(nothing),
                      "no_kernel cannot be predicted by itself: no options define its shape");
}

TEST_CASE("an option's value is a whole number from 0 on", "[kernel]") {
  const KernelOption rows{"rows", "rows of the operand"};
  REQUIRE(parse_option(rows, "0") == 0);
  REQUIRE(parse_option(rows, "4096") == 4096);
  const auto* const text =
      GENERATE("", "x", "-1", "1.5", "4096 ", " 1", "+1", "1e3", "9223372036854775808");
  REQUIRE_THROWS_WITH(parse_option(rows, text),
                      "rows: '" + std::string(text) + "' is not a whole number from 0 on");
}

TEST_CASE("an option with named values takes its names alone", "[kernel]") {
  constexpr NamedValue kFormats[] = {{"bfloat16", 16}, {"fp8", 8}};
  const KernelOption format{"kv_dtype", "format of the cache", 16, kFormats};
  REQUIRE(parse_option(format, "bfloat16") == 16);
  REQUIRE(parse_option(format, "fp8") == 8);
  const auto* const text = GENERATE("8", "fp16", "");
  REQUIRE_THROWS_WITH(parse_option(format, text),
                      "kv_dtype: '" + std::string(text) + "' is none of bfloat16, fp8");
}

TEST_CASE("no kernel's option has the name of one of the command's own", "[kernel][property]") {
  const auto& kernels = Registry<KernelKind>::instance();
  for (const std::string& name : kernels.names()) {
    for (const KernelOption& option : kernels.find(name).options) {
      CAPTURE(name, option.name);
      for (const char* own : {"json", "quiet", "help", "version", "precision", "sms", "gpu",
                              "calibration", "explain", "table", "worst", "roofline", "time-us"}) {
        REQUIRE(hyphened(option.name) != own);
      }
    }
  }
}
