#include <algorithm>
#include <catch2/catch.hpp>
#include <map>
#include <optional>
#include <vector>

#include "base/random.hpp"
#include "sim/network/shared_links.hpp"

using namespace pipecast;

namespace {

std::vector<Link> links_of(const std::vector<double>& bandwidths) {
  std::vector<Link> out;
  for (const double b : bandwidths) {
    out.push_back({.id = std::to_string(out.size()), .bandwidth = Bandwidth(b)});
  }
  return out;
}

/// What a test knows of a running activity.
struct Known {
  std::vector<SharedLinks::Use> uses;
  double weight = 1;
  double bound = 0;
};

Known draw(Random& random, const std::vector<Link>& links) {
  Known out;
  for (LinkIndex l = 0; l < links.size(); ++l) {
    const bool flow = random.uniform() < 0.5;
    if (random.uniform() < 0.25) out.uses.push_back({l, flow ? 1 : 0.1 + 3 * random.uniform()});
  }
  if (out.uses.empty()) out.uses.push_back({0, 1});
  out.weight = random.uniform() < 0.5 ? 1 : 0.2 + 5 * random.uniform();
  out.bound = random.uniform() < 0.8 ? 1e30 : 10 * random.uniform() + 0.1;
  return out;
}

using Running = std::map<SharedLinks::Activity, Known>;

/// The law that defines weighted max-min sharing: no link above its capacity, and every activity
/// has either the rate of its own bound, or a full link on which none has a larger rate for its
/// weight.
void require_max_min(const SharedLinks& sharing, const std::vector<Link>& links,
                     const Running& running) {
  constexpr double kRounding = 1e-9;
  std::vector<double> load(links.size());
  std::vector<double> highest(links.size());  // rate for its weight
  for (const auto& [id, known] : running) {
    for (const SharedLinks::Use& use : known.uses) {
      load[use.link] += sharing.rate(id) * use.amount;
      highest[use.link] = std::max(highest[use.link], sharing.rate(id) / known.weight);
    }
  }
  for (std::size_t l = 0; l < links.size(); ++l) {
    REQUIRE(load[l] <= links[l].bandwidth.count() * (1 + kRounding));
  }
  for (const auto& [id, known] : running) {
    const double rate = sharing.rate(id);
    REQUIRE(rate > 0);
    bool held = rate >= known.bound * (1 - kRounding);
    for (const SharedLinks::Use& use : known.uses) {
      const bool full = load[use.link] >= links[use.link].bandwidth.count() * (1 - kRounding);
      held = held || (full && rate / known.weight >= highest[use.link] * (1 - kRounding));
    }
    REQUIRE(held);
  }
}

}  // namespace

TEST_CASE("rates are weighted max-min after any starts and finishes", "[network][property]") {
  const auto seed = static_cast<std::uint64_t>(GENERATE(range(0, 100)));
  Random random(seed, "test_shared_links");
  std::vector<double> bandwidths;
  for (std::uint64_t l = 0; l < 2 + random.below(8); ++l) {
    bandwidths.push_back(random.uniform() < 0.5 ? 10 : 1 + 20 * random.uniform());
  }
  const std::vector<Link> links = links_of(bandwidths);
  SharedLinks sharing(links);
  Running running;
  for (int instant = 0; instant < 40; ++instant) {
    for (std::uint64_t i = 0; i < 1 + random.below(3); ++i) {
      if (!running.empty() && random.uniform() < 0.4) {
        const auto which =
            std::next(running.begin(), static_cast<std::ptrdiff_t>(random.below(running.size())));
        sharing.finish(instant, which->first);
        running.erase(which);
      } else {
        const Known known = draw(random, links);
        const auto id = sharing.start(
            instant,
            {.uses = known.uses, .work = 1e9, .weight = known.weight, .most_rate = known.bound});
        running[id] = known;
      }
    }
    sharing.settle(instant);
    CAPTURE(seed, instant);
    REQUIRE(sharing.running() == running.size());
    require_max_min(sharing, links, running);
  }
}

TEST_CASE("a change touches the activities that it reaches over links, and no others",
          "[network]") {
  const std::vector<Link> links = links_of({10, 10, 10});
  SharedLinks sharing(links);
  const std::vector<SharedLinks::Use> first = {{0, 1}};
  const std::vector<SharedLinks::Use> both = {{0, 1}, {1, 1}};
  const std::vector<SharedLinks::Use> apart = {{2, 1}};
  const auto a = sharing.start(0, {.uses = first, .work = 100});
  const auto c = sharing.start(0, {.uses = apart, .work = 100});
  sharing.settle(0);
  REQUIRE(sharing.completion_s(a) == 10);
  REQUIRE(sharing.completion_s(c) == 10);
  const std::uint64_t before = sharing.version(c);

  const auto b = sharing.start(4, {.uses = both, .work = 100});
  sharing.settle(4);
  REQUIRE(std::vector(sharing.changed().begin(), sharing.changed().end()) ==
          std::vector<SharedLinks::Activity>{b, a});
  REQUIRE(sharing.version(c) == before);
  // 60 of 100 are left of `a`, at half the link.
  REQUIRE(sharing.completion_s(a) == 4 + 60 / 5.0);
  REQUIRE(sharing.completion_s(b) == 4 + 100 / 5.0);
  REQUIRE(sharing.completion_s(c) == 10);

  // What leaves gives its share back.
  REQUIRE(sharing.finish(16, a) == 100);
  sharing.settle(16);
  REQUIRE(sharing.completion_s(b) == 16 + 40 / 10.0);
}

TEST_CASE("an activity moves its ports in proportion and no faster than its bound", "[network]") {
  const std::vector<Link> links = links_of({10, 40});
  SharedLinks sharing(links);
  const std::vector<SharedLinks::Use> uses = {{0, 1}, {1, 2}};
  const double bound = GENERATE(4.0, 1e9);
  const auto a = sharing.start(0, {.uses = uses, .work = 100, .most_rate = bound});
  sharing.settle(0);
  const double rate = std::min(bound, std::min(10 / 1.0, 40 / 2.0));
  REQUIRE(sharing.rate(a) == rate);
  REQUIRE(sharing.finish(100 / rate, a) == Approx(100));
  REQUIRE(sharing.carried(0) == Approx(100 * 1));
  REQUIRE(sharing.carried(1) == Approx(100 * 2));
}

TEST_CASE("a number that is used again has a new version", "[network]") {
  const std::vector<Link> links = links_of({10});
  SharedLinks sharing(links);
  const std::vector<SharedLinks::Use> uses = {{0, 1}};
  const auto first = sharing.start(0, {.uses = uses, .work = 1});
  sharing.settle(0);
  const std::uint64_t stale = sharing.version(first);
  sharing.finish(0.1, first);
  const auto second = sharing.start(0.1, {.uses = uses, .work = 1});
  sharing.settle(0.1);
  REQUIRE(second == first);
  REQUIRE(sharing.version(second) > stale);
}
