#include <catch2/catch.hpp>

#include "machines.hpp"
#include "model/collectives/all_to_all.hpp"
#include "models.hpp"

using namespace pipecast;
using namespace pipecast::testing;

namespace {

constexpr Bytes kGigabyte(1'000'000'000);
constexpr int kSms = 20;  // at 1 TB/s each: no limit in an ideal calibration

TransferCost cost(const PortLoad& load, const ClusterSpec& cluster = round_cluster(),
                  int sms = kSms) {
  return all_to_all_time(load, cluster, ideal_calibration(), sms);
}

}  // namespace

TEST_CASE("the busiest of NIC, NVLink and SMs paces an all-to-all", "[collectives]") {
  // 50 GB/s of NIC, 160 GB/s of NVLink; latency of a NVLink hop, and of the NIC's if it is used.
  const TransferCost nic = cost({.nic = kGigabyte, .nvlink = kGigabyte});
  REQUIRE(nic.bound == TransferBound::kNic);
  REQUIRE(nic.time == milliseconds(20) + microseconds(1 + 3));
  const TransferCost nvlink = cost({.nic = kGigabyte, .nvlink = 4 * kGigabyte});
  REQUIRE(nvlink.bound == TransferBound::kNvlink);
  REQUIRE(nvlink.time == milliseconds(25) + microseconds(1 + 3));

  CalibrationSpec slow = ideal_calibration();
  slow.communication.bytes_per_second_per_sm.value = 1e9;
  const PortLoad load{
      .nic = kGigabyte,
      .nvlink = kGigabyte,
      .exchange = {.kind = Exchange::kDispatch, .gpu_copies = 2, .copy = kGigabyte}};
  const TransferCost issue = all_to_all_time(load, round_cluster(), slow, kSms);
  REQUIRE(issue.bound == TransferBound::kIssue);
  REQUIRE(issue.time == milliseconds(100) + microseconds(1 + 3));  // 2 GB at 20 x 1 GB/s
  // Zero SMs stand for an engine of its own, which the SMs do not limit.
  REQUIRE(all_to_all_time(load, round_cluster(), slow, 0).time == nic.time);

  // The kernel starts before anything moves, whatever then decides.
  CalibrationSpec late = ideal_calibration();
  late.communication.dispatch_us.value = 20;
  REQUIRE(all_to_all_time(load, round_cluster(), late, kSms).time == nic.time + microseconds(20));
  REQUIRE(all_to_all_time(load, round_cluster(), late, 0).time == nic.time);
}

TEST_CASE("an all-to-all inside a node loads no NIC and pays no hop of it", "[collectives]") {
  const int ep = GENERATE(2, 4, 8);
  const PortLoad load = balanced_port_load({.nodes_per_token = 1, .gpus_per_token = 2}, 1000,
                                           Bytes(100), ep, 8, Exchange::kDispatch);
  REQUIRE(load.nic == Bytes(0));
  REQUIRE(load.exchange.node_copies == 0);
  REQUIRE(load.nvlink == Bytes(1000 * 100 * 2 * (ep - 1) / ep));
  REQUIRE(cost(load).time == load.nvlink / Bandwidth(160e9) + microseconds(1));
}

TEST_CASE("an all-to-all across nodes sends one copy per remote node", "[collectives]") {
  const PortLoad load = balanced_port_load({.nodes_per_token = 4, .gpus_per_token = 7}, 1000,
                                           Bytes(100), 64, 8, Exchange::kCombine);
  REQUIRE(load.exchange.kind == Exchange::kCombine);
  REQUIRE(load.exchange.tokens == 1000);
  REQUIRE(load.exchange.gpu_copies == 7000);
  REQUIRE(load.exchange.node_copies == 4000);
  REQUIRE(load.exchange.copy == Bytes(100));
  REQUIRE(load.nic == Bytes(1000 * 100 * 4 * 7 / 8));
  REQUIRE(load.nvlink == Bytes(1000 * 100 * 7 * 7 / 8));
}

TEST_CASE("an all-to-all grows with bytes and shrinks with bandwidth", "[collectives][property]") {
  const std::int64_t nic = GENERATE(take(10, random(1, 100'000'000)));
  const std::int64_t nvlink = GENERATE(take(10, random(1, 100'000'000)));
  CAPTURE(nic, nvlink);
  const PortLoad load{.nic = Bytes(nic), .nvlink = Bytes(nvlink)};
  const Duration base = cost(load).time;
  REQUIRE(cost({.nic = load.nic + Bytes(1'000'000), .nvlink = load.nvlink}).time >= base);
  REQUIRE(cost({.nic = load.nic, .nvlink = load.nvlink + Bytes(1'000'000)}).time >= base);
  REQUIRE(cost({.nic = 2 * load.nic, .nvlink = 2 * load.nvlink}).time > base);
  ClusterSpec faster = round_cluster();
  faster.nic.bandwidth = 1.1 * faster.nic.bandwidth;
  faster.nvlink.bandwidth = 1.1 * faster.nvlink.bandwidth;
  REQUIRE(cost(load, faster).time < base);
  REQUIRE(cost(load, round_cluster(), kSms + 1).time <= base);
}

TEST_CASE("what PCIe cannot take, the NIC cannot send", "[collectives]") {
  ClusterSpec cluster = round_cluster();
  cluster.nic.per_gpu = 2;  // 100 GB/s of ports behind 64 GB/s of PCIe
  REQUIRE(cost({.nic = 64 * kGigabyte, .nvlink = Bytes(0)}, cluster).time ==
          seconds(1) + microseconds(1 + 3));
}

TEST_CASE("DeepSeek-V3's dispatch takes the time that flow simulation gives", "[collectives]") {
  // 4,096 tokens, 7,168 FP8 elements and 56 FP32 scales a copy, 64 GPUs of eight nodes, 50 GB/s of
  // NIC: 2,126 us with SimGrid 3.32 for a random draw of uniform routing, where the busiest of 64
  // ports carries a little more than the mean that is modelled here.
  const RoutingStatistics routing = balanced_routing(deepseek_v3(), 64, 8);
  const PortLoad load =
      balanced_port_load(routing, 4096, Bytes(7168 + 56 * 4), 64, 8, Exchange::kDispatch);
  const TransferCost dispatch = cost(load);
  REQUIRE(dispatch.bound == TransferBound::kNic);
  REQUIRE(to_microseconds(dispatch.time) == Approx(2126).epsilon(0.02));
}
