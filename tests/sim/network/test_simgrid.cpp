/// Random sets of flows against SimGrid, an independent simulator, all at once in one simulation of
/// it: every set has links of its own.
#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <simgrid/s4u.hpp>
#include <string>
#include <vector>

#include "random_plan.hpp"
#include "sim/network/transfers.hpp"

using namespace pipecast;
using namespace pipecast::testing;
namespace s4u = simgrid::s4u;

namespace {

constexpr std::size_t kPlans = 200;

/// Plain max-min sharing: SimGrid's models of TCP and of packet headers are off. Latency is a sleep
/// before the transfer, because a link's latency would weigh the shares.
void configure() {
  for (const char* option :
       {"network/model:CM02", "network/crosstraffic:0", "network/TCP-gamma:0", "network/weight-S:0",
        "network/latency-factor:1", "network/bandwidth-factor:1", "surf/precision:1e-12",
        "maxmin/precision:1e-9"}) {
    s4u::Engine::set_config(option);
  }
}

/// One set of flows inside the simulation.
class Played {
 public:
  Played(const TransferPlan& plan, s4u::NetZone* parent, std::size_t number)
      : plan_(plan), completion_s_(plan.flows.size(), -1) {
    const std::string name = "set" + std::to_string(number) + "-";
    s4u::NetZone* const zone = s4u::create_full_zone(name)->set_parent(parent);
    std::vector<s4u::Link*> links;
    for (const Link& link : plan.links) {
      links.push_back(
          zone->create_link(name + link.id, link.bandwidth.count())->set_latency(0)->seal());
    }
    for (const Flow& flow : plan.flows) {
      constexpr double kAnySpeed = 1e9;
      from_.push_back(zone->create_host(name + flow.id + "-from", kAnySpeed));
      to_.push_back(zone->create_host(name + flow.id + "-to", kAnySpeed));
      std::vector<s4u::LinkInRoute> route;
      for (const LinkIndex l : flow.links) route.emplace_back(links[l]);
      zone->add_route(from_.back()->get_netpoint(), to_.back()->get_netpoint(), nullptr, nullptr,
                      route, false);
      arrivals_.push_back(s4u::Semaphore::create(0));
    }
    zone->seal();
  }

  /// One actor a flow, which waits for one thing at a time.
  void start() {
    for (std::size_t f = 0; f < plan_.flows.size(); ++f) {
      s4u::Actor::create("flow", from_[f], [this, f] { play(f); });
    }
  }

  [[nodiscard]] double completion_s(std::size_t flow) const { return completion_s_[flow]; }

 private:
  void play(std::size_t f) {
    const Flow& flow = plan_.flows[f];
    for (std::size_t i = 0; i < flow.after.size(); ++i) arrivals_[f]->acquire();
    s4u::this_actor::sleep_until(flow.start_s);
    s4u::this_actor::sleep_for(flow.latency_s);
    if (flow.bytes.count() > 0) {
      s4u::Comm::sendto(from_[f], to_[f], static_cast<std::uint64_t>(flow.bytes.count()));
    }
    completion_s_[f] = s4u::Engine::get_clock();
    for (std::size_t later = 0; later < plan_.flows.size(); ++later) {
      for (const FlowIndex earlier : plan_.flows[later].after) {
        if (earlier == f) arrivals_[later]->release();
      }
    }
  }

  const TransferPlan& plan_;
  std::vector<s4u::Host*> from_;
  std::vector<s4u::Host*> to_;
  std::vector<s4u::SemaphorePtr> arrivals_;
  std::vector<double> completion_s_;
};

}  // namespace

TEST_CASE("200 random sets of flows complete when SimGrid says", "[network][simgrid]") {
  std::string words[] = {"test_simgrid", "--log=root.threshold:error"};
  char* arguments[] = {words[0].data(), words[1].data(), nullptr};
  int count = 2;
  s4u::Engine engine(&count, arguments);
  configure();
  s4u::NetZone* const root = s4u::create_full_zone("root");
  std::vector<TransferPlan> plans;
  for (std::size_t i = 0; i < kPlans; ++i) plans.push_back(random_plan(1000 + i));
  std::vector<Played> played;
  played.reserve(kPlans);
  for (std::size_t i = 0; i < kPlans; ++i) played.emplace_back(plans[i], root, i);
  root->seal();
  for (Played& one : played) one.start();
  engine.run();

  std::size_t flows = 0;
  for (std::size_t i = 0; i < kPlans; ++i) {
    const Completion out = complete_transfers(plans[i]);
    for (std::size_t f = 0; f < plans[i].flows.size(); ++f) {
      const double expected = played[i].completion_s(f);
      CAPTURE(i, f, expected, out.flow_s[f]);
      REQUIRE(expected >= 0);  // SimGrid ran it to its end
      const double error = std::abs(out.flow_s[f] - expected) / std::max(expected, 1e-9);
      REQUIRE(error < 1e-6);
      ++flows;
    }
  }
  REQUIRE(flows > 5 * kPlans);  // the sets were not trivial
}
