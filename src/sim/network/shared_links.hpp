/// Weighted max-min fair sharing of links, solved again only where something changed.
#pragma once

#include <cstdint>
#include <limits>
#include <span>
#include <vector>

#include "base/units.hpp"
#include "sim/network/transfer_plan.hpp"

namespace pipecast {

/// What goes on over links at once: activities that use every link of theirs in fixed proportion.
/// A flow uses 1 byte of each link per byte of progress; a collective uses the bytes of each port
/// per byte of its most loaded port.
///
/// Rates of progress are weighted max-min fair: all grow in proportion to their weights until a
/// link is full, its activities stop there, the others grow on. An activity's rate changes only
/// with one that it shares a link with, directly or by way of others, so only this component is
/// solved again. Between changes nothing is computed: an activity holds its rate, how far it had
/// come when the rate was set, and when it will be complete at that rate.
///
///     start, finish, refresh    any number, at instants that never go back
///     settle(now)               gives new rates; changed() lists whose forecast is another
///
/// The caller keeps the forecasts (completion_s) in a queue of its own; version() tells an entry
/// that has been overtaken.
class SharedLinks {
 public:
  /// Running activities; numbers are used again after finish().
  using Activity = std::uint32_t;

  struct Use {
    LinkIndex link = 0;
    double amount = 1;  ///< bytes on the link per unit of progress, > 0
  };

  /// From some progress on, an activity counts with another weight.
  struct Fade {
    double progress = 0;
    double weight = 1;  ///< > 0
  };

  struct Demand {
    std::span<const Use> uses;  ///< each link once; at least one unless most_rate is finite
    double work = 0;            ///< units of progress until it is complete, > 0
    double weight = 1;          ///< > 0
    double most_rate = std::numeric_limits<double>::infinity();  ///< of its own, units a second
    /// By rising progress; must stay in place until finish(). They count when rates are set anew;
    /// to be exact, refresh() the activity at its fade_s.
    std::span<const Fade> fades{};
  };

  /// @param links  every bandwidth that an activity uses must be positive
  explicit SharedLinks(std::span<const Link> links);

  /// The activity stands still until settle().
  Activity start(double now_s, const Demand& demand);

  /// Takes an activity off its links.
  /// @return the progress that its rates have made of it; its work, if it was complete
  double finish(double now_s, Activity activity);

  /// Has an activity take part in the next settle(), because its weight fades.
  void refresh(Activity activity) { started_.push_back(activity); }

  /// Shares the links anew after starts and finishes.
  void settle(double now_s);

  /// Activities whose rates the last settle() changed, in an order that is the same in every run.
  [[nodiscard]] std::span<const Activity> changed() const { return changed_; }

  [[nodiscard]] double rate(Activity a) const { return activities_[a].rate; }
  [[nodiscard]] double work(Activity a) const { return activities_[a].work; }
  /// When the activity will be complete if no rate changes.
  [[nodiscard]] double completion_s(Activity a) const { return activities_[a].completion_s; }
  /// When its weight fades next if no rate changes; infinite if it has the rate that it has alone.
  [[nodiscard]] double fade_s(Activity a) const { return activities_[a].fade_s; }
  /// Counts the changes of a number's forecast, starts and finishes among them.
  [[nodiscard]] std::uint64_t version(Activity a) const { return activities_[a].version; }
  /// Bytes that finished activities have put on a link: the sum of rates times durations.
  [[nodiscard]] double carried(LinkIndex link) const { return links_[link].carried; }
  /// What all settlements took: ports and links looked at, the same in every run.
  [[nodiscard]] std::uint64_t steps() const { return steps_; }
  [[nodiscard]] std::size_t running() const { return activities_.size() - free_.size(); }

 private:
  struct Membership {
    LinkIndex link = 0;
    std::uint32_t position = 0;  // in the link's members
    double amount = 1;
  };
  struct Member {
    Activity activity = 0;
    std::uint32_t use = 0;  // position in the activity's uses
  };
  struct ActivityState {
    std::vector<Membership> uses;
    double work = 0;
    double weight = 1;
    std::span<const Fade> fades;  // still to come
    double bound = 0;             // rate that it has alone
    double progress = 0;          // at `since_s`
    double since_s = 0;
    double rate = 0;
    double completion_s = 0;
    double fade_s = 0;
    double next_rate = 0;
    std::uint64_t version = 0;
    std::uint64_t seen = 0;  // number of the settlement that it takes part in
    bool running = false;
    bool open = false;  // still grows in this settlement
  };
  struct LinkState {
    std::vector<Member> members;
    double capacity = 0;
    double carried = 0;
    double left = 0;          // of the capacity, for members that still grow
    double growth = 0;        // bytes a second that they take per level
    double whole_growth = 0;  // the same before any stopped
    std::uint32_t open = 0;   // how many still grow
    std::uint64_t seen = 0;
  };
  /// What stops growth, at which level: a full link, or an activity's own bound.
  struct Stop {
    double level = 0;
    std::uint32_t index = 0;
    bool is_link = false;
  };

  static bool later(const Stop& a, const Stop& b);
  void visit(Activity a);
  void collect_component();
  void fade(ActivityState& a, double now_s) const;
  void prepare_stops(double now_s);
  void fill();
  void fill_link(LinkState& link, double level);
  void stop(Activity a, double rate);
  void renew_growth(LinkState& link) const;
  void publish(double now_s);

  std::vector<LinkState> links_;
  std::vector<ActivityState> activities_;
  std::vector<Activity> free_;

  std::vector<Activity> started_;        // since the last settlement
  std::vector<LinkIndex> released_;      // links that lost a member since then
  std::vector<Activity> component_;      // of this settlement
  std::vector<LinkIndex> shared_links_;  // links with several members in it
  std::vector<Stop> stops_;              // heap, lowest level first
  std::vector<Activity> changed_;
  std::uint64_t settlement_ = 0;
  std::uint64_t steps_ = 0;
  double level_ = 0;
  std::size_t open_ = 0;
};

}  // namespace pipecast
