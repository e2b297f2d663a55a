#include <catch2/catch.hpp>
#include <map>
#include <numeric>
#include <vector>

#include "base/error.hpp"
#include "machines.hpp"
#include "model/operations/layer_operations.hpp"
#include "model/operations/memory_shapes.hpp"
#include "model/operations/optimizer_operations.hpp"
#include "model/ops/kernel_cost.hpp"
#include "models.hpp"

using namespace pipecast;
using namespace pipecast::testing;
using Catch::Matchers::Contains;

namespace {

/// Kernels that move memory: all but products, attention's main kernels and the exchange.
std::vector<std::string> memory_kernels() {
  std::vector<std::string> out;
  for (const std::string& name : Registry<KernelKind>::instance().names()) {
    const bool product = name.find("gemm") != std::string::npos;
    if (product || name.substr(0, 10) == "attention_") continue;
    if (name.substr(0, 3) != "ep_") out.push_back(name);
  }
  return out;
}

const KernelKind& kind_of(const std::string& name) {
  return Registry<KernelKind>::instance().find(name);
}

/// The operation with rows and columns where it has them; everything else small and fixed.
Operation shaped(const std::string& name, std::int64_t rows, std::int64_t columns) {
  const KernelKind& kind = kind_of(name);
  std::vector<std::int64_t> values;
  for (const KernelOption& option : kind.options) {
    if (option.name == "columns") {
      values.push_back(columns);
    } else if (values.empty() || option.name == "received" || option.name == "choices") {
      values.push_back(option.name == "elements" ? rows * columns : rows);
    } else {
      values.push_back(option.fallback.value_or(4));
    }
  }
  return kind.make(name, values);
}

/// Every constant at work: none of them leaves a law to the others.
CalibrationSpec busy_calibration() {
  CalibrationSpec c = ideal_calibration();
  c.link.hbm.value = 0.8;
  c.latency.kernel_us.value = 2;
  c.memory.sm_bytes_per_cycle.value = 30;
  c.memory.tile_cycles.value = 8000;
  c.memory.packing_cycles.value = 0.4;
  c.memory.unpacking_cycles.value = 0.3;
  c.memory.norm_cycles.value = 0.1;
  c.memory.norm_alone.value = 0.4;
  c.memory.repetition_cycles.value = 0.5;
  c.memory.rotation_cycles.value = 0.7;
  c.memory.conversion_bytes_per_cycle.value = 10;
  c.memory.dispatch_bytes_per_cycle.value = 7;
  c.memory.selection_cycles.value = 200;
  c.memory.scan_cycles.value = 0.5;
  c.memory.scale_cycles.value = 2;
  return c;
}

KernelCost cost(const Operation& op, const CalibrationSpec& calibration, int sms = 100,
                const GpuSpec& gpu = round_gpu()) {
  return kernel_cost(op, gpu, calibration, sms);
}

/// Sums of doubles may round a picosecond up.
constexpr Duration kRounding = picoseconds(1);

double microseconds_of(const KernelCost& cost) { return to_microseconds(cost.time); }

}  // namespace

TEST_CASE("no kernel that moves memory beats the HBM", "[ops][property]") {
  const std::int64_t rows = GENERATE(1, 100, take(4, random(1, 30'000)));
  const std::int64_t columns = GENERATE(64, take(3, random(1, 20'000)));
  const int sms = GENERATE(1, 20, 100);
  for (const std::string& name : memory_kernels()) {
    CAPTURE(name, rows, columns, sms);
    const Operation op = shaped(name, rows, columns);
    for (const CalibrationSpec& calibration : {ideal_calibration(), busy_calibration()}) {
      const KernelCost c = cost(op, calibration, sms);
      // A pointwise kernel's input, or as much of it as fits, is still in L2.
      const Bytes input = name == "elementwise" ? op.read : Bytes();
      REQUIRE(c.hbm_bytes == op.read + op.written - std::min(input, round_gpu().l2_capacity));
      REQUIRE(c.l2_bytes == op.read + op.written);
      REQUIRE(c.time >= c.hbm_bytes / round_gpu().hbm_bandwidth);
    }
  }
}

TEST_CASE(
    "kernels that move memory never get faster with rows or columns, nor slower with SMs or "
    "bandwidth",
    "[ops][property]") {
  const std::int64_t rows = GENERATE(127, 128, 300, take(4, random(1, 30'000)));
  const std::int64_t columns = GENERATE(128, 1638, 2730, take(3, random(1, 20'000)));
  const int sms = GENERATE(1, 19, 84, 99);
  const CalibrationSpec calibration = busy_calibration();
  GpuSpec wider = round_gpu();
  wider.hbm_bandwidth = 1.5 * wider.hbm_bandwidth;
  for (const std::string& name : memory_kernels()) {
    CAPTURE(name, rows, columns, sms);
    const Duration base = cost(shaped(name, rows, columns), calibration, sms).time;
    REQUIRE(cost(shaped(name, rows + 1, columns), calibration, sms).time + kRounding >= base);
    REQUIRE(cost(shaped(name, rows, columns + 1), calibration, sms).time + kRounding >= base);
    REQUIRE(cost(shaped(name, rows, columns), calibration, sms + 1).time <= base + kRounding);
    REQUIRE(cost(shaped(name, rows, columns), calibration, sms, wider).time <= base + kRounding);
  }
}

TEST_CASE(
    "the parts of a kernel that moves memory add up to its cycles, and its cycles to its time",
    "[ops][property]") {
  const std::int64_t rows = GENERATE(1, 130, 5'000, 30'000);
  const int sms = GENERATE(7, 84, 100);
  for (const std::string& name : memory_kernels()) {
    CAPTURE(name, rows, sms);
    const KernelCost c = cost(shaped(name, rows, 4096), busy_calibration(), sms);
    double sum = 0;
    double longest = 0;
    for (const KernelPart& part : c.parts) {
      REQUIRE(part.cycles >= 0);
      REQUIRE((part.cycles > 0) == !part.name.empty());
      sum += part.cycles;
      longest = std::max(longest, part.cycles);
    }
    REQUIRE(c.cycles == Approx(sum).epsilon(1e-12));
    REQUIRE(to_seconds(c.time) == Approx(c.cycles / c.clock.count()).epsilon(1e-6));
    // What limits it is its largest part.
    const std::map<std::string_view, Limit> limits = {{"launch", Limit::kLatency},
                                                      {"hbm", Limit::kHbm},
                                                      {"in_flight", Limit::kLatency},
                                                      {"issue", Limit::kIssue},
                                                      {"idle", Limit::kOccupancy}};
    for (const KernelPart& part : c.parts) {
      if (part.cycles == longest) REQUIRE(c.limited_by == limits.at(part.name));
    }
  }
}

TEST_CASE("streaming takes its bytes over its share of the HBM, conversion over its SMs'",
          "[ops]") {
  CalibrationSpec calibration = ideal_calibration();
  calibration.link.hbm.value = 0.8;
  calibration.memory.conversion_bytes_per_cycle.value = 5;
  calibration.latency.kernel_us.value = 3;
  // 1 MB read and written at 0.8 MB/us.
  const KernelCost copy = cost(memory_operation("copy_strided", {1000, 500}), calibration);
  REQUIRE(microseconds_of(copy) == Approx(3 + 2 / 0.8));
  REQUIRE(copy.limited_by == Limit::kLatency);
  // 2 MB read, 1 MB and 8 FP32 scales a row written by 100 SMs at 5 bytes a nanosecond: 0.5 MB/us.
  const KernelCost cast = cost(memory_operation("cast_fp8_1x128", {1000, 1000}), calibration);
  REQUIRE(microseconds_of(cast) == Approx(3 + 3.032 / 0.5));
  REQUIRE(cast.limited_by == Limit::kIssue);
  // Scales that are powers of two have a rate of their own.
  calibration.memory.dispatch_bytes_per_cycle.value = 2;
  Operation dispatched = memory_operation("cast_fp8_1x128", {1000, 1000});
  dispatched.power_of_two = true;
  REQUIRE(microseconds_of(cost(dispatched, calibration)) == Approx(3 + 3.032 / 0.2));
  REQUIRE(
      kind_of("cast_fp8_1x128").make("cast_fp8_1x128", std::vector<std::int64_t>{1000, 1000, 1}) ==
      dispatched);
  REQUIRE_THROWS_WITH(
      kind_of("cast_fp8_1x128").make("cast_fp8_1x128", std::vector<std::int64_t>{1000, 1000, 2}),
      Contains("cast_fp8_1x128: power_of_two must be 0 or 1, not 2"));
}

TEST_CASE("a pointwise kernel finds one operand in L2, or as much of it as fits", "[ops]") {
  GpuSpec gpu = round_gpu();
  gpu.l2_capacity = Bytes(GENERATE(0, 1'000'000, 2'000'000, 50'000'000));
  const Operation addition =
      kind_of("elementwise").make("elementwise", std::vector<std::int64_t>{1000, 1000, 2, 1, 2});
  const KernelCost sum = cost(addition, ideal_calibration(), 100, gpu);
  const Bytes tensor(2'000'000);
  REQUIRE(sum.hbm_bytes == 3 * tensor - std::min(tensor, gpu.l2_capacity));
  REQUIRE(sum.time == sum.hbm_bytes / gpu.hbm_bandwidth);
}

TEST_CASE("few SMs move what they have in flight", "[ops]") {
  CalibrationSpec calibration = ideal_calibration();
  calibration.memory.sm_bytes_per_cycle.value = 20;
  const Operation copy = memory_operation("copy_strided", {1000, 50'000});  // 200 MB
  // 20 bytes a nanosecond: 50 SMs reach the HBM's terabyte per second.
  REQUIRE(microseconds_of(cost(copy, calibration, 50)) == Approx(200));
  REQUIRE(microseconds_of(cost(copy, calibration, 100)) == Approx(200));
  const KernelCost few = cost(copy, calibration, 10);
  REQUIRE(microseconds_of(few) == Approx(1000));
  REQUIRE(few.limited_by == Limit::kLatency);

  // Casts move less per SM: 3 bytes an element and 100 scales a row at 50 bytes a nanosecond.
  calibration.memory.conversion_bytes_per_cycle.value = 5;
  const KernelCost cast = cost(memory_operation("uncast_fp8", {1000, 12'800}), calibration, 10);
  REQUIRE(microseconds_of(cast) == Approx((3 * 12.8e6 + 4 * 100e3) / 50e3));
  REQUIRE(cast.limited_by == Limit::kIssue);
}

TEST_CASE("tiles that are scaled and transposed come two to an SM, wave after wave", "[ops]") {
  CalibrationSpec calibration = ideal_calibration();
  calibration.memory.tile_cycles.value = 10'000;  // 10 us at 1 GHz, 48 KiB a tile
  const auto time = [&](const char* op, std::int64_t tiles, int sms) {
    return cost(memory_operation(op, {tiles * 128, 128}), calibration, sms);
  };
  const KernelCost full = time("cast_transpose_fp8_128x1", 40, 10);
  REQUIRE(microseconds_of(full) == Approx(2 * 10));
  REQUIRE(full.tiling.blocks == 40);
  REQUIRE(full.tiling.waves == 2);
  REQUIRE(full.limited_by == Limit::kIssue);
  // One tile more is one wave more, of which 19 of 20 places idle.
  const KernelCost more = time("cast_transpose_fp8_128x1", 41, 10);
  REQUIRE(microseconds_of(more) == Approx(3 * 10));
  REQUIRE(more.parts[0].name == "launch");
  // Gate and up for every output tile of SwiGLU.
  REQUIRE(microseconds_of(time("swiglu_recompute_and_cast_transpose", 40, 10)) == Approx(4 * 10));
}

TEST_CASE(
    "a norm's thread blocks are three per SM of the whole GPU, so fewer SMs leave a part-filled "
    "last wave",
    "[ops]") {
  CalibrationSpec calibration = ideal_calibration();
  calibration.memory.norm_cycles.value = 2;
  const double alone = GENERATE(0., 0.25, 1.);
  calibration.memory.norm_alone.value = alone;
  const Operation norm = memory_operation("rmsnorm_fwd", {3000, 1000});
  // 300 blocks of 10 rows, three of them on an SM; a row of 1,000 elements that are read and
  // written takes a full SM 4,000 cycles.
  const double wave_us = 3 * 10 * 4;
  REQUIRE(microseconds_of(cost(norm, calibration, 100)) == Approx(wave_us));
  // Three blocks of 300 find no place on 99 SMs and run by themselves after the others.
  const KernelCost fewer = cost(norm, calibration, 99);
  const double one_us = wave_us * (alone + (1 - alone) / 3);
  REQUIRE(microseconds_of(fewer) == Approx(wave_us + one_us));
  REQUIRE(fewer.tiling.blocks == 300);
  REQUIRE(fewer.tiling.waves == 2);
  REQUIRE(microseconds_of(cost(norm, calibration, 75)) == Approx(wave_us + one_us));
  // 54 SMs run 162 in a wave and leave 138: three for some of them.
  REQUIRE(microseconds_of(cost(norm, calibration, 54)) == Approx(2 * wave_us));

  // Backward, rows of 7,168 elements run one block per SM: a second wave for the hundredth.
  const Operation backward = memory_operation("rmsnorm_bwd", {1000, 7168});
  const double backward_us = 7.168 * 3 * 2;
  REQUIRE(microseconds_of(cost(backward, calibration, 100)) == Approx(10 * backward_us));
  REQUIRE(microseconds_of(cost(backward, calibration, 99)) == Approx(20 * backward_us));
}

TEST_CASE("selection passes over every row, sixteen times for the largest scores", "[ops]") {
  CalibrationSpec calibration = ideal_calibration();
  calibration.memory.selection_cycles.value = 1000;
  // 40 rows an SM, one microsecond per row and pass.
  REQUIRE(microseconds_of(cost(memory_operation("group_topk_sum", {4000, 256, 8}), calibration)) ==
          Approx(40));
  REQUIRE(microseconds_of(cost(memory_operation("topk", {4000, 256, 8}), calibration)) ==
          Approx(16 * 40));
  REQUIRE(microseconds_of(cost(memory_operation("topk", {4001, 256, 8}), calibration)) ==
          Approx(16 * 41));
}

TEST_CASE("a scan takes as long on any number of SMs", "[ops]") {
  CalibrationSpec calibration = ideal_calibration();
  calibration.memory.scan_cycles.value = 2;
  const int sms = GENERATE(1, 100);
  REQUIRE(microseconds_of(cost(memory_operation("expert_count", {50'000, 4}), calibration, sms)) ==
          Approx(100));
  REQUIRE(microseconds_of(cost(memory_operation("permute_map", {50'000, 9}), calibration, sms)) ==
          Approx(200));
}

TEST_CASE("elements cost SM cycles where they are packed, rotated, repeated or transposed",
          "[ops]") {
  CalibrationSpec calibration = ideal_calibration();
  calibration.memory.packing_cycles.value = 50;
  calibration.memory.unpacking_cycles.value = 100;
  calibration.memory.repetition_cycles.value = 10;
  calibration.memory.rotation_cycles.value = 20;
  calibration.memory.scale_cycles.value = 3;
  // 1,280,000 elements on 100 SMs.
  REQUIRE(microseconds_of(cost(memory_operation("uncast_e5m6", {1000, 1280}), calibration)) ==
          Approx(1280));
  REQUIRE(microseconds_of(cost(memory_operation("cast_e5m6", {1000, 1280}), calibration)) ==
          Approx(640));
  REQUIRE(microseconds_of(cost(memory_operation("rope", {1000, 1280}), calibration)) ==
          Approx(256));
  // One FP32 tensor to 11: ten of them are repetitions.
  REQUIRE(microseconds_of(cost(memory_operation("elementwise", {1000, 128, 1, 11, 4}),
                               calibration)) == Approx(128));
  REQUIRE(microseconds_of(cost(memory_operation("elementwise", {1000, 1280, 1, 1, 4}),
                               calibration)) == Approx(1.28 * 4));  // its input is in L2
  // 8 blocks of 128 rows and 10 scales.
  REQUIRE(microseconds_of(cost(memory_operation("transpose_scales", {1024, 1280}), calibration)) ==
          Approx(128 * 10 * 3 * 1e-3));
  // A row's 128 scales take no longer than 64, 192 of them are two blocks that run at once.
  const std::int64_t scales = GENERATE(64, 100, 128, 192, 256);
  REQUIRE(microseconds_of(cost(memory_operation("transpose_scales", {1024, 128 * scales}),
                               calibration)) == Approx(128 * 64 * 3 * 1e-3));
}

TEST_CASE("every kernel that moves memory is made from its options as a layer makes it",
          "[ops][operations]") {
  std::map<std::string, int> seen;
  const auto check = [&](const Operation& o, const std::vector<std::int64_t>& values) {
    const std::string name(o.op);
    const KernelKind& kind = kind_of(name);
    CAPTURE(name, o.label);
    REQUIRE(kind.options.size() == values.size());
    const Operation made = kind.make(o.op, values);
    REQUIRE(made.op == o.op);
    REQUIRE(made.read == o.read);
    REQUIRE(made.written == o.written);
    REQUIRE(made.m == o.m);
    REQUIRE(made.n == o.n);
    REQUIRE(made.precision == o.precision);
    REQUIRE(made.power_of_two == o.power_of_two);
    ++seen[name];
  };
  PlanSpec bf16 = bf16_plan();
  PlanSpec keep = deepseek_v3_plan();
  keep.recompute.moe_act = false;
  for (const PlanSpec& plan : {deepseek_v3_plan(), bf16, keep}) {
    const ModelSpec model = deepseek_v3();
    const LayerLoad load = balanced_load(model, plan, kSequence);
    const std::int64_t choices = load.received_tokens * model.num_experts_per_tok;
    std::vector<Operation> all = optimizer_operations(plan, {1'000'000, 16'384});
    for (const LayerKind layer_kind : {LayerKind::kEmbedding, LayerKind::kMoe, LayerKind::kHead}) {
      for (const auto& phase : layer_operations(model, plan, layer_kind, load).phases) {
        all.insert(all.end(), phase.begin(), phase.end());
      }
    }
    for (const Operation& o : all) {
      if (is_product(o) || o.op == "attention_fwd" || o.op == "attention_bwd") continue;
      if (o.op == "ep_dispatch" || o.op == "ep_combine") continue;
      const std::size_t extents = kind_of(std::string(o.op)).options.size();
      // FP8 rows and inputs kept in BF16 are the plan's choice, not an extent.
      const bool kept_bf16 = o.op == "swiglu_bwd_shared";
      const bool from_fp8 = o.op == "cast_transpose_fp8_128x1" && o.read < 2 * Bytes(o.m * o.n);
      if ((kept_bf16 && plan.precision.gemm != Precision::kBf16) || from_fp8) continue;
      if (o.op == "elementwise") {
        const std::int64_t element = o.precision == Precision::kBf16 ? 2 : 4;
        const std::int64_t tensor = o.m * o.n * element;
        check(o, {o.m, o.n, o.read.count() / tensor, o.written.count() / tensor, element});
      } else if (o.op == "cast_fp8_1x128") {
        check(o, {o.m, o.n, o.power_of_two ? 1 : 0});
      } else if (o.op == "topk") {
        check(o, {o.m, o.n, model.num_experts_per_tok});
      } else if (o.op == "group_topk_sum") {
        check(o, {o.m, o.n, model.n_group});
      } else if (o.op == "swiglu_weight_bwd") {
        check(o, {o.m, o.n, choices});
      } else if (o.op == "attention_bwd_preprocess") {
        check(o, {o.m, o.n, 192, 128});
      } else if (o.op == "ep_layout") {
        check(o, {o.m, o.n, model.n_routed_experts + load.ep});
      } else if (extents == 3) {
        check(o, {o.m, o.n, load.received_tokens});
      } else if (extents == 2) {
        check(o, {o.m, o.n});
      } else {
        REQUIRE(extents == 1);
        check(o, {o.n});
      }
    }
  }
  for (const std::string& name : memory_kernels()) {
    CAPTURE(name);
    REQUIRE(seen[name] > 0);
  }
}

TEST_CASE("shapes that make no sense are refused", "[ops]") {
  REQUIRE_THROWS_WITH(memory_operation("gemm_bf16", {1, 1}),
                      "gemm_bf16 is no kernel that moves memory");
  REQUIRE_THROWS_WITH(memory_operation("rope", {1}), "rope has 2 extents, not 1");
  REQUIRE_THROWS_WITH(memory_operation("rope", {1, -2}),
                      "rope: an extent must not be negative: -2");
  const std::vector<std::int64_t> odd = {1, 1, 1, 1, 3};
  REQUIRE_THROWS_WITH(kind_of("elementwise").make("elementwise", odd),
                      "elementwise: element_bytes must be 2 or 4, not 3");
}
