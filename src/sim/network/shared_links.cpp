#include "sim/network/shared_links.hpp"

#include <algorithm>
#include <cmath>

#include "base/assert.hpp"

namespace pipecast {

SharedLinks::SharedLinks(std::span<const Link> links) : links_(links.size()) {
  for (std::size_t i = 0; i < links.size(); ++i) links_[i].capacity = links[i].bandwidth.count();
}

SharedLinks::Activity SharedLinks::start(double now_s, const Demand& demand) {
  Activity id = 0;
  if (free_.empty()) {
    id = static_cast<Activity>(activities_.size());
    activities_.emplace_back();
  } else {
    id = free_.back();
    free_.pop_back();
  }
  ActivityState& a = activities_[id];
  a.uses.clear();
  a.bound = demand.most_rate;
  for (const Use& use : demand.uses) {
    LinkState& link = links_[use.link];
    PIPECAST_ASSERT(link.capacity > 0 && use.amount > 0);
    const auto at = static_cast<std::uint32_t>(link.members.size());
    link.members.push_back({id, static_cast<std::uint32_t>(a.uses.size())});
    a.uses.push_back({use.link, at, use.amount});
    a.bound = std::min(a.bound, link.capacity / use.amount);
  }
  PIPECAST_ASSERT(demand.work > 0 && demand.weight > 0 && a.bound > 0 && std::isfinite(a.bound));
  a.work = demand.work;
  a.weight = demand.weight;
  a.fades = demand.fades;
  a.progress = 0;
  a.since_s = now_s;
  a.rate = 0;
  a.completion_s = std::numeric_limits<double>::infinity();
  a.fade_s = a.completion_s;
  a.running = true;
  ++a.version;
  started_.push_back(id);
  return id;
}

double SharedLinks::finish(double now_s, Activity activity) {
  ActivityState& a = activities_[activity];
  PIPECAST_ASSERT(a.running && now_s >= a.since_s);
  const double progress = a.progress + a.rate * (now_s - a.since_s);
  for (const Membership& use : a.uses) {
    LinkState& link = links_[use.link];
    link.carried += use.amount * progress;
    // The last member takes the free place.
    const Member moved = link.members.back();
    link.members[use.position] = moved;
    activities_[moved.activity].uses[moved.use].position = use.position;
    link.members.pop_back();
    if (!link.members.empty()) released_.push_back(use.link);
  }
  a.running = false;
  ++a.version;
  free_.push_back(activity);
  return progress;
}

void SharedLinks::settle(double now_s) {
  changed_.clear();
  collect_component();
  prepare_stops(now_s);
  fill();
  publish(now_s);
}

void SharedLinks::visit(Activity a) {
  if (activities_[a].seen == settlement_) return;
  activities_[a].seen = settlement_;
  component_.push_back(a);
}

void SharedLinks::collect_component() {
  ++settlement_;
  component_.clear();
  shared_links_.clear();
  for (const Activity a : started_) {
    if (activities_[a].running) visit(a);
  }
  for (const LinkIndex l : released_) {
    for (const Member& member : links_[l].members) visit(member.activity);
  }
  started_.clear();
  released_.clear();
  for (std::size_t i = 0; i < component_.size(); ++i) {
    steps_ += activities_[component_[i]].uses.size();
    for (const Membership& use : activities_[component_[i]].uses) {
      LinkState& link = links_[use.link];
      // A link of one activity is in that one's bound.
      if (link.members.size() < 2 || link.seen == settlement_) continue;
      link.seen = settlement_;
      shared_links_.push_back(use.link);
      for (const Member& member : link.members) visit(member.activity);
    }
  }
}

bool SharedLinks::later(const Stop& a, const Stop& b) {
  if (a.level != b.level) return a.level > b.level;
  return a.is_link != b.is_link ? b.is_link : a.index > b.index;
}

void SharedLinks::fade(ActivityState& a, double now_s) const {
  // A fade that is ahead by no more than rounding has come.
  constexpr double kRounding = 1e-9;
  const double progress = a.progress + a.rate * (now_s - a.since_s) + kRounding * a.work;
  while (!a.fades.empty() && a.fades.front().progress <= progress) {
    a.weight = a.fades.front().weight;
    a.fades = a.fades.subspan(1);
  }
}

void SharedLinks::prepare_stops(double now_s) {
  stops_.clear();
  open_ = component_.size();
  for (const Activity id : component_) {
    ActivityState& a = activities_[id];
    a.open = true;
    if (!a.fades.empty()) fade(a, now_s);
    stops_.push_back({a.bound / a.weight, id, false});
  }
  for (const LinkIndex l : shared_links_) {
    LinkState& link = links_[l];
    link.left = link.capacity;
    link.open = static_cast<std::uint32_t>(link.members.size());
    renew_growth(link);
    link.whole_growth = link.growth;
    stops_.push_back({link.left / link.growth, l, true});
  }
  std::make_heap(stops_.begin(), stops_.end(), later);
}

void SharedLinks::renew_growth(LinkState& link) const {
  link.growth = 0;
  for (const Member& member : link.members) {
    const ActivityState& a = activities_[member.activity];
    if (a.open) link.growth += a.weight * a.uses[member.use].amount;
  }
}

void SharedLinks::fill() {
  level_ = 0;
  while (open_ > 0) {
    ++steps_;
    std::pop_heap(stops_.begin(), stops_.end(), later);
    const Stop next = stops_.back();
    stops_.pop_back();
    if (!next.is_link) {
      const ActivityState& a = activities_[next.index];
      if (!a.open) continue;
      level_ = std::max(level_, next.level);
      stop(next.index, a.bound);
      continue;
    }
    LinkState& link = links_[next.index];
    if (link.open == 0) continue;
    // Activities that stopped meanwhile left more to the others: the level of a link only rises.
    // Rounding must not lower it.
    const double level = std::max(level_, link.left / link.growth);
    if (level > next.level) {
      stops_.push_back({level, next.index, true});
      std::push_heap(stops_.begin(), stops_.end(), later);
    } else {
      fill_link(link, level);
    }
  }
}

void SharedLinks::fill_link(LinkState& link, double level) {
  level_ = level;
  for (const Member& member : link.members) {
    const ActivityState& a = activities_[member.activity];
    if (a.open) stop(member.activity, std::min(a.weight * level, a.bound));
  }
}

void SharedLinks::stop(Activity id, double rate) {
  // Below this part of its first value, the rest of a difference may be rounding.
  constexpr double kCancelled = 1e-6;
  ActivityState& a = activities_[id];
  a.open = false;
  a.next_rate = rate;
  --open_;
  for (const Membership& use : a.uses) {
    LinkState& link = links_[use.link];
    if (link.seen != settlement_) continue;
    --link.open;
    link.left -= rate * use.amount;
    link.growth -= a.weight * use.amount;
    if (link.open > 0 && link.growth < kCancelled * link.whole_growth) renew_growth(link);
  }
}

void SharedLinks::publish(double now_s) {
  for (const Activity id : component_) {
    ActivityState& a = activities_[id];
    if (a.next_rate == a.rate && a.fade_s > now_s) continue;
    a.progress += a.rate * (now_s - a.since_s);
    a.since_s = now_s;
    a.rate = a.next_rate;
    a.completion_s = now_s + std::max(0.0, a.work - a.progress) / a.rate;
    a.fade_s = std::numeric_limits<double>::infinity();
    if (!a.fades.empty() && a.rate < a.bound) {
      const double fade_s = now_s + (a.fades.front().progress - a.progress) / a.rate;
      // The time may stand still in double precision.
      if (fade_s > now_s) a.fade_s = fade_s;
    }
    ++a.version;
    changed_.push_back(id);
  }
}

}  // namespace pipecast
