#include <rapidcheck.h>

#include <algorithm>
#include <catch2/catch.hpp>
#include <numeric>
#include <string>

#include "base/error.hpp"
#include "random_plan.hpp"
#include "sim/network/transfers.hpp"

using namespace pipecast;
using namespace pipecast::testing;
using Catch::Matchers::WithinRel;

namespace {

constexpr double kRounding = 1e-9;
constexpr TransferOptions kByFlow{.mode = NetworkMode::kCoflow};
constexpr TransferOptions kByJob{.mode = NetworkMode::kCoflow, .arbitration = Arbitration::kJob};

Link make_link(const std::string& id, double bandwidth) {
  return {.id = id, .bandwidth = Bandwidth(bandwidth)};
}

Flow make_flow(const std::string& id, std::vector<LinkIndex> links, std::int64_t bytes) {
  return {.id = id, .links = std::move(links), .bytes = Bytes(bytes)};
}

double bytes_of(const Flow& f) { return static_cast<double>(f.bytes.count()); }

/// Every NIC sends to every other one: `up` are links 0 to n-1, `down` n to 2n-1.
struct AllToAll {
  int nics = 0;
  double bandwidth = 1;
  std::uint64_t seed = 0;
  double least = 1;  ///< bytes of a pair, drawn between this ...
  double most = 1;   ///< ... and this
};

void add_all_to_all(TransferPlan& plan, const AllToAll& all, double start_s, bool back) {
  Random random(all.seed, "all_to_all");
  const auto n = static_cast<LinkIndex>(all.nics);
  if (plan.links.empty()) {
    for (LinkIndex l = 0; l < 2 * n; ++l) {
      plan.links.push_back(make_link("port" + std::to_string(l), all.bandwidth));
    }
  }
  const auto group = static_cast<GroupIndex>(plan.groups.size());
  plan.groups.push_back({"group" + std::to_string(group)});
  for (LinkIndex from = 0; from < n; ++from) {
    for (LinkIndex to = 0; to < n; ++to) {
      if (from == to) continue;
      const double bytes = all.least + (all.most - all.least) * random.uniform();
      Flow f = make_flow(
          "flow" + std::to_string(plan.flows.size()),
          back ? std::vector<LinkIndex>{to, n + from} : std::vector<LinkIndex>{from, n + to},
          static_cast<std::int64_t>(bytes));
      f.start_s = start_s;
      f.group = group;
      plan.flows.push_back(f);
    }
  }
}

double largest_port_time(const TransferPlan& plan) {
  std::vector<double> bytes(plan.links.size());
  for (const Flow& f : plan.flows) {
    for (const LinkIndex l : f.links) bytes[l] += bytes_of(f);
  }
  double out = 0;
  for (std::size_t l = 0; l < bytes.size(); ++l) {
    out = std::max(out, bytes[l] / plan.links[l].bandwidth.count());
  }
  return out;
}

}  // namespace

TEST_CASE("a flow takes its latency and its bytes over its slowest link", "[network]") {
  TransferPlan plan;
  plan.links = {make_link("fast", 100), make_link("slow", 10)};
  plan.flows = {make_flow("a", {0, 1}, 50)};
  plan.flows[0].start_s = 3;
  plan.flows[0].latency_s = 0.5;
  for (const TransferOptions& options : {TransferOptions{}, kByFlow, kByJob}) {
    const Completion out = complete_transfers(plan, options);
    REQUIRE(out.flow_s[0] == 3 + 0.5 + 50 / 10.0);
    REQUIRE(out.makespan_s == out.flow_s[0]);
    REQUIRE(out.links[1].bytes == Bytes(50));
    REQUIRE(out.links[1].busy_fraction == 50 / (10 * out.makespan_s));
  }
}

TEST_CASE("a flow waits for the later of its start and what it comes after", "[network]") {
  TransferPlan plan;
  plan.links = {make_link("l", 10), make_link("m", 10)};
  plan.flows = {make_flow("a", {0}, 20), make_flow("b", {1}, 30), make_flow("c", {0}, 10)};
  plan.flows[2].after = {0, 1};
  plan.flows[2].latency_s = 1;
  REQUIRE(complete_transfers(plan).flow_s[2] == 3 + 1 + 1.0);
  plan.flows[2].start_s = 7;
  REQUIRE(complete_transfers(plan).flow_s[2] == 7 + 1 + 1.0);
}

TEST_CASE("a flow of 0 bytes is complete after its latency, with links or without", "[network]") {
  TransferPlan plan;
  plan.links = {make_link("l", 10)};
  plan.flows = {make_flow("a", {0}, 20), make_flow("none", {}, 0), make_flow("zero", {0}, 0),
                make_flow("b", {0}, 10)};
  plan.flows[1].after = {0};
  plan.flows[1].latency_s = 0.25;
  plan.flows[2].after = {1};
  plan.flows[3].after = {2};
  for (const TransferOptions& options : {TransferOptions{}, kByFlow, kByJob}) {
    REQUIRE(complete_transfers(plan, options).flow_s == std::vector<double>{2, 2.25, 2.25, 3.25});
  }
}

TEST_CASE("flows share a link by their weights", "[network]") {
  TransferPlan plan;
  plan.links = {make_link("l", 12)};
  plan.flows = {make_flow("light", {0}, 30), make_flow("heavy", {0}, 90)};
  plan.flows[1].weight = 3;
  // 3 and 9 bytes a second: both are complete after 10 s.
  const Completion out = complete_transfers(plan);
  REQUIRE(out.flow_s[0] == 10);
  REQUIRE(out.flow_s[1] == 10);
  REQUIRE(out.links[0].busy_fraction == 1);
}

TEST_CASE("a plan without flows is complete at once", "[network]") {
  TransferPlan plan;
  plan.links = {make_link("l", 10)};
  const Completion out = complete_transfers(plan);
  REQUIRE(out.makespan_s == 0);
  REQUIRE(out.links[0].busy_fraction == 0);
  REQUIRE(complete_transfers(TransferPlan{}).flow_s.empty());
}

TEST_CASE("flows that wait for each other are named", "[network]") {
  TransferPlan plan;
  plan.links = {make_link("l", 10)};
  for (const char* id : {"a", "b", "c", "d"}) plan.flows.push_back(make_flow(id, {0}, 1));
  plan.flows[3].after = {0};  // waits for the circle without being in it
  plan.flows[0].after = {1};
  plan.flows[1].after = {2};
  plan.flows[2].after = {0};
  REQUIRE_THROWS_AS(complete_transfers(plan), ImpossiblePlan);
  REQUIRE_THROWS_WITH(complete_transfers(plan),
                      "flow 'a' waits for 'b', which waits for 'c', which waits for 'a': none of "
                      "them can start");
  plan.flows[0].after = {0};
  REQUIRE_THROWS_WITH(complete_transfers(plan), "flow 'a' waits for 'a': none of them can start");
}

TEST_CASE("a long circle is named by its beginning", "[network]") {
  TransferPlan plan;
  for (FlowIndex f = 0; f < 20; ++f) {
    plan.flows.push_back(make_flow(std::to_string(f), {}, 0));
    plan.flows.back().after = {(f + 1) % 20};
  }
  REQUIRE_THROWS_WITH(complete_transfers(plan),
                      Catch::Contains("which waits for 12 more, the last of which waits for '0'"));
}

TEST_CASE("a failed link is named with the flow that needs it", "[network]") {
  TransferPlan plan;
  plan.links = {make_link("well", 10), make_link("broken", 0)};
  plan.flows = {make_flow("a", {0}, 1), make_flow("b", {0, 1}, 0)};
  REQUIRE(complete_transfers(plan).makespan_s == 0.1);  // nothing of `b` has to cross it
  plan.flows[1].bytes = Bytes(1);
  REQUIRE_THROWS_AS(complete_transfers(plan), ImpossiblePlan);
  REQUIRE_THROWS_WITH(complete_transfers(plan),
                      "flow 'b' cannot complete: link 'broken' has failed (bandwidth 0)");
}

TEST_CASE("a plan that contradicts itself is refused with its culprit", "[network]") {
  TransferPlan plan;
  plan.links = {make_link("l", 10)};
  plan.flows = {make_flow("a", {0}, 1)};
  Flow& a = plan.flows[0];
  const auto message = [&] {
    try {
      complete_transfers(plan);
    } catch (const Error& e) {
      return std::string(e.what());
    }
    return std::string();
  };
  SECTION("link") {
    a.links = {1};
    REQUIRE(message() == "flow 'a': crosses link 1, the plan has 1");
  }
  SECTION("link twice") {
    a.links = {0, 0};
    REQUIRE(message() == "flow 'a': crosses link 'l' twice");
  }
  SECTION("no link") {
    a.links.clear();
    REQUIRE(message() == "flow 'a': 1 bytes, but no link to cross");
  }
  SECTION("wait") {
    a.after = {5};
    REQUIRE(message() == "flow 'a': waits for flow 5, the plan has 1");
  }
  SECTION("group") {
    a.group = 0;
    REQUIRE(message() == "flow 'a': the plan has no group 0");
  }
  SECTION("bytes") {
    a.bytes = Bytes(-1);
    REQUIRE(message() == "flow 'a': -1 bytes is negative");
  }
  SECTION("all bytes") {
    a.bytes = Bytes(std::numeric_limits<std::int64_t>::max());
    REQUIRE(message() == "flow 'a': all flows together have more than 9e+18 bytes");
  }
  SECTION("start") {
    a.start_s = std::numeric_limits<double>::quiet_NaN();
    REQUIRE(message() == "flow 'a': start of nan s is not within 0 and 1000000000 s");
  }
  SECTION("latency") {
    a.latency_s = -1;
    REQUIRE(message() == "flow 'a': latency of -1 s is not within 0 and 1000000000 s");
  }
  SECTION("weight") {
    a.weight = 0;
    REQUIRE(message() == "flow 'a': weight of 0 is not within 1e-06 and 1000000");
  }
  SECTION("bandwidth") {
    plan.links[0].bandwidth = Bandwidth(0.5);
    REQUIRE(message() ==
            "link 'l': bandwidth of 0.5 bytes/s is neither 0 (failed) nor within 1 and 1e+18");
  }
}

TEST_CASE("the extremes of a plan complete", "[network]") {
  TransferPlan plan;
  plan.links = {make_link("slow", 1), make_link("fast", 1e18)};
  plan.flows = {make_flow("long", {0, 1}, 4'000'000'000'000'000'000), make_flow("late", {1}, 1),
                make_flow("light", {0}, 1)};
  plan.flows[1].start_s = 1e9;
  plan.flows[2].weight = 1e-6;
  const Completion out = complete_transfers(plan);
  // The light flow gets a millionth of the slow link beside the long one.
  REQUIRE_THAT(out.flow_s[2], WithinRel(1e6 + 1, kRounding));
  REQUIRE_THAT(out.flow_s[0], WithinRel(4e18, kRounding));
  REQUIRE_THAT(out.flow_s[1], WithinRel(1e9, kRounding));
}

TEST_CASE("lone flows complete alike in both modes", "[network][property]") {
  const auto seed = static_cast<std::uint64_t>(GENERATE(range(0, 50)));
  const TransferPlan plan = random_plan(seed);
  const Completion flows = complete_transfers(plan);
  const Completion jobs = complete_transfers(plan, GENERATE(kByFlow, kByJob));
  CAPTURE(seed);
  for (std::size_t f = 0; f < plan.flows.size(); ++f) {
    REQUIRE_THAT(jobs.flow_s[f], WithinRel(flows.flow_s[f], kRounding));
  }
}

TEST_CASE("no flow beats its own links, no plan its most loaded one", "[network][property]") {
  const auto seed = static_cast<std::uint64_t>(GENERATE(range(0, 50)));
  const TransferPlan plan = random_plan(seed);
  const Completion out = complete_transfers(plan);
  CAPTURE(seed);
  for (std::size_t f = 0; f < plan.flows.size(); ++f) {
    const Flow& of = plan.flows[f];
    double ready = of.start_s;
    for (const FlowIndex earlier : of.after) ready = std::max(ready, out.flow_s[earlier]);
    double alone = 0;
    for (const LinkIndex l : of.links) {
      alone = std::max(alone, bytes_of(of) / plan.links[l].bandwidth.count());
    }
    REQUIRE(out.flow_s[f] >= (ready + of.latency_s + alone) * (1 - kRounding));
  }
  REQUIRE(out.makespan_s >= largest_port_time(plan) * (1 - kRounding));
}

TEST_CASE("the same plan completes at the same bits", "[network]") {
  const TransferPlan plan = random_plan(7);
  REQUIRE(complete_transfers(plan).flow_s == complete_transfers(plan).flow_s);
}

TEST_CASE("times scale with bytes and with one over bandwidth", "[network][property]") {
  const bool holds = rc::check([] {
    const auto seed = *rc::gen::arbitrary<std::uint64_t>();
    const auto factor = *rc::gen::inRange<std::int64_t>(2, 1000);
    const bool by_bytes = *rc::gen::arbitrary<bool>();
    const TransferPlan plan = random_plan(seed);
    TransferPlan scaled = plan;
    for (Flow& f : scaled.flows) {
      f.start_s *= static_cast<double>(factor);
      f.latency_s *= static_cast<double>(factor);
      if (by_bytes) f.bytes = factor * f.bytes;
    }
    for (Link& l : scaled.links) {
      if (!by_bytes) l.bandwidth = Bandwidth(l.bandwidth.count() / static_cast<double>(factor));
    }
    const Completion before = complete_transfers(plan);
    const Completion after = complete_transfers(scaled);
    for (std::size_t f = 0; f < plan.flows.size(); ++f) {
      const double expected = before.flow_s[f] * static_cast<double>(factor);
      RC_ASSERT(std::abs(after.flow_s[f] - expected) <= kRounding * expected);
    }
  });
  REQUIRE(holds);
}

// On any network more bandwidth for one flow may slow another one down, so these laws are about
// flows that meet on one link, each with a link of its own before it.
TEST_CASE("on a common link more bytes make nothing earlier, more bandwidth nothing later",
          "[network][property]") {
  const bool holds = rc::check([] {
    const auto count = *rc::gen::inRange<LinkIndex>(1, 12);
    TransferPlan plan;
    plan.links = {make_link("common", static_cast<double>(*rc::gen::inRange(1, 100)))};
    for (LinkIndex f = 1; f <= count; ++f) {
      plan.links.push_back(make_link("own", static_cast<double>(*rc::gen::inRange(1, 50))));
      plan.flows.push_back(make_flow("f", {0, f}, *rc::gen::inRange(0, 1000)));
      plan.flows.back().start_s = static_cast<double>(*rc::gen::inRange(0, 20));
    }
    const Completion before = complete_transfers(plan);
    TransferPlan longer = plan;
    const auto which = *rc::gen::inRange<std::size_t>(0, count);
    longer.flows[which].bytes += Bytes(*rc::gen::inRange(1, 1000));
    TransferPlan faster = plan;
    faster.links[0].bandwidth =
        Bandwidth(plan.links[0].bandwidth.count() + static_cast<double>(*rc::gen::inRange(1, 50)));
    const Completion later = complete_transfers(longer);
    const Completion earlier = complete_transfers(faster);
    for (std::size_t f = 0; f < count; ++f) {
      RC_ASSERT(later.flow_s[f] >= before.flow_s[f] * (1 - kRounding));
      RC_ASSERT(earlier.flow_s[f] <= before.flow_s[f] * (1 + kRounding));
    }
  });
  REQUIRE(holds);
}

TEST_CASE("one collective alone takes the load of its most loaded port", "[network][coflow]") {
  const auto seed = static_cast<std::uint64_t>(GENERATE(range(0, 20)));
  const double least = GENERATE(1e3, 1e6);
  TransferPlan plan;
  add_all_to_all(plan, {.nics = 8, .bandwidth = 50e9, .seed = seed, .least = least, .most = 1e6},
                 2e-3, false);
  const double expected = 2e-3 + largest_port_time(plan);
  REQUIRE_THAT(complete_transfers(plan, kByFlow).group_s[0], WithinRel(expected, kRounding));
  REQUIRE_THAT(complete_transfers(plan, kByJob).group_s[0], WithinRel(expected, kRounding));
  // Flow by flow, the most loaded port may pause while its last flows are held up elsewhere.
  constexpr double kAgree = 1e-3;
  REQUIRE_THAT(complete_transfers(plan).group_s[0], WithinRel(expected, kAgree));
}

TEST_CASE("staggered flows of a collective end with the worst suffix of a port",
          "[network][coflow]") {
  TransferPlan plan;
  plan.links = {make_link("in", 10), make_link("other", 10)};
  plan.groups = {{"g"}};
  plan.flows = {make_flow("a", {0}, 20), make_flow("b", {0}, 30), make_flow("c", {0}, 10),
                make_flow("d", {1}, 5)};
  plan.flows[1].start_s = 5;  // the port is idle from 2 to 5
  plan.flows[2].start_s = 6;
  plan.flows[3].latency_s = 1;
  for (Flow& f : plan.flows) f.group = 0;
  const double expected = std::max({0 + 60 / 10.0, 5 + 40 / 10.0, 6 + 10 / 10.0, 1 + 5 / 10.0});
  REQUIRE_THAT(complete_transfers(plan, kByFlow).group_s[0], WithinRel(expected, kRounding));
  REQUIRE_THAT(complete_transfers(plan).group_s[0], WithinRel(expected, kRounding));
}

TEST_CASE("steps of a collective follow each other", "[network][coflow]") {
  // A ring of 4: in every step each rank sends to the next what it got in the step before.
  TransferPlan plan;
  plan.groups = {{"ring"}};
  for (LinkIndex r = 0; r < 4; ++r) plan.links.push_back(make_link(std::to_string(r), 10));
  for (FlowIndex step = 0; step < 3; ++step) {
    for (LinkIndex r = 0; r < 4; ++r) {
      Flow f = make_flow("f", {r}, 100);
      f.group = 0;
      f.latency_s = 1;
      if (step > 0) f.after = {4 * (step - 1) + r, 4 * (step - 1) + (r + 3) % 4};
      plan.flows.push_back(f);
    }
  }
  const Completion out = complete_transfers(plan, kByFlow);
  REQUIRE(out.flow_s[0] == 1 + 100 / 10.0);
  REQUIRE(out.group_s[0] == 3 * (1 + 100 / 10.0));
  REQUIRE(out.flow_s == complete_transfers(plan).flow_s);
}

TEST_CASE("a send beside an all-to-all gets its share by flow or by job", "[network][coflow]") {
  // Eight NICs, so seven flows on every port; the send shares one sender's port.
  TransferPlan plan;
  add_all_to_all(plan, {.nics = 8, .bandwidth = 80, .least = 1000, .most = 1000}, 0, false);
  plan.links.push_back(make_link("elsewhere", 80));
  plan.flows.push_back(make_flow("send", {0, 16}, 40));
  REQUIRE_THAT(complete_transfers(plan, kByFlow).flow_s.back(),
               WithinRel(40 / (80 / 8.0), kRounding));
  REQUIRE_THAT(complete_transfers(plan, kByJob).flow_s.back(),
               WithinRel(40 / (80 / 2.0), kRounding));
  REQUIRE_THAT(complete_transfers(plan).flow_s.back(), WithinRel(40 / (80 / 8.0), kRounding));
  // The port works without a pause, whoever goes first.
  const double expected = (7 * 1000 + 40) / 80.0;
  REQUIRE_THAT(complete_transfers(plan, kByFlow).group_s[0], WithinRel(expected, kRounding));
  REQUIRE_THAT(complete_transfers(plan, kByJob).group_s[0], WithinRel(expected, kRounding));
}

TEST_CASE("of two collectives that overlap, the last ends nearly as flow by flow",
          "[network][coflow]") {
  const auto seed = static_cast<std::uint64_t>(GENERATE(range(0, 20)));
  const double second_start = GENERATE(0.0, 3e-5, 1e-4);
  TransferPlan plan;
  const AllToAll first{.nics = 8, .bandwidth = 50e9, .seed = seed, .least = 5e5, .most = 1.5e6};
  AllToAll second = first;
  second.seed = seed + 1000;
  add_all_to_all(plan, first, 0, false);
  add_all_to_all(plan, second, second_start, true);
  const Completion flows = complete_transfers(plan);
  const Completion jobs = complete_transfers(plan, kByFlow);
  const auto [f_first, f_last] = std::minmax({flows.group_s[0], flows.group_s[1]});
  const auto [j_first, j_last] = std::minmax({jobs.group_s[0], jobs.group_s[1]});
  CAPTURE(seed, second_start, j_first / f_first - 1, j_last / f_last - 1);
  // Bands for what a job leaves out: its ports drain in proportion, its flows go on where they can.
  REQUIRE_THAT(j_first, WithinRel(f_first, 0.05));
  REQUIRE_THAT(j_last, WithinRel(f_last, 0.07));
}

TEST_CASE("a job counts with the flows that its most loaded port still has", "[network][coflow]") {
  TransferPlan plan;
  plan.links = {make_link("l", 12)};
  plan.groups = {{"g"}};
  plan.flows = {make_flow("short", {0}, 12), make_flow("long", {0}, 84),
                make_flow("send", {0}, 40)};
  plan.flows[0].group = 0;
  plan.flows[1].group = 0;
  // Thirds of the port until the short flow is done at 3 s; the send has 28 of 40 bytes left then,
  // which take 28/6 s at half the port. By job, it has half from the beginning.
  REQUIRE_THAT(complete_transfers(plan).flow_s[2], WithinRel(3 + 28 / 6.0, kRounding));
  REQUIRE_THAT(complete_transfers(plan, kByFlow).flow_s[2], WithinRel(3 + 28 / 6.0, kRounding));
  REQUIRE_THAT(complete_transfers(plan, kByJob).flow_s[2], WithinRel(40 / 6.0, kRounding));
  const double all = (12 + 84 + 40) / 12.0;
  REQUIRE_THAT(complete_transfers(plan, kByFlow).group_s[0], WithinRel(all, kRounding));
}
