#include <catch2/catch.hpp>
#include <numeric>
#include <vector>

#include "machines.hpp"
#include "model/operations/attention_shapes.hpp"
#include "model/ops/attention_machine.hpp"
#include "model/ops/clock.hpp"
#include "model/ops/kernel_cost.hpp"

using namespace pipecast;
using namespace pipecast::testing;

namespace {

constexpr std::int64_t kBlock = 128;  // queries of a thread block (backward: keys)
constexpr std::int64_t kTurn = 64;    // keys of a turn (backward: queries)
constexpr std::int64_t kPage = 64;    // keys of a page
constexpr double kNever = 1e30;       // bytes per second that never limit

/// The operation that the named options of the command line describe; the rest as they default.
Operation made(std::string_view op,
               const std::vector<std::pair<std::string_view, std::int64_t>>& given) {
  const KernelKind& kind = Registry<KernelKind>::instance().find(op);
  std::vector<std::int64_t> values;
  for (const KernelOption& option : kind.options) {
    std::optional<std::int64_t> value = option.fallback;
    for (const auto& [name, number] : given) {
      if (name == option.name) value = number;
    }
    REQUIRE(value);
    values.push_back(*value);
  }
  return kind.make(op, values);
}

Operation prefill(std::int64_t heads, std::int64_t sequence, std::int64_t causal = 1) {
  return made("attention_fwd", {{"heads", heads}, {"sequence", sequence}, {"causal", causal}});
}

/// The round GPU with a clock that load draws down, below the vendor's.
GpuSpec throttling_gpu() {
  GpuSpec gpu = round_gpu();
  gpu.max_clock = Frequency(1.1e9);
  return gpu;
}

CalibrationSpec throttling_calibration() {
  CalibrationSpec c = ideal_calibration();
  c.clock.loaded_ghz.value = 0.9;
  c.clock.settling_us.value = 1000;
  return c;
}

/// Calibrated like no kernel in particular, so that every part of the model counts.
CalibrationSpec some_calibration() {
  CalibrationSpec c = throttling_calibration();
  AttentionConstants& a = c.attention;
  a.launch_us.value = 4;
  a.forward_exposed.value = 0.6;
  a.forward_exposed_fp8.value = 1.1;
  a.forward_tile_cycles.value = 4000;
  a.backward_exposed.value = 0.9;
  a.decode_exposed.value = 2;
  a.decode_exposed_fp8.value = 3;
  a.decode_page_cycles.value = 300;
  a.decode_sequence_cycles.value = 6000;
  a.decode_split_us.value = 0.06;
  a.cache_hbm.value = 0.9;
  a.operand_hbm.value = 0.6;
  return c;
}

GpuSpec gpu_without_hbm_limit() {
  GpuSpec gpu = round_gpu();
  gpu.hbm_bandwidth = Bandwidth(kNever);
  return gpu;
}

KernelCost ideal(const Operation& op, int sms, const GpuSpec& gpu = gpu_without_hbm_limit()) {
  return kernel_cost(op, gpu, ideal_calibration(), sms);
}

Duration some_time(const Operation& op, int sms, const GpuSpec& gpu = throttling_gpu()) {
  return kernel_cost(op, gpu, some_calibration(), sms).time;
}

double sum_of_parts(const KernelCost& cost) {
  return std::accumulate(cost.parts.begin(), cost.parts.end(), 0.0,
                         [](double sum, const KernelPart& p) { return sum + p.cycles; });
}

/// Products over a block of queries (keys) and a turn of keys (queries), 1,000 FLOP per cycle.
double turn_cycles(double widths) { return 2.0 * kBlock * kTurn * widths / 1000; }

const std::vector<std::string_view> kKinds = {"attention_fwd", "attention_bwd", "attention_decode"};

constexpr Duration kRounding = picoseconds(1);

}  // namespace

TEST_CASE("attention is never faster than its roofline", "[ops][attention][property]") {
  const GpuSpec gpu = GENERATE(round_gpu(), throttling_gpu());
  const int sms = GENERATE(1, 37, 100);
  const std::int64_t heads = GENERATE(1, 8, 100, 128);
  const std::int64_t batch = GENERATE(1, 3, 40);
  const std::int64_t sequence = GENERATE(1, 65, 1000, 4096);
  const std::int64_t cache = GENERATE(0, 1, 2);
  for (const std::string_view kind : kKinds) {
    CAPTURE(kind, sms, heads, batch, sequence, cache);
    const Operation op = made(
        kind, {{"heads", heads}, {"batch", batch}, {"sequence", sequence}, {"kv_dtype", cache}});
    const KernelCost cost = kernel_cost(op, gpu, throttling_calibration(), sms);
    REQUIRE(cost.flops == op.flops);
    REQUIRE(cost.hbm_bytes == op.read + op.written);
    REQUIRE(cost.time + kRounding >= cost.hbm_bytes / gpu.hbm_bandwidth);
    REQUIRE(cost.time + kRounding >= op.flops / gpu.tensor_peak(op.precision, sms));
  }
}

TEST_CASE("attention over whole sequences never gets faster with more of anything",
          "[ops][attention][property]") {
  const auto kind = GENERATE(as<std::string_view>{}, "attention_fwd", "attention_bwd");
  const int sms = GENERATE(1, 20, 99);
  const std::int64_t heads = GENERATE(1, 5, 132);
  const std::int64_t batch = GENERATE(1, 2);
  const std::int64_t sequence = GENERATE(1, 128, 700, 2048);
  const std::int64_t step = GENERATE(0, 64, 1000);
  CAPTURE(kind, sms, heads, batch, sequence, step);
  const auto time = [&](std::int64_t h, std::int64_t b, std::int64_t s, std::int64_t t) {
    return some_time(made(kind, {{"heads", h}, {"batch", b}, {"sequence", s}, {"step", t}}), sms);
  };
  const Duration base = time(heads, batch, sequence, step);
  REQUIRE(time(heads + 1, batch, sequence, step) + kRounding >= base);
  REQUIRE(time(heads, batch + 1, sequence, step) + kRounding >= base);
  REQUIRE(time(heads, batch, sequence + 1, step) + kRounding >= base);
  REQUIRE(time(heads, batch, sequence + kBlock, step) + kRounding >= base);
  REQUIRE(time(heads, batch, sequence, step + kTurn) + kRounding >= base);
}

TEST_CASE("decoding never gets faster with twice of anything", "[ops][attention][property]") {
  // Cutting sequences anew, as one more page or sequence may make it, can win a little.
  const int sms = GENERATE(1, 20, 99, 132);
  const std::int64_t heads = GENERATE(1, 16, 64, 128);
  const std::int64_t batch = GENERATE(1, 2, 30, 100, 500);
  const std::int64_t keys = GENERATE(1, 64, 1000, 5000, 40'000);
  CAPTURE(sms, heads, batch, keys);
  const auto time = [&](std::int64_t h, std::int64_t b, std::int64_t k) {
    return some_time(made("attention_decode", {{"heads", h}, {"batch", b}, {"sequence", k}}), sms);
  };
  const Duration base = time(heads, batch, keys);
  REQUIRE(time(2 * heads, batch, keys) >= base);
  REQUIRE(time(heads, 2 * batch, keys) >= base);
  REQUIRE(time(heads, batch, 2 * keys) >= base);
}

TEST_CASE("attention is never slower with more SMs, bandwidth or a faster clock",
          "[ops][attention][property]") {
  const int sms = GENERATE(1, 20, 64, 99);
  const std::int64_t heads = GENERATE(1, 16, 128);
  const std::int64_t sequence = GENERATE(1, 1000, 4096);
  GpuSpec wider = throttling_gpu();
  wider.hbm_bandwidth = 2 * wider.hbm_bandwidth;
  GpuSpec faster = throttling_gpu();
  faster.tensor_clock = 2 * faster.tensor_clock;
  faster.max_clock = 2 * faster.max_clock;
  for (const std::string_view kind : kKinds) {
    CAPTURE(kind, sms, heads, sequence);
    const Operation op = made(kind, {{"heads", heads}, {"batch", 3}, {"sequence", sequence}});
    const Duration base = some_time(op, sms);
    REQUIRE(some_time(op, sms, wider) <= base + kRounding);
    REQUIRE(some_time(op, sms, faster) <= base + kRounding);
    const int more = kind == "attention_decode" ? 2 * sms : sms + 1;
    REQUIRE(some_time(op, more) <= base + kRounding);
  }
}

TEST_CASE("a causal mask saves time, and less than half of it", "[ops][attention][property]") {
  const auto kind = GENERATE(as<std::string_view>{}, "attention_fwd", "attention_bwd");
  const std::int64_t sequence = GENERATE(129, 1000, 4096, 10'000);
  const std::int64_t heads = GENERATE(1, 128);
  CAPTURE(kind, sequence, heads);
  const auto time = [&](std::int64_t causal) {
    return ideal(made(kind, {{"heads", heads}, {"sequence", sequence}, {"causal", causal}}), 100)
        .time;
  };
  REQUIRE(time(1) <= time(0));
  if (heads > 100) REQUIRE(time(1) < time(0));  // else the longest block may decide
  REQUIRE(2 * time(1) > time(0));
}

TEST_CASE("a block of queries multiplies with every block of keys", "[ops][attention]") {
  const std::int64_t keys = GENERATE(128, 1000, 4096);
  CAPTURE(keys);
  const Operation op = made("attention_fwd", {{"heads", 1},
                                              {"sequence", kBlock},
                                              {"step", keys - kBlock},
                                              {"causal", 0},
                                              {"qk_dim", 192},
                                              {"v_dim", 128}});
  const double cycles = static_cast<double>(ceil_div(keys, kTurn)) * turn_cycles(192 + 128);
  const KernelCost cost = ideal(op, 1);
  REQUIRE(cost.cycles == Approx(cycles));
  REQUIRE(to_seconds(cost.time) == Approx(cycles / 1e9));
}

TEST_CASE("a causal block of queries sees the keys up to its last query", "[ops][attention]") {
  // Blocks of 128 queries need 2, 4, 6, ... turns of 64 keys; the mask cuts nothing from a turn.
  const std::int64_t blocks = GENERATE(1, 2, 10);
  const double turns = static_cast<double>(blocks * (blocks + 1));
  REQUIRE(ideal(prefill(1, blocks * kBlock), 1).cycles == Approx(turns * turn_cycles(320)));
  // A prefix of 64 keys is one turn more for each.
  const Operation op =
      made("attention_fwd", {{"heads", 1}, {"sequence", blocks * kBlock}, {"step", kTurn}});
  REQUIRE(ideal(op, 1).cycles == Approx((turns + static_cast<double>(blocks)) * turn_cycles(320)));
}

TEST_CASE("the backward pass runs five products over the same pairs", "[ops][attention]") {
  const std::int64_t blocks = GENERATE(1, 2, 10);
  const Operation op = made("attention_bwd", {{"heads", 1}, {"sequence", blocks * kBlock}});
  REQUIRE(ideal(op, 1).cycles ==
          Approx(static_cast<double>(blocks * (blocks + 1)) * turn_cycles(3 * 192 + 2 * 128)));
}

TEST_CASE("equal blocks go in waves: one more at k * SMs + 1", "[ops][attention]") {
  const int sms = GENERATE(1, 20, 100);
  const int waves = GENERATE(1, 2, 7);
  const double block = static_cast<double>(16) * turn_cycles(320);
  CAPTURE(sms, waves);
  const auto cost = [&](std::int64_t heads) {
    return ideal(
        made(
            "attention_fwd",
            {{"heads", heads}, {"sequence", kBlock}, {"step", 16 * kTurn - kBlock}, {"causal", 0}}),
        sms);
  };
  REQUIRE(cost(waves * sms).cycles == Approx(waves * block));
  REQUIRE(cost(waves * sms).tiling.waves == waves);
  REQUIRE(cost(waves * sms + 1).cycles == Approx((waves + 1) * block));
  REQUIRE(cost(waves * sms + 1).tiling.waves == waves + 1);
}

TEST_CASE("the longest causal block decides where every block has an SM", "[ops][attention]") {
  const std::int64_t blocks = GENERATE(2, 50, 100);
  const KernelCost cost = ideal(prefill(1, blocks * kBlock), 100);
  REQUIRE(cost.cycles == Approx(static_cast<double>(2 * blocks) * turn_cycles(320)));
  REQUIRE(cost.tiling.blocks == blocks);
}

TEST_CASE("what the tensor cores wait for adds to every turn and block", "[ops][attention]") {
  const std::int64_t blocks = 10;
  const double turns = static_cast<double>(blocks * (blocks + 1));
  CalibrationSpec c = ideal_calibration();
  const auto cycles = [&](std::string_view kind) {
    const Operation op = made(kind, {{"heads", 1}, {"sequence", blocks * kBlock}});
    return kernel_cost(op, gpu_without_hbm_limit(), c, 1).cycles;
  };
  const double forward = cycles("attention_fwd");
  const double backward = cycles("attention_bwd");

  c.attention.forward_tile_cycles.value = 5000;
  REQUIRE(cycles("attention_fwd") == Approx(forward + 5000 * static_cast<double>(blocks)));
  REQUIRE(cycles("attention_bwd") == Approx(backward + 5000 * static_cast<double>(blocks)));
  c.attention.forward_tile_cycles.value = 0;

  // 128 x 64 scores: 16 exponentials and 128 other operations per clock.
  const double scores = kBlock * kTurn;
  c.attention.forward_exposed.value = 0.5;
  REQUIRE(cycles("attention_fwd") ==
          Approx(forward + turns * 0.5 * scores * (1.0 / 16 + kForwardInstructions / 128)));
  // And 64 x 192 sums of FP32 through the L2: 5,120 bytes per clock for 100 SMs.
  c.attention.backward_exposed.value = 0.5;
  const double sums = 64 * 192 * 4 / 51.2;
  REQUIRE(
      cycles("attention_bwd") ==
      Approx(backward + turns * 0.5 * (scores * (1.0 / 16 + kBackwardInstructions / 128) + sums)));
}

TEST_CASE("a kernel chain pays its launches one after the other", "[ops][attention]") {
  CalibrationSpec c = ideal_calibration();
  const auto launches = [&](std::string_view kind, std::int64_t cache) {
    const Operation op = made(kind, {{"heads", 16}, {"sequence", 500}, {"kv_dtype", cache}});
    c.attention.launch_us.value = 0;
    const double without = to_microseconds(kernel_cost(op, round_gpu(), c, 100).time);
    c.attention.launch_us.value = 100;
    return (to_microseconds(kernel_cost(op, round_gpu(), c, 100).time) - without) / 100;
  };
  REQUIRE(launches("attention_fwd", 0) == Approx(1));
  REQUIRE(launches("attention_fwd", 1) == Approx(3));  // rotate, fill the cache
  REQUIRE(launches("attention_fwd", 2) == Approx(4));  // and rewrite the operands in FP8
  REQUIRE(launches("attention_bwd", 0) == Approx(1));
  REQUIRE(launches("attention_decode", 0) == Approx(2));  // attend, combine
}

TEST_CASE("long sequences are cut evenly for decoding", "[ops][attention]") {
  // 100 parts of 10 pages; FlashMLA counts the sequence's start as five pages.
  const Operation op = made("attention_decode", {{"heads", 64}, {"sequence", (1000 - 5) * kPage}});
  const double page = 2.0 * 64 * 64 * (576 + 512) / 1000;
  const KernelCost cost = ideal(op, 100);
  REQUIRE(cost.cycles == Approx(10 * page));
  REQUIRE(cost.limited_by == Limit::kTensor);
}

TEST_CASE("short sequences are decoded whole", "[ops][attention]") {
  const double page = 2.0 * 64 * 64 * (576 + 512) / 1000;
  // 100 parts; nobody is left over to be cut.
  const std::int64_t batch = GENERATE(99, 100, 200, 300);
  const Operation op =
      made("attention_decode", {{"heads", 64}, {"batch", batch}, {"sequence", 3 * kPage}});
  const double each = static_cast<double>(ceil_div(batch, 100));
  REQUIRE(ideal(op, 100).cycles == Approx(each * 3 * page));
  // The constants of pages and sequences count on the busiest SM.
  CalibrationSpec c = ideal_calibration();
  c.attention.decode_page_cycles.value = 1e5;
  c.attention.decode_sequence_cycles.value = 1e6;
  REQUIRE(kernel_cost(op, gpu_without_hbm_limit(), c, 100).cycles ==
          Approx(each * (3 * (page + 1e5) + 1e6)));
}

TEST_CASE("up to 64 heads decode in the time of 64, the next in half the parts",
          "[ops][attention]") {
  const auto cycles = [](std::int64_t heads) {
    return ideal(made("attention_decode",
                      {{"heads", heads}, {"batch", 100}, {"sequence", 40 * kPage}}),
                 100)
        .cycles;
  };
  REQUIRE(cycles(1) == cycles(64));
  REQUIRE(cycles(65) == cycles(128));
  REQUIRE(cycles(128) == Approx(2 * cycles(64)));
}

TEST_CASE("few heads wait for the pages of the cache", "[ops][attention]") {
  const Operation op = made("attention_decode",
                            {{"heads", 16}, {"batch", 100}, {"sequence", 10'000}, {"v_dim", 512}});
  CalibrationSpec c = ideal_calibration();
  c.attention.cache_hbm.value = 0.5;
  const KernelCost cost = kernel_cost(op, round_gpu(), c, 100);
  // Whole pages at half of 1 TB/s; queries and outputs before and after at all of it.
  const double pages = 100.0 * 157 * 64 * 576 * 2;
  const double queries_and_outputs = 100.0 * 16 * (576 + 512) * 2;
  REQUIRE(to_seconds(cost.time) == Approx(pages / 0.5e12 + queries_and_outputs / 1e12));
  REQUIRE(cost.limited_by == Limit::kHbm);
}

TEST_CASE("an FP8 cache halves tensor cycles and pages", "[ops][attention]") {
  const auto cost = [](std::int64_t cache, double bandwidth) {
    GpuSpec gpu = round_gpu();
    gpu.hbm_bandwidth = Bandwidth(bandwidth);
    return ideal(made("attention_decode",
                      {{"heads", 64}, {"batch", 100}, {"sequence", 64'000}, {"kv_dtype", cache}}),
                 100, gpu);
  };
  REQUIRE(cost(1, kNever).cycles == Approx(2 * cost(2, kNever).cycles));
  const double slow = 1e9;
  REQUIRE(to_seconds(cost(1, slow).time) / to_seconds(cost(2, slow).time) ==
          Approx(2).epsilon(0.01));  // beside the queries
}

TEST_CASE("key heads that several query heads share save bytes and no products",
          "[ops][attention]") {
  const auto cost = [](std::int64_t kv_heads) {
    return kernel_cost(
        made("attention_fwd",
             {{"heads", 32}, {"sequence", 4096}, {"kv_heads", kv_heads}, {"qk_dim", 128}}),
        round_gpu(), some_calibration(), 100);
  };
  REQUIRE(cost(8).cycles == cost(32).cycles);
  REQUIRE(cost(8).flops == cost(32).flops);
  REQUIRE(cost(8).hbm_bytes < cost(32).hbm_bytes);
}

TEST_CASE("the parts of an attention kernel add up to its cycles, and these to its time",
          "[ops][attention][property]") {
  const std::int64_t heads = GENERATE(1, 128);
  const std::int64_t sequence = GENERATE(1, 500, 8192);
  const std::int64_t cache = GENERATE(0, 1, 2);
  for (const std::string_view kind : kKinds) {
    CAPTURE(kind, heads, sequence, cache);
    const Operation op =
        made(kind, {{"heads", heads}, {"batch", 2}, {"sequence", sequence}, {"kv_dtype", cache}});
    const KernelCost cost = kernel_cost(op, throttling_gpu(), some_calibration(), 100);
    REQUIRE(sum_of_parts(cost) == Approx(cost.cycles).epsilon(1e-12));
    REQUIRE(to_seconds(cost.time) == Approx(cost.cycles / cost.clock.count()));
    for (const KernelPart& part : cost.parts) REQUIRE(part.cycles >= 0);
    REQUIRE(cost.clock <= throttling_gpu().max_clock);
    REQUIRE(cost.clock.count() >= some_calibration().clock.loaded_ghz.value * 1e9);
  }
}

TEST_CASE("attention says what limits it", "[ops][attention]") {
  const auto limit = [](const Operation& op, const CalibrationSpec& c) {
    return name_of(kernel_cost(op, round_gpu(), c, 100).limited_by);
  };
  REQUIRE(limit(prefill(100, 8192), ideal_calibration()) == "tensor");
  // 101 equal blocks: the second wave is one block on one SM.
  CalibrationSpec c = ideal_calibration();
  REQUIRE(limit(made("attention_fwd", {{"heads", 10}, {"sequence", kBlock}, {"step", 8192}}), c) ==
          "occupancy");
  c.attention.launch_us.value = 1000;
  REQUIRE(limit(prefill(1, 1), c) == "latency");
  c.attention.launch_us.value = 0;
  c.attention.forward_exposed.value = 9;
  REQUIRE(limit(prefill(100, 8192), c) == "issue");
  c.attention.cache_hbm.value = 0.5;
  REQUIRE(limit(made("attention_decode", {{"heads", 1}, {"batch", 100}, {"sequence", 9000}}), c) ==
          "hbm");
}

TEST_CASE("attention draws the clock down as any load of the tensor cores does",
          "[ops][attention]") {
  const GpuSpec gpu = throttling_gpu();
  const CalibrationSpec c = throttling_calibration();
  const double cycles = GENERATE(1e4, 1e6, 1e8);
  const double share = GENERATE(0.0, 0.25, 0.5);
  const int sms = GENERATE(25, 100);
  CAPTURE(cycles, share, sms);
  // A load of the whole chip: SMs that do not run the kernel draw nothing.
  REQUIRE(attention_clock(gpu, c, sms, share * cycles, cycles) ==
          sustained_clock(gpu, c, share * sms / 100, cycles / 1.1e9));
}

TEST_CASE("tensor cores that never idle stay within the vendor's clock", "[ops][attention]") {
  const GpuSpec gpu = throttling_gpu();
  const double moment = 1000;
  REQUIRE(attention_clock(gpu, throttling_calibration(), 100, moment, moment) == gpu.tensor_clock);
  REQUIRE(attention_clock(gpu, throttling_calibration(), 100, 0, moment) == gpu.max_clock);
  REQUIRE(attention_clock(gpu, throttling_calibration(), 100, 0, 0) == gpu.max_clock);
}

TEST_CASE("attention without queries takes its launch", "[ops][attention]") {
  const Operation op = attention_forward_operation(
      {.heads = 16, .kv_heads = 16, .qk_dim = 192, .v_dim = 128, .causal = true});
  REQUIRE(some_time(op, 100) == microseconds(4));
}

TEST_CASE("FP8 attention is refused where the tensor cores know no FP8", "[ops][attention]") {
  GpuSpec a100 = round_gpu();
  a100.name = "a100";
  a100.fp8_flop_per_clock_per_sm = 0;
  const auto kind = GENERATE(as<std::string_view>{}, "attention_fwd", "attention_decode");
  const Operation op = made(kind, {{"heads", 16}, {"sequence", 100}, {"kv_dtype", 2}});
  REQUIRE_THROWS_WITH(some_time(op, 100, a100),
                      "a100 has no fp8 tensor cores for " + std::string(kind));
  REQUIRE_NOTHROW(
      some_time(made(kind, {{"heads", 16}, {"sequence", 100}, {"kv_dtype", 1}}), 100, a100));
}

TEST_CASE("shapes that cannot be are refused", "[ops][attention]") {
  REQUIRE_THROWS_WITH(made("attention_fwd", {{"heads", 0}, {"sequence", 8}}),
                      "attention_fwd: extents must be positive and kv_heads divide heads: heads=0 "
                      "batch=1 sequence=8 kv_heads=0 step=0 qk_dim=192 v_dim=128");
  REQUIRE_THROWS_WITH(
      made("attention_bwd", {{"heads", 8}, {"sequence", 8}, {"kv_heads", 3}}),
      Catch::StartsWith("attention_bwd: extents must be positive and kv_heads divide heads"));
  REQUIRE_THROWS_WITH(
      made("attention_decode", {{"heads", 8}, {"sequence", 8}, {"v_dim", 600}}),
      "attention_decode: extents must be positive and the values a part of the keys: heads=8 "
      "batch=1 sequence=8 step=0 qk_dim=576 v_dim=600");

  Operation op = prefill(8, 100);
  op.attention.keys = 99;
  REQUIRE_THROWS_WITH(some_time(op, 100), "attention_fwd: 99 keys are fewer than the 100 queries");
  op = prefill(8, 100);
  op.attention.kv_heads = 3;
  REQUIRE_THROWS_WITH(some_time(op, 100), "attention_fwd: 8 heads are no multiple of 3 kv_heads");
  op = prefill(8, 100);
  op.attention.batch = -1;
  REQUIRE_THROWS_WITH(
      some_time(op, 100),
      "attention_fwd: no such shape: batch=-1 heads=8 queries=100 qk_dim=192 v_dim=128");
  op = made("attention_decode", {{"heads", 8}, {"sequence", 100}});
  op.attention.queries = 2;
  REQUIRE_THROWS_WITH(some_time(op, 100),
                      "attention_decode: sequences have one query each and one head of latents: "
                      "batch=1 queries=2 kv_heads=1");
}
