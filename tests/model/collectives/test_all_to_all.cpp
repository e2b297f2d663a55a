#include <catch2/catch.hpp>
#include <cmath>
#include <vector>

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

namespace {

/// What exchanges cost on SMs, in round numbers, so that every load can be the one that paces.
CalibrationSpec working_calibration() {
  CalibrationSpec c = ideal_calibration();
  c.communication.bytes_per_second_per_sm.value = 30e9;
  c.communication.dispatch_us.value = 20;
  c.communication.combine_us.value = 30;
  c.communication.token_us.value = 0.5;
  c.communication.copy_us.value = 0.05;
  c.communication.sum_copy.value = 3;
  c.communication.node_copy.value = 2;
  c.communication.first_tokens.value = 2;
  c.communication.chunk_tokens.value = 6;
  return c;
}

/// A GPU of 8 nodes that sends and receives the same, 4 nodes and 7 GPUs a token.
GpuCopies equal_copies(double tokens) {
  return {.nodes_out = tokens * 4 * 7 / 8,
          .nodes_in = tokens * 4 * 7 / 8,
          .nodes_kept = tokens * 4 / 8,
          .gpus_out = tokens * 7 * 7 / 8,
          .gpus_in = tokens * 7 * 7 / 8,
          .gpus_kept = tokens * 7 / 8};
}

}  // namespace

TEST_CASE("GPUs with equal loads exchange exactly as balanced routing has it", "[collectives]") {
  const auto kind = GENERATE(Exchange::kDispatch, Exchange::kCombine);
  const std::int64_t tokens = GENERATE(1, 64, 4096);
  const int sms = GENERATE(0, 1, 4, 20);
  const double slower = GENERATE(1.0, 2.5);
  const Bytes copy(7168);
  const PortLoad load =
      balanced_port_load({.nodes_per_token = 4, .gpus_per_token = 7}, tokens, copy, 64, 8, kind);
  const std::vector<GpuCopies> gpus(64, equal_copies(static_cast<double>(tokens)));
  const ExchangeLoads loads = busiest_loads(gpus, kind, static_cast<double>(tokens), copy);
  REQUIRE(loads.nic_out == load.nic);
  REQUIRE(loads.nvlink_in == load.nvlink);
  const TransferCost equal =
      all_to_all_time(loads, round_cluster(), working_calibration(), sms, slower);
  const TransferCost balanced =
      all_to_all_time(load, round_cluster(), working_calibration(), sms, slower);
  REQUIRE(equal.time == balanced.time);
  REQUIRE(equal.bound == balanced.bound);
}

TEST_CASE("one GPU that gets more copies holds up its group", "[collectives]") {
  const auto kind = GENERATE(Exchange::kDispatch, Exchange::kCombine);
  constexpr double kTokens = 4096;
  constexpr double kMore = 3;  // times as much as the others
  std::vector<GpuCopies> gpus(64, equal_copies(kTokens));
  gpus[5].gpus_in *= kMore;
  const ExchangeLoads loads = busiest_loads(gpus, kind, kTokens, Bytes(7168));
  const Bytes nvlink(std::llround(kMore * kTokens * 7 * 7 / 8 * 7168));
  // What a dispatch brings a GPU, a combine takes away again.
  REQUIRE((kind == Exchange::kDispatch ? loads.nvlink_in : loads.nvlink_out) == nvlink);
  REQUIRE((kind == Exchange::kDispatch ? loads.nvlink_out : loads.nvlink_in) < nvlink);
  // Without SMs to pace it, NVLink does.
  const TransferCost cost = all_to_all_time(loads, round_cluster(), ideal_calibration(), 0);
  REQUIRE(cost.bound == TransferBound::kNvlink);
  REQUIRE(cost.time == nvlink / Bandwidth(160e9) + microseconds(1 + 3));
}

TEST_CASE("an exchange grows with every load of its busiest GPUs", "[collectives][property]") {
  const auto kind = GENERATE(Exchange::kDispatch, Exchange::kCombine);
  const double share = GENERATE(take(5, random(0.1, 3.0)));
  const int sms = GENERATE(0, 2, 20, 132);
  std::vector<GpuCopies> gpus(4, equal_copies(1000));
  gpus[1].nodes_in *= share;
  gpus[2].gpus_out *= share;
  const auto time = [&](const std::vector<GpuCopies>& of) {
    return all_to_all_time(busiest_loads(of, kind, 1000, Bytes(7168)), round_cluster(),
                           working_calibration(), sms)
        .time;
  };
  const Duration base = time(gpus);
  for (double GpuCopies::*load :
       {&GpuCopies::nodes_out, &GpuCopies::nodes_in, &GpuCopies::nodes_kept, &GpuCopies::gpus_out,
        &GpuCopies::gpus_in, &GpuCopies::gpus_kept}) {
    std::vector<GpuCopies> more = gpus;
    more[3].*load *= 1.5;
    REQUIRE(time(more) >= base);
    more[3].*load *= 100;
    const bool links_alone = sms == 0;
    const bool stays = load == &GpuCopies::nodes_kept || load == &GpuCopies::gpus_kept;
    if (!(links_alone && stays)) REQUIRE(time(more) > base);
  }
}

TEST_CASE("the SMs' larger half counts: sending or receiving", "[collectives]") {
  const auto kind = GENERATE(Exchange::kDispatch, Exchange::kCombine);
  constexpr int kFew = 2;  // pace everything
  std::vector<GpuCopies> sends(1, equal_copies(1000));
  std::vector<GpuCopies> receives = sends;
  std::vector<GpuCopies> both = sends;
  sends[0].gpus_out *= 2;
  receives[0].gpus_in *= 2;
  both[0].gpus_out *= 2;
  both[0].gpus_in *= 2;
  const auto cost = [&](const std::vector<GpuCopies>& of) {
    return all_to_all_time(busiest_loads(of, kind, 1000, Bytes(7168)), round_cluster(),
                           working_calibration(), kFew);
  };
  REQUIRE(cost(both).bound == TransferBound::kIssue);
  REQUIRE(cost(sends).time == cost(both).time);
  REQUIRE(cost(receives).time == cost(both).time);
}

TEST_CASE("an even draw loads ports as balanced routing does", "[collectives]") {
  const int nodes = GENERATE(1, 2, 4);
  const ExchangeGroup group{.tokens = 1024,
                            .hidden = 256,
                            .top_k = 8,
                            .experts = 256,
                            .nodes = nodes,
                            .gpus_per_node = 8};
  const PortLoad even = even_port_load(Exchange::kDispatch, group, Precision::kFp8);
  const RoutingStatistics routing{
      .nodes_per_token = nodes > 1 ? even.exchange.node_copies / 1024 : 1,
      .gpus_per_token = even.exchange.gpu_copies / 1024};
  const PortLoad balanced =
      balanced_port_load(routing, 1024, even.exchange.copy, 8 * nodes, 8, Exchange::kDispatch);
  REQUIRE(even.nic == balanced.nic);
  REQUIRE(even.nvlink == balanced.nvlink);
  REQUIRE(even.exchange.gpu_copies == Approx(balanced.exchange.gpu_copies));
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
