/// The network engine: one re-solve where an exchange of 64 GPUs meets pipeline sends, and whole
/// all-to-alls of 64 GPUs in both modes.
#include <benchmark/benchmark.h>

#include <string>
#include <vector>

#include "base/random.hpp"
#include "sim/network/coflow.hpp"
#include "sim/network/transfers.hpp"

namespace pipecast {
namespace {

constexpr LinkIndex kNodes = 8;
constexpr LinkIndex kGpus = 8;  // of a node
constexpr LinkIndex kRanks = kNodes * kGpus;
constexpr double kNic = 50e9;      // bytes/s of a 400 Gb/s port
constexpr double kNvlink = 160e9;  // bytes/s that copies reach on an H800

/// Ports of a GPU: NIC up and down, NVLink up and down.
enum Port : LinkIndex { kNicUp, kNicDown, kNvlinkUp, kNvlinkDown, kPorts };
LinkIndex port(LinkIndex rank, Port kind) { return kPorts * rank + kind; }

/// Dispatch to 64 GPUs on 8 nodes: each sends to the GPU of its index on the other nodes, which
/// passes on to those beside it.
TransferPlan dispatch() {
  Random random(1, "bench_network");
  TransferPlan out;
  for (LinkIndex rank = 0; rank < kRanks; ++rank) {
    for (LinkIndex p = 0; p < kPorts; ++p) {
      out.links.push_back({.id = "r" + std::to_string(rank) + "p" + std::to_string(p),
                           .bandwidth = Bandwidth(p < kNvlinkUp ? kNic : kNvlink)});
    }
  }
  out.groups = {{"dispatch"}};
  const auto add = [&](LinkIndex from, LinkIndex to, double most_bytes) {
    const double bytes = most_bytes * (0.5 + 0.5 * random.uniform());
    out.flows.push_back({.id = std::to_string(out.flows.size()),
                         .links = {from, to},
                         .bytes = Bytes(static_cast<std::int64_t>(bytes)),
                         .group = 0});
  };
  constexpr double kToNode = 16e6;  // bytes of about 2,200 tokens
  constexpr double kToGpu = 34e6;
  for (LinkIndex rank = 0; rank < kRanks; ++rank) {
    const LinkIndex node = rank / kGpus;
    for (LinkIndex i = 0; i < kGpus; ++i) {
      const LinkIndex abroad = i * kGpus + rank % kGpus;
      if (abroad != rank) add(port(rank, kNicUp), port(abroad, kNicDown), kToNode);
      const LinkIndex beside = node * kGpus + i;
      if (beside != rank) add(port(rank, kNvlinkUp), port(beside, kNvlinkDown), kToGpu);
    }
  }
  return out;
}

/// A send starts and another ends beside the running exchange: two re-solves an iteration.
void pipeline_sends_beside_an_exchange(benchmark::State& state) {
  const TransferPlan plan = dispatch();
  const std::vector<std::uint32_t> depth(plan.flows.size());
  const TransferJob job = jobs_of_groups(plan, depth, Arbitration::kFlow).front();
  SharedLinks links(plan.links);
  links.start(0, {.uses = job.ports, .work = 1e18, .weight = job.weight});
  const auto send = [&](LinkIndex rank, double now_s) {
    const SharedLinks::Use uses[] = {{port(rank, kNicUp), 1}, {port((rank + 8) % 64, kNicDown), 1}};
    return links.start(now_s, {.uses = uses, .work = 1e18});
  };
  double now_s = 0;
  SharedLinks::Activity last = send(0, now_s);
  links.settle(now_s);
  LinkIndex rank = 0;
  for (auto _ : state) {
    now_s += 1e-6;
    rank = (rank + 1) % kRanks;
    const SharedLinks::Activity next = send(rank, now_s);
    links.settle(now_s);
    links.finish(now_s, last);
    links.settle(now_s);
    benchmark::DoNotOptimize(links.completion_s(next));
    last = next;
  }
  state.SetItemsProcessed(2 * state.iterations());
}
BENCHMARK(pipeline_sends_beside_an_exchange);

/// The exchange alone: it takes its place on 256 ports and leaves them again.
void exchange_alone(benchmark::State& state) {
  const TransferPlan plan = dispatch();
  const std::vector<std::uint32_t> depth(plan.flows.size());
  const TransferJob job = jobs_of_groups(plan, depth, Arbitration::kFlow).front();
  SharedLinks links(plan.links);
  double now_s = 0;
  for (auto _ : state) {
    const auto a = links.start(now_s, {.uses = job.ports, .work = job.work, .weight = job.weight});
    links.settle(now_s);
    now_s = links.completion_s(a);
    links.finish(now_s, a);
  }
  state.SetItemsProcessed(state.iterations());
}
BENCHMARK(exchange_alone);

void whole_plan(benchmark::State& state, NetworkMode mode) {
  const TransferPlan plan = dispatch();
  for (auto _ : state) {
    benchmark::DoNotOptimize(complete_transfers(plan, {.mode = mode}).makespan_s);
  }
  state.SetItemsProcessed(state.iterations() * static_cast<std::int64_t>(plan.flows.size()));
}
BENCHMARK_CAPTURE(whole_plan, flow_by_flow, NetworkMode::kFlow)->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(whole_plan, coflow, NetworkMode::kCoflow)->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace pipecast

BENCHMARK_MAIN();
