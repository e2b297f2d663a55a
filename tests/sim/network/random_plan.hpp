/// Sets of flows drawn at random, for laws that hold for all.
#pragma once

#include <cmath>
#include <string>

#include "base/random.hpp"
#include "sim/network/transfer_plan.hpp"

namespace pipecast::testing {

/// Up to 14 flows over 3 to 10 links, with starts, latencies and waits that overlap.
inline TransferPlan random_plan(std::uint64_t seed) {
  Random random(seed, "random_plan");
  const auto chance = [&](double share) { return random.uniform() < share; };
  TransferPlan out;
  const std::uint64_t links = 3 + random.below(8);
  for (std::uint64_t l = 0; l < links; ++l) {
    // 25 to 200 GB/s, some of them alike.
    const double rate = chance(0.5) ? 50e9 : 25e9 * std::exp2(3 * random.uniform());
    out.links.push_back({.id = "link" + std::to_string(l), .bandwidth = Bandwidth(rate)});
  }
  const std::uint64_t flows = 2 + random.below(13);
  for (std::uint64_t f = 0; f < flows; ++f) {
    Flow flow{.id = "flow" + std::to_string(f), .links = {}};
    for (LinkIndex l = 0; l < links; ++l) {
      if (chance(0.3)) flow.links.push_back(l);
    }
    if (flow.links.empty()) flow.links.push_back(static_cast<LinkIndex>(random.below(links)));
    // 1 KB to 100 MB, now and then nothing.
    const double bytes = chance(0.05) ? 0 : 1e3 * std::pow(10, 5 * random.uniform());
    flow.bytes = Bytes(static_cast<std::int64_t>(bytes));
    if (chance(0.5)) flow.start_s = 2e-3 * random.uniform();
    if (chance(0.5)) flow.latency_s = 5e-6;
    for (FlowIndex earlier = 0; earlier < f; ++earlier) {
      if (chance(0.1)) flow.after.push_back(earlier);
    }
    out.flows.push_back(flow);
  }
  return out;
}

}  // namespace pipecast::testing
