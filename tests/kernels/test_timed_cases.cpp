/// What the calibrator times, checked on small shapes as it checks it on large ones.
#include <catch2/catch.hpp>
#include <set>
#include <string>
#include <vector>

#include "base/registry.hpp"
#include "kernels/calibration/gpu_device.hpp"
#include "kernels/calibration/statistics.hpp"
#include "kernels/calibration/timed_case.hpp"
#include "kernels/memory/buffer.hpp"
#include "run.hpp"

namespace pipecast::kernels {
namespace {

using namespace testing;

struct SmallCase {
  std::string name;
  CaseOptions options;
};

/// A product's options that it has beside its extents.
CaseOptions product(std::int64_t m, std::int64_t n, std::int64_t k, std::int64_t groups = 1) {
  return {{"m", m},
          {"n", n},
          {"k", k},
          {"groups", groups},
          {"block-m", 0},
          {"block-n", 0},
          {"promotion", 1},
          {"full-accumulation", 0},
          {"native-scaling", 0},
          {"cast", 0},
          {"masked", 0}};
}

CaseOptions matrix(std::int64_t rows, std::int64_t columns) {
  return {{"rows", rows}, {"columns", columns}};
}

CaseOptions permutation(std::int64_t rows, std::int64_t columns, std::int64_t received) {
  return {{"rows", rows}, {"columns", columns}, {"received", received}};
}

/// One of every name that is registered, with ragged edges where the kernel allows them.
const std::vector<SmallCase>& small_cases() {
  static const std::vector<SmallCase> kCases = {
      {"adamw", {{"elements", 1003}}},
      {"attention_bwd",
       {{"heads", 1},
        {"batch", 1},
        {"sequence", 150},
        {"kv_heads", 0},
        {"step", 0},
        {"qk_dim", 192},
        {"v_dim", 128},
        {"causal", 1}}},
      {"attention_fwd",
       {{"heads", 2},
        {"batch", 1},
        {"sequence", 150},
        {"kv_heads", 0},
        {"step", 0},
        {"qk_dim", 192},
        {"v_dim", 128},
        {"causal", 1},
        {"kv_dtype", 0}}},
      {"cast_e5m6", matrix(37, 264)},
      {"cast_fp8_128x128", {{"elements", 130 * 256}}},
      {"cast_fp8_1x128", {{"rows", 37}, {"columns", 264}, {"power_of_two", 1}}},
      {"cast_transpose_fp8_128x1", matrix(200, 136)},
      {"copy_strided", matrix(37, 136)},
      {"cross_entropy_bwd", matrix(9, 1000)},
      {"cross_entropy_fwd", matrix(9, 1000)},
      {"elementwise",
       {{"rows", 37},
        {"columns", 136},
        {"tensors_read", 2},
        {"tensors_written", 1},
        {"element_bytes", 2}}},
      {"embedding_grad", matrix(40, 136)},
      {"embedding_lookup", matrix(40, 136)},
      {"expert_count", {{"choices", 1001}, {"experts", 7}}},
      {"gate_gemm_dgrad", product(72, 136, 32)},
      {"gate_gemm_fwd", product(72, 32, 136)},
      {"gate_gemm_wgrad", product(32, 136, 72)},
      {"gemm_bf16", product(136, 200, 136)},
      {"gemm_bf16_wgrad", product(72, 136, 40)},
      {"gemm_fp8", product(150, 144, 272)},
      {"gemm_fp8_wgrad", product(132, 68, 144)},
      {"grad_norm", {{"elements", 5003}}},
      {"grouped_gemm_fp8", product(512, 144, 256, 2)},
      {"memcpy", {{"elements", 4 * 5003}}},
      {"permute", permutation(300, 136, 200)},
      {"permute_map", {{"choices", 8 * 200}, {"rows", 300}}},
      {"permute_with_scales", permutation(300, 256, 200)},
      {"probe_empty_kernel", {}},
      {"probe_l2_read", {{"bytes", 16 * 3001}, {"passes", 3}}},
      {"probe_launch_chain", {}},
      {"rmsnorm_bwd", matrix(37, 1544)},
      {"rmsnorm_bwd_finalize", matrix(19, 136)},
      {"rmsnorm_fwd", matrix(37, 1544)},
      {"rope", matrix(37, 192)},
      {"swiglu_bwd", matrix(37, 136)},
      {"swiglu_bwd_shared", matrix(37, 136)},
      {"swiglu_fwd", matrix(37, 136)},
      {"swiglu_fwd_and_cast_fp8", matrix(37, 136)},
      {"swiglu_fwd_bwd_routed", matrix(37, 136)},
      {"swiglu_recompute_and_cast_transpose", matrix(150, 136)},
      {"swiglu_weight_bwd", {{"rows", 37}, {"columns", 136}, {"choices", 50}}},
      {"transpose_fp8", matrix(144, 272)},
      {"transpose_scales", matrix(150, 1000)},
      {"uncast_e5m6", matrix(37, 264)},
      {"uncast_fp8", matrix(37, 264)},
      {"unpermute_reduce", permutation(300, 136, 200)},
  };
  return kCases;
}

}  // namespace

TEST_CASE("every timed kernel passes the check that comes before its timing", "[timed_cases]") {
  for (const SmallCase& small : small_cases()) {
    CAPTURE(small.name);
    for (const int sms : {0, 2}) {
      CAPTURE(sms);
      const std::optional<TimedCase> timed =
          Registry<CaseMaker>::instance().find(small.name).make(small.options, sms);
      REQUIRE(timed);
      REQUIRE(timed->launches >= 1);
      in_every_order([&] {
        if (timed->prepare) timed->prepare();
        timed->run();
        synchronise();
        REQUIRE(timed->error() <= timed->tolerance);
      });
    }
  }
}

TEST_CASE("every registered kernel has a small case, and every case a kernel", "[timed_cases]") {
  std::vector<std::string> names;
  for (const SmallCase& small : small_cases()) names.push_back(small.name);
  REQUIRE(names == Registry<CaseMaker>::instance().names());
}

TEST_CASE("a result that was never written is found wrong", "[timed_cases]") {
  // Results begin as NaN: a check without a run must not pass. Kernels that work in place run in
  // their check; probes of launches have no result.
  const std::set<std::string> without = {
      "adamw",          "embedding_grad",     "gate_gemm_wgrad",    "gemm_bf16_wgrad",
      "gemm_fp8_wgrad", "probe_empty_kernel", "probe_launch_chain", "rope"};
  for (const SmallCase& small : small_cases()) {
    if (without.count(small.name) > 0) continue;
    CAPTURE(small.name);
    const std::optional<TimedCase> timed =
        Registry<CaseMaker>::instance().find(small.name).make(small.options, 0);
    REQUIRE(timed);
    REQUIRE(!(timed->error() <= timed->tolerance));
  }
}

TEST_CASE("shapes that a kernel is not made for have no case", "[timed_cases]") {
  const auto none = [](const std::string& name, CaseOptions options) {
    CAPTURE(name);
    REQUIRE(!Registry<CaseMaker>::instance().find(name).make(options, 0));
  };
  CaseOptions other = product(128, 128, 128);
  other["promotion"] = 0;
  none("gemm_fp8", other);
  other = product(128, 128, 128);
  other["block-m"] = 192;
  none("gemm_fp8", other);
  none("gemm_fp8", product(128, 130, 128));
  none("grouped_gemm_fp8", product(200, 128, 128, 2));
  none("gemm_bf16", product(128, 130, 128));
  none("rmsnorm_fwd", matrix(4, 9000));
  none("cast_fp8_1x128", {{"rows", 4}, {"columns", 129}, {"power_of_two", 0}});
  none("permute", permutation(2000, 128, 100));
  none("memcpy", {{"elements", 5}});
}

TEST_CASE("the middle half of repetitions over their median is the spread", "[timed_cases]") {
  // Quartiles of 1, 2, 3, 4, 5 are 2 and 4.
  const RepeatedTimes odd = summary_of({5, 1, 4, 2, 3});
  REQUIRE(odd.median == 3);
  REQUIRE(odd.spread == Approx((4.0 - 2.0) / 3.0));
  REQUIRE(summary_of({7}).median == 7);
  REQUIRE(summary_of({7}).spread == 0);
  // One late repetition among many moves neither.
  std::vector<double> times(30, 10.0);
  times.push_back(1000);
  REQUIRE(summary_of(times).median == 10);
  REQUIRE(summary_of(times).spread == 0);
}

}  // namespace pipecast::kernels
