#include <fmt/format.h>

#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "base/random.hpp"
#include "sim/cluster/nic_sharing.hpp"
#include "sim/network/transfers.hpp"

using namespace pipecast;

namespace {

constexpr std::size_t kGroup = 8;  // GPUs of an expert-parallel group, each on a node of its own
constexpr std::size_t kGroups = 3;
constexpr std::size_t kGpus = kGroup * kGroups;
constexpr double kFlowShare = 0.125;          // beside the seven flows of an all-to-all of eight
constexpr double kJobShare = 0.5;             // beside an all-to-all as one job
constexpr Duration kAlone = milliseconds(1);  // a message that has its NIC for itself
/// Every change of pace rounds an end up to a picosecond.
constexpr double kRounding = 10;

double of(Duration time) { return static_cast<double>(time.count()); }
void require_near(Time got, double picoseconds) {
  CAPTURE(got.count(), picoseconds);
  REQUIRE(std::abs(static_cast<double>(got.count()) - picoseconds) <= kRounding);
}

/// Messages and exchanges with a clock: the smallest thing that drives NicSharing as a column does.
class Nics {
 public:
  explicit Nics(double message_share) : sharing_(kGpus, kGroup, message_share) {}

  void at(Time when, std::function<void()> action) { actions_.emplace(when, std::move(action)); }
  void message(std::uint32_t from, std::uint32_t to, Duration alone, Time start = Time()) {
    at(start, [=, this] {
      sharing_.start(from, to, alone, now_, reschedule());
      set_rate(from / kGroup);
      set_rate(to / kGroup);
    });
  }
  /// @param use  part of its ports at its own pace
  void exchange(std::size_t group, Duration alone, double use, Time start = Time()) {
    at(start, [=, this] {
      exchanges_[group] = {.going = true, .left = of(alone), .use = use, .rate = 0, .since = now_};
      set_rate(group);
    });
  }
  /// Something that uses the ports for ever, whatever messages there are.
  void use(std::size_t group, double use, Time start = Time()) {
    at(start,
       [=, this] { sharing_.set_use(static_cast<std::uint32_t>(group), use, now_, reschedule()); });
  }

  void run() {
    for (;;) {
      const std::optional<Time> next = next_time();
      if (!next) return;
      now_ = *next;
      take_actions();
      end_messages();
      end_exchanges();
      require_capacity();
    }
  }

  [[nodiscard]] Time message_end(std::uint32_t from) const { return message_ends_.at(from); }
  [[nodiscard]] Time exchange_end(std::size_t group) const { return exchange_ends_.at(group); }
  [[nodiscard]] const NicSharing& sharing() const { return sharing_; }

 private:
  struct Exchange {
    bool going = false;
    double left = 0;
    double use = 0;
    double rate = 0;
    Time since;
    Time end{};
  };

  std::function<void(std::uint32_t, Time)> reschedule() {
    return [this](std::uint32_t from, Time when) { due_[from] = when; };
  }

  void set_rate(std::size_t group) {
    Exchange& e = exchanges_[group];
    if (!e.going) return;
    const double rate = sharing_.exchange_rate(static_cast<std::uint32_t>(group), e.use);
    e.left -= of(now_ - e.since) * e.rate;
    e.since = now_;
    e.rate = rate;
    e.end = now_ + duration_from_picoseconds(std::max(0.0, e.left) / rate);
    sharing_.set_use(static_cast<std::uint32_t>(group), e.use * rate, now_, reschedule());
  }

  [[nodiscard]] std::optional<Time> next_time() const {
    std::optional<Time> next;
    const auto take = [&next](Time when) { next = next ? std::min(*next, when) : when; };
    if (!actions_.empty()) take(actions_.begin()->first);
    for (const auto& [from, when] : due_) take(when);
    for (const auto& [group, e] : exchanges_) {
      if (e.going) take(e.end);
    }
    return next;
  }

  void take_actions() {
    while (!actions_.empty() && actions_.begin()->first == now_) {
      const auto action = std::move(actions_.begin()->second);
      actions_.erase(actions_.begin());
      action();
    }
  }

  void end_messages() {
    for (std::uint32_t from = 0; from < kGpus; ++from) {
      const auto due = due_.find(from);
      if (due == due_.end() || due->second != now_) continue;
      due_.erase(due);
      const std::uint32_t to = sharing_.message(from).to;
      sharing_.finish(from, now_, reschedule());
      message_ends_[from] = now_;
      set_rate(from / kGroup);
      set_rate(to / kGroup);
    }
  }

  void end_exchanges() {
    for (auto& [group, e] : exchanges_) {
      if (!e.going || e.end != now_) continue;
      e.going = false;
      sharing_.set_use(static_cast<std::uint32_t>(group), 0, now_, reschedule());
      exchange_ends_[group] = now_;
    }
  }

  /// Neither direction of a port carries more than it can.
  void require_capacity() const {
    std::vector<double> in(kGpus);
    for (std::uint32_t from = 0; from < kGpus; ++from) {
      const NicSharing::Message& m = sharing_.message(from);
      if (!m.under_way) continue;
      REQUIRE(m.rate > 0);
      in[m.to] += m.rate;
      REQUIRE(m.rate + exchange_use(from / kGroup) <= 1 + 1e-12);
    }
    for (std::size_t gpu = 0; gpu < kGpus; ++gpu) {
      if (in[gpu] > 0) REQUIRE(in[gpu] + exchange_use(gpu / kGroup) <= 1 + 1e-12);
    }
  }

  /// What takes the ports whatever happens is no exchange: it does not make room for messages.
  [[nodiscard]] double exchange_use(std::size_t group) const {
    const auto e = exchanges_.find(group);
    return e != exchanges_.end() && e->second.going ? e->second.use * e->second.rate : 0;
  }

  NicSharing sharing_;
  Time now_;
  std::multimap<Time, std::function<void()>> actions_;
  std::map<std::uint32_t, Time> due_;  // ends of messages under way, by sender
  std::map<std::uint32_t, Time> message_ends_;
  std::map<std::size_t, Exchange> exchanges_;
  std::map<std::size_t, Time> exchange_ends_;
};

constexpr std::uint32_t first_of(std::uint32_t group) { return group * kGroup; }

/// A message of a case that both engines play.
struct Sent {
  std::uint32_t from = 0;
  std::uint32_t to = 0;
  double alone_s = 0;
  double start_s = 0;
};

/// An all-to-all in group 0 beside messages.
struct Case {
  double use = 1;  // part of its ports at its own pace: its GPUs do the rest of it elsewhere
  double exchange_s = 0;
  std::vector<Sent> messages{};
};

struct Ends {
  double exchange_s = 0;
  std::vector<double> messages_s{};
};

Ends by_sharing(const Case& c, double message_share) {
  const auto when = [](double s) { return Time() + duration_from_seconds(s); };
  Nics nics(message_share);
  nics.exchange(0, duration_from_seconds(c.exchange_s), c.use);
  for (const Sent& m : c.messages) {
    nics.message(m.from, m.to, duration_from_seconds(m.alone_s), when(m.start_s));
  }
  nics.run();
  Ends out{.exchange_s = to_seconds(nics.exchange_end(0))};
  for (const Sent& m : c.messages) out.messages_s.push_back(to_seconds(nics.message_end(m.from)));
  return out;
}

/// The same flow by flow: every GPU of the group has a link of its own before its port, which lets
/// the all-to-all through at its own pace.
Ends by_coflow(const Case& c, Arbitration arbitration) {
  constexpr double kPort = 1e12;  // bytes/s: so many that rounding flows to bytes is nothing
  TransferPlan plan;
  const auto link = [&plan](const std::string& id, double bytes_per_second) {
    plan.links.push_back({.id = id, .bandwidth = Bandwidth(bytes_per_second)});
  };
  for (std::size_t i = 0; i < 2 * kGpus; ++i) link("port" + std::to_string(i), kPort);
  for (std::size_t i = 0; i < kGroup; ++i) link("pace" + std::to_string(i), c.use * kPort);
  const auto bytes = [](double s) { return Bytes(std::llround(s * kPort)); };
  plan.groups.push_back({"all_to_all"});
  for (LinkIndex from = 0; from < kGroup; ++from) {
    for (LinkIndex to = 0; to < kGroup; ++to) {
      if (from == to) continue;
      plan.flows.push_back({.id = fmt::format("{}to{}", from, to),
                            .links = {from, static_cast<LinkIndex>(kGpus + to),
                                      static_cast<LinkIndex>(2 * kGpus + from)},
                            .bytes = bytes(c.exchange_s * c.use / (kGroup - 1)),
                            .group = 0});
    }
  }
  const std::size_t first = plan.flows.size();
  for (const Sent& m : c.messages) {
    plan.flows.push_back({.id = fmt::format("message{}", m.from),
                          .links = {m.from, static_cast<LinkIndex>(kGpus + m.to)},
                          .bytes = bytes(m.alone_s),
                          .start_s = m.start_s});
  }
  const Completion done =
      complete_transfers(plan, {.mode = NetworkMode::kCoflow, .arbitration = arbitration});
  return {
      .exchange_s = done.group_s[0],
      .messages_s = {done.flow_s.begin() + static_cast<std::ptrdiff_t>(first), done.flow_s.end()}};
}

/// Messages between the groups, every GPU sending one at most.
/// @param per_receiver  messages to one GPU at most
Case random_case(Random& random, int per_receiver) {
  Case out{.use = 0.2 + 0.8 * random.uniform(), .exchange_s = 1e-3 * (0.1 + random.uniform())};
  std::vector<int> sent(kGpus);
  std::vector<int> received(kGpus);
  for (int i = 0; i < 12; ++i) {
    const auto from = static_cast<std::uint32_t>(random.below(kGpus));
    const auto to = static_cast<std::uint32_t>(random.below(kGpus));
    if (from / kGroup == to / kGroup || sent[from] > 0 || received[to] == per_receiver) continue;
    ++sent[from];
    ++received[to];
    out.messages.push_back({from, to, 1e-3 * (0.01 + random.uniform()), 1e-3 * random.uniform()});
  }
  return out;
}

}  // namespace

TEST_CASE("a message on idle ports has its NIC for itself, to the picosecond", "[nic]") {
  Nics nics(kFlowShare);
  nics.message(first_of(0), first_of(1), kAlone, Time(7));
  nics.run();
  REQUIRE(nics.message_end(first_of(0)) == Time(7) + kAlone);
}

TEST_CASE("a message takes what an all-to-all leaves it, its fair share at least", "[nic]") {
  const double share = GENERATE(kFlowShare, kJobShare);
  const double use = GENERATE(0.0, 0.3, 0.6, 0.875, 0.95, 1.0);
  const bool at_sender = GENERATE(true, false);
  CAPTURE(share, use, at_sender);
  Nics nics(share);
  nics.use(at_sender ? 0 : 1, use);
  nics.message(first_of(0), first_of(1), kAlone);
  nics.run();
  require_near(nics.message_end(first_of(0)), of(kAlone) / std::max(share, 1 - use));
}

TEST_CASE("of two busy ends the busier one sets a message's pace", "[nic]") {
  Nics nics(kFlowShare);
  nics.use(0, 0.3);
  nics.use(1, 0.8);
  nics.message(first_of(0), first_of(1), kAlone);
  nics.run();
  require_near(nics.message_end(first_of(0)), of(kAlone) / (1 - 0.8));
}

TEST_CASE("messages to one receiver share its port, others do not meet", "[nic]") {
  Nics nics(kFlowShare);
  const Duration half = picoseconds(kAlone.count() / 2);
  nics.message(first_of(0), first_of(1), kAlone);
  nics.message(first_of(2), first_of(1), half);
  nics.message(first_of(0) + 1, first_of(1) + 1, kAlone);  // the same groups, other GPUs
  nics.run();
  // Half the port each until the shorter one is done; the other one has then as much left as that
  // was long.
  require_near(nics.message_end(first_of(2)), 2 * of(half));
  require_near(nics.message_end(first_of(0)), 2 * of(half) + of(kAlone - half));
  REQUIRE(nics.message_end(first_of(0) + 1) == Time() + kAlone);
}

TEST_CASE("both directions of a port are free of each other", "[nic]") {
  Nics nics(kFlowShare);
  nics.message(first_of(0), first_of(1), kAlone);
  nics.message(first_of(1), first_of(0), kAlone);
  nics.run();
  REQUIRE(nics.message_end(first_of(0)) == Time() + kAlone);
  REQUIRE(nics.message_end(first_of(1)) == Time() + kAlone);
}

TEST_CASE("a message that is half through goes on at the new rate", "[nic]") {
  const double use = GENERATE(0.4, 0.9, 1.0);
  CAPTURE(use);
  const Duration half = picoseconds(kAlone.count() / 2);
  const double rate = std::max(kFlowShare, 1 - use);
  Nics nics(kFlowShare);
  nics.message(first_of(0), first_of(1), kAlone);
  nics.use(0, use, Time() + half);
  nics.message(first_of(2), first_of(1) + 1, kAlone);
  nics.use(2, use);
  nics.use(2, 0, Time() + half);
  nics.run();
  require_near(nics.message_end(first_of(0)), of(half) + of(half) / rate);
  require_near(nics.message_end(first_of(2)), of(half) + of(kAlone) - of(half) * rate);
}

TEST_CASE("messages slow an all-to-all only where it would leave them less than their share",
          "[nic]") {
  const double share = GENERATE(kFlowShare, kJobShare);
  NicSharing sharing(kGpus, kGroup, share);
  const auto ignore = [](std::uint32_t, Time) {};
  REQUIRE(sharing.exchange_rate(0, 1) == 1);
  sharing.start(first_of(0), first_of(1), kAlone, Time(), ignore);
  for (const double use : {0.1, 0.4, 0.6, 0.9, 1.0}) {
    CAPTURE(share, use);
    // Either all of it, or so much that the ports carry it and the message.
    const double rate = std::min(1.0, (1 - share) / use);
    REQUIRE(sharing.exchange_rate(0, use) == Approx(rate));
    REQUIRE(sharing.exchange_rate(1, use) == Approx(rate));
    REQUIRE(sharing.exchange_rate(2, use) == 1);  // another group's
  }
  sharing.finish(first_of(0), Time() + kAlone, ignore);
  REQUIRE(sharing.exchange_rate(0, 1) == 1);
  REQUIRE(sharing.exchange_rate(1, 1) == 1);
}

TEST_CASE("an all-to-all loses what messages carried in its time, and no more", "[nic]") {
  const double share = GENERATE(kFlowShare, kJobShare);
  CAPTURE(share);
  const Duration exchange = GENERATE(milliseconds(1), milliseconds(50));
  Nics nics(share);
  nics.exchange(0, exchange, 1);
  nics.message(first_of(0), first_of(1), kAlone);
  nics.run();
  const double together = of(exchange) / (1 - share);  // if the message goes on for so long
  const double message = of(kAlone) / share;           // if the exchange does
  if (message < together) {
    require_near(nics.message_end(first_of(0)), message);
    require_near(nics.exchange_end(0), of(exchange) + of(kAlone));
  } else {
    require_near(nics.exchange_end(0), together);
    require_near(nics.message_end(first_of(0)), together + of(kAlone) - share * together);
  }
}

TEST_CASE("with one message to a GPU sharing agrees with the coflow engine to the rounding",
          "[nic][property]") {
  // An all-to-all of eight has seven flows on a port, and a message one of eight; as one job it has
  // half.
  const auto [arbitration, share] =
      GENERATE(std::pair{Arbitration::kFlow, kFlowShare}, std::pair{Arbitration::kJob, kJobShare});
  Random random(1, "cases");
  for (int i = 0; i < 100; ++i) {
    const Case c = random_case(random, 1);
    CAPTURE(i, share, c.use);
    const Ends shared = by_sharing(c, share);
    const Ends coflow = by_coflow(c, arbitration);
    constexpr double kWithin = 1e-6;
    REQUIRE(shared.exchange_s == Approx(coflow.exchange_s).epsilon(kWithin));
    for (std::size_t m = 0; m < c.messages.size(); ++m) {
      REQUIRE(shared.messages_s[m] == Approx(coflow.messages_s[m]).epsilon(kWithin));
    }
  }
}

TEST_CASE("with two messages to a GPU sharing departs from the coflow engine by the second's share",
          "[nic][property]") {
  // Beside two messages max-min leaves an all-to-all of n flows n/(n+2) of a port and each message
  // 1/(n+2); sharing n/(n+1) and 1/(2(n+1)).
  const auto [arbitration, share, flows] = GENERATE(std::tuple{Arbitration::kFlow, kFlowShare, 7.0},
                                                    std::tuple{Arbitration::kJob, kJobShare, 1.0});
  const double exchange_sooner = (flows + 1) / (flows + 2);
  const double message_later = 2 * (flows + 1) / (flows + 2);
  Random random(2, "cases");
  bool differed = false;
  for (int i = 0; i < 200; ++i) {
    Case c = random_case(random, 2);
    c.use = 0.7 + 0.3 * random.uniform();
    CAPTURE(i, share, c.use);
    const Ends shared = by_sharing(c, share);
    const Ends coflow = by_coflow(c, arbitration);
    constexpr double kRoundingUp = 1 + 1e-6;
    REQUIRE(shared.exchange_s <= coflow.exchange_s * kRoundingUp);
    REQUIRE(shared.exchange_s * kRoundingUp >= coflow.exchange_s * exchange_sooner);
    differed = differed || shared.exchange_s * kRoundingUp < coflow.exchange_s;
    for (std::size_t m = 0; m < c.messages.size(); ++m) {
      REQUIRE(shared.messages_s[m] <= coflow.messages_s[m] * message_later * kRoundingUp);
      REQUIRE(shared.messages_s[m] * kRoundingUp >= coflow.messages_s[m] * exchange_sooner);
    }
  }
  REQUIRE(differed);
}
