#include <catch2/catch.hpp>
#include <vector>

#include "base/error.hpp"
#include "machines.hpp"
#include "model/operations/exchange_shapes.hpp"
#include "model/operations/memory_shapes.hpp"
#include "model/ops/exchange.hpp"
#include "model/ops/kernel_cost.hpp"

using namespace pipecast;
using namespace pipecast::testing;

namespace {

/// 1 GB/s an SM and round costs for all the rest.
CalibrationSpec round_calibration() {
  CalibrationSpec c = ideal_calibration();
  c.communication.bytes_per_second_per_sm.value = 1e9;
  c.communication.dispatch_us.value = 20;
  c.communication.combine_us.value = 30;
  c.communication.token_us.value = 0.5;
  c.communication.copy_us.value = 0.25;
  c.communication.sum_copy.value = 3;
  c.communication.node_copy.value = 2;
  return c;
}

/// 100 tokens to 5 GPUs each on 2 nodes, 1,000 bytes a copy.
ExchangeShape round_exchange(Exchange kind) {
  return {.kind = kind, .tokens = 100, .gpu_copies = 500, .node_copies = 200, .copy = Bytes(1000)};
}

Operation made(const char* op, std::int64_t tokens, std::int64_t hidden, std::int64_t nodes) {
  const std::vector<std::int64_t> values = {tokens, hidden, 8, 256, nodes, 8, 0};
  return Registry<KernelKind>::instance().find(op).make(op, values);
}

KernelCost cost(const Operation& op, const CalibrationSpec& calibration, int sms,
                const GpuSpec& gpu = round_gpu()) {
  return kernel_cost(op, gpu, calibration, sms);
}

constexpr Duration kRounding = picoseconds(1);

}  // namespace

TEST_CASE("a dispatch costs its SMs tokens, copies and bytes, a combine bytes and sums", "[ops]") {
  const CommunicationConstants constants = round_calibration().communication;
  const int sms = GENERATE(1, 5, 20);
  const ExchangeWork dispatch = exchange_work(round_exchange(Exchange::kDispatch), constants, sms);
  REQUIRE(dispatch.start == microseconds(20));
  // 1 us a copy; to another node two copies' time more.
  REQUIRE(to_microseconds(dispatch.moving) ==
          Approx((100 * 0.5 + 500 * 0.25 + 500 + 2 * 200) / sms));
  const ExchangeWork combine = exchange_work(round_exchange(Exchange::kCombine), constants, sms);
  REQUIRE(combine.start == microseconds(30));
  REQUIRE(to_microseconds(combine.moving) == Approx((500 + 2 * 2 * 200 + 3 * 100) / double(sms)));
  REQUIRE_THROWS_WITH(exchange_work({}, constants, 0), "an exchange kernel needs an SM");
}

TEST_CASE("the half of the SMs that receives runs a chunk behind the half that sends", "[ops]") {
  CommunicationConstants constants = round_calibration().communication;
  const auto kind = GENERATE(Exchange::kDispatch, Exchange::kCombine);
  const int sms = GENERATE(1, 5, 20);
  const ExchangeShape shape = round_exchange(kind);
  const Duration moving = exchange_work(shape, constants, sms).moving;
  REQUIRE(exchange_work(shape, constants, sms).filling == Duration());
  // Chunks of one token an SM: 1 + 100 / sms of them.
  constants.chunk_tokens.value = 1;
  const ExchangeWork chunked = exchange_work(shape, constants, sms);
  REQUIRE(to_microseconds(chunked.filling) ==
          Approx(to_microseconds(moving) / (1 + 100.0 / sms)).epsilon(1e-6));
  REQUIRE(chunked.moving == moving);
  // A chunk that holds everything passes the two halves one after the other.
  constants.chunk_tokens.value = 1e9;
  REQUIRE(to_microseconds(exchange_work(shape, constants, sms).filling) ==
          Approx(to_microseconds(moving)).epsilon(1e-6));
  // The first token takes as long as three take in passing, on however many SMs.
  constants.chunk_tokens.value = 0;
  constants.first_tokens.value = 3;
  REQUIRE(to_microseconds(exchange_work(shape, constants, sms).filling) ==
          Approx(to_microseconds(moving) * sms * 3 / 100).epsilon(1e-6));
}

TEST_CASE("dispatch and combine kernels are start and SM work, or HBM where SMs are many",
          "[ops]") {
  const auto* const op = GENERATE("ep_dispatch", "ep_combine");
  CalibrationSpec calibration = round_calibration();
  calibration.communication.chunk_tokens.value = 6;
  const Operation exchange = made(op, 4096, 7168, 2);
  const KernelCost slow = cost(exchange, calibration, 20);
  const ExchangeWork work = exchange_work(exchange.exchange, calibration.communication, 20);
  REQUIRE(slow.time == work.start + work.filling + work.moving);
  REQUIRE(slow.limited_by == Limit::kIssue);
  REQUIRE(slow.cycles ==
          Approx(slow.parts[0].cycles + slow.parts[1].cycles + slow.parts[2].cycles));
  REQUIRE(to_seconds(slow.time) == Approx(slow.cycles / slow.clock.count()));

  calibration.communication.bytes_per_second_per_sm.value = 1e15;
  calibration.communication.token_us.value = 0;
  calibration.communication.copy_us.value = 0;
  calibration.communication.chunk_tokens.value = 0;
  const KernelCost wide = cost(exchange, calibration, 100);
  REQUIRE(wide.limited_by == Limit::kHbm);
  REQUIRE(wide.time == work.start + wide.hbm_bytes / round_gpu().hbm_bandwidth);
  REQUIRE(wide.hbm_bytes >= 2 * (exchange.read + exchange.written));
}

TEST_CASE("dispatch and combine grow with tokens and width and shrink with SMs",
          "[ops][property]") {
  const auto* const op = GENERATE("ep_dispatch", "ep_combine");
  const std::int64_t tokens = GENERATE(1, 128, 4096);
  const std::int64_t hidden = GENERATE(128, 7168);
  const std::int64_t nodes = GENERATE(1, 2, 4);
  const int sms = GENERATE(1, 4, 23);
  CalibrationSpec calibration = round_calibration();
  calibration.communication.first_tokens.value = 2;
  calibration.communication.chunk_tokens.value = 6;
  const Duration base = cost(made(op, tokens, hidden, nodes), calibration, sms).time;
  REQUIRE(cost(made(op, tokens + 1, hidden, nodes), calibration, sms).time >= base);
  REQUIRE(cost(made(op, tokens, hidden + 1, nodes), calibration, sms).time >= base);
  REQUIRE(cost(made(op, tokens, hidden, 2 * nodes), calibration, sms).time >= base);
  REQUIRE(cost(made(op, tokens, hidden, nodes), calibration, sms + 1).time <= base + kRounding);
}

TEST_CASE("even draws find the owners that counting finds", "[operations]") {
  // Two draws of four experts, two to an owner: the second falls on the other owner in 2 of 3
  // cases.
  REQUIRE(expected_owners(4, 2, 2) == Approx(1 + 2.0 / 3));
  REQUIRE(expected_owners(8, 1, 3) == Approx(3));  // never twice the same
  REQUIRE(expected_owners(8, 2, 8) == Approx(4));  // all of them
  REQUIRE(expected_owners(8, 8, 5) == Approx(1));  // only one owner
}

TEST_CASE("an exchange sends a token once to every GPU and node of its experts", "[operations]") {
  const ExchangeGroup one{
      .tokens = 100, .hidden = 256, .top_k = 8, .experts = 64, .nodes = 1, .gpus_per_node = 8};
  const ExchangeShape inside = even_exchange(Exchange::kDispatch, one, Precision::kFp8);
  REQUIRE(inside.gpu_copies == Approx(100 * expected_owners(64, 8, 8)));
  REQUIRE(inside.node_copies == 0);
  REQUIRE(inside.copy == Bytes(256 + 2 * 4));  // two FP32 scales

  ExchangeGroup four = one;
  four.nodes = 4;
  const ExchangeShape across = even_exchange(Exchange::kCombine, four, Precision::kBf16);
  REQUIRE(across.gpu_copies == Approx(100 * expected_owners(64, 2, 8)));
  REQUIRE(across.node_copies == Approx(100 * expected_owners(64, 16, 8)));
  REQUIRE(across.copy == Bytes(512));
  // Two of four nodes: 32 experts to choose from.
  four.node_limit = 2;
  REQUIRE(even_exchange(Exchange::kCombine, four, Precision::kBf16).node_copies ==
          Approx(100 * expected_owners(32, 16, 8)));

  const Operation combine = exchange_operation(inside, 256, Precision::kBf16);
  REQUIRE(combine.op == "ep_dispatch");
  REQUIRE(combine.read == stored_bytes(Precision::kBf16, combine.m, 256));
  REQUIRE(combine.written == combine.read);
}

TEST_CASE("exchanges that cannot be are refused", "[operations]") {
  ExchangeGroup group{.tokens = 1, .hidden = 8, .top_k = 2, .experts = 12, .gpus_per_node = 8};
  REQUIRE_THROWS_WITH(even_exchange(Exchange::kDispatch, group, Precision::kFp8),
                      "12 experts cannot be split evenly over 8 GPUs");
  group.experts = 16;
  group.nodes = 2;
  group.top_k = 9;
  group.node_limit = 1;
  REQUIRE_THROWS_WITH(even_exchange(Exchange::kDispatch, group, Precision::kFp8),
                      "a token uses 9 experts, but its 1 of 2 nodes have only 8");
  group.hidden = 0;
  REQUIRE_THROWS_WITH(even_exchange(Exchange::kDispatch, group, Precision::kFp8),
                      Catch::StartsWith("an exchange needs tokens, hidden, top_k, nodes"));
}

TEST_CASE("an exchange of counts takes its measured time", "[ops]") {
  CalibrationSpec calibration = ideal_calibration();
  calibration.communication.notify_us.value = 50;
  const auto* const op = GENERATE("ep_notify", "ep_cached_notify");
  const KernelCost c = cost(memory_operation(op, {320}), calibration, 100);
  REQUIRE(c.time == microseconds(50));
  REQUIRE(c.limited_by == Limit::kLatency);
  REQUIRE(c.cycles == Approx(50'000));
  REQUIRE(c.hbm_bytes == Bytes(2 * 320 * 4));
}

TEST_CASE("the layout of a dispatch counts every choice of every token", "[ops]") {
  CalibrationSpec calibration = ideal_calibration();
  calibration.communication.layout_cycles.value = 5;
  calibration.latency.kernel_us.value = 2;
  const KernelCost c = cost(memory_operation("ep_layout", {1000, 8, 320}), calibration, 100);
  REQUIRE(to_microseconds(c.time) == Approx(2 + 1000 * 8 * 5 * 1e-3));
  REQUIRE(c.limited_by == Limit::kIssue);
}
