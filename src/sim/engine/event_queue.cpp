#include "sim/engine/event_queue.hpp"

#include <bit>
#include <limits>

namespace pipecast {

namespace {

// The constants below are the fastest of those tried with bench_engine; order never depends on
// them.

/// Events that a bucket of a new rung holds on average. Buckets fill up while they come nearer.
constexpr std::size_t kEventsPerBucket = 4;
/// The coarsest rung reaches this many times the mean distance of the top's events: all of them if
/// they are spread evenly, all but 2 % if exponentially. Covering the farthest would leave the near
/// buckets crowded.
constexpr double kSpanOfMean = 4;
/// A rung has at most 2^13 buckets. A set that wants more is spread twice, first through 2^10
/// buckets, whose last chunks (256 KiB) all stay in a second-level cache while they fill.
constexpr int kMostFanOutBits = 13;
constexpr int kCoarseFanOutBits = 10;

int bits_of(std::uint64_t value) { return static_cast<int>(std::bit_width(value)); }

// Function objects rather than functions, so that the standard algorithms inline them.
constexpr auto kRunsBefore = [](const QueuedEvent& a, const QueuedEvent& b) {
  return runs_before(a, b);
};
constexpr auto kRunsAfter = [](const QueuedEvent& a, const QueuedEvent& b) {
  return runs_before(b, a);
};

/// For a few events that may be in order already: cheaper than a general sort's set-up.
void insertion_sort(std::vector<QueuedEvent>& events) {
  for (std::size_t i = 1; i < events.size(); ++i) {
    const QueuedEvent event = events[i];
    std::size_t place = i;
    for (; place > 0 && runs_before(event, events[place - 1]); --place) {
      events[place] = events[place - 1];
    }
    events[place] = event;
  }
}

}  // namespace

void EventQueue::reserve(std::size_t events) {
  const std::size_t at_least = std::max<std::size_t>(events, kSortedAtOnce);
  top_.reserve(at_least);
  run_.reserve(at_least);  // all of them may fall on one instant
  fresh_.reserve(kFreshLimit + kSortedAtOnce);
  pool_.reserve(at_least / ChunkPool::kChunkEvents + at_least / kEventsPerBucket);
  for (EventFifo& lane : lanes_) lane.reserve(kSortedAtOnce);
}

std::size_t EventQueue::size() const {
  std::size_t waiting = in_lanes_ + (run_.size() - run_next_) + fresh_.size() + top_.size();
  for (std::size_t i = 0; i < depth_; ++i) {
    for (std::size_t bucket = rungs_[i].next; bucket < rungs_[i].size; ++bucket) {
      waiting += rungs_[i].buckets[bucket].count;
    }
  }
  return waiting;
}

bool EventQueue::pop_at_present(std::uint64_t limit, QueuedEvent& out) {
  if (now_ > limit) return false;
  std::size_t phase = 0;
  while (lanes_[phase].empty()) ++phase;
  EventFifo& lane = lanes_[phase];
  // An event of this instant that was pushed before the instant began has a lower insertion.
  const bool run_waits = run_next_ != run_.size() || !fresh_.empty();
  if (run_waits) {
    const QueuedEvent& sorted = run_is_first() ? run_[run_next_] : fresh_.front();
    if (runs_before(sorted, lane.front())) return pop_sorted(limit, out);
  }
  out = lane.front();
  lane.pop();
  --in_lanes_;
  return true;
}

void EventQueue::push_fresh(const QueuedEvent& event) {
  fresh_.push_back(event);
  std::push_heap(fresh_.begin(), fresh_.end(), kRunsAfter);
  // Spreading pays only if it moves mostly fresh events: the run may be long.
  if (fresh_.size() > kFreshLimit && fresh_.size() > run_.size() - run_next_) spread_fresh();
}

void EventQueue::pop_fresh() {
  std::pop_heap(fresh_.begin(), fresh_.end(), kRunsAfter);
  fresh_.pop_back();
}

void EventQueue::sort_run() {
  if (run_.size() <= kSortedAtOnce) {
    insertion_sort(run_);
  } else if (!std::is_sorted(run_.begin(), run_.end(), kRunsBefore)) {
    // A crowd at one instant comes in order of insertion; anything else has to be sorted.
    std::sort(run_.begin(), run_.end(), kRunsBefore);
  }
}

bool EventQueue::refill() {
  run_.clear();
  run_next_ = 0;
  while (run_.empty()) {
    if (depth_ == 0) {
      if (top_.empty()) return false;
      open_top();
      continue;
    }
    Rung& rung = rungs_[depth_ - 1];
    while (rung.next < rung.size && rung.buckets[rung.next].count == 0) ++rung.next;
    if (rung.next == rung.size) {
      --depth_;
      continue;
    }
    EventBucket& bucket = rung.buckets[rung.next++];
    if (bucket.count > kSortedAtOnce && rung.shift > 0 && depth_ < kMostRungs) {
      spread_bucket(rung, bucket);
      continue;
    }
    move_to_run(bucket);
  }
  return true;
}

void EventQueue::move_to_run(EventBucket& bucket) {
  run_.resize(bucket.count);
  auto out = run_.begin();
  pool_.for_each(bucket, [&](const QueuedEvent& event) { *out++ = event; });
  pool_.release(bucket);
  sort_run();
}

EventQueue::Rung& EventQueue::add_rung(std::uint64_t start, std::uint64_t span,
                                       std::size_t events) {
  PIPECAST_ASSERT(depth_ < kMostRungs);
  const int span_bits = bits_of(span - 1);
  const int wanted = bits_of(events / kEventsPerBucket);
  const int fan_out_bits =
      wanted > kMostFanOutBits ? kCoarseFanOutBits : std::max(wanted, kLeastFanOutBits);
  Rung& rung = rungs_[depth_++];
  rung.start = start;
  rung.shift = std::max(0, span_bits - fan_out_bits);
  rung.next = 0;
  rung.size = static_cast<std::size_t>((span - 1) >> rung.shift) + 1;
  if (rung.buckets.size() < rung.size) rung.buckets.resize(rung.size);
  return rung;
}

void EventQueue::open_top() {
  std::uint64_t first = std::numeric_limits<std::uint64_t>::max();
  std::uint64_t last = 0;
  for (const QueuedEvent& event : top_) {
    first = std::min(first, event.when);
    last = std::max(last, event.when);
  }
  if (top_.size() <= kSortedAtOnce || first == last) {
    run_.assign(top_.begin(), top_.end());
    top_.clear();
    top_start_ = last + 1;
    sort_run();
    return;
  }
  double distance = 0;
  for (const QueuedEvent& event : top_) distance += static_cast<double>(event.when - first);
  const auto typical =
      static_cast<std::uint64_t>(kSpanOfMean * distance / static_cast<double>(top_.size()));
  Rung& rung = add_rung(first, std::min(last - first, typical) + 1, top_.size());
  top_start_ = rung.start + (static_cast<std::uint64_t>(rung.size) << rung.shift);
  std::size_t kept = 0;
  for (const QueuedEvent& event : top_) {
    if (event.when < top_start_) {
      pool_.append(rung.bucket_of(event.when), event);
    } else {
      top_[kept++] = event;
    }
  }
  top_.resize(kept);
}

void EventQueue::spread_bucket(const Rung& parent, EventBucket& bucket) {
  std::uint64_t first = std::numeric_limits<std::uint64_t>::max();
  std::uint64_t last = 0;
  pool_.for_each(bucket, [&](const QueuedEvent& event) {
    first = std::min(first, event.when);
    last = std::max(last, event.when);
  });
  if (first == last) {  // finer buckets cannot part the events of one instant
    move_to_run(bucket);
    return;
  }
  const std::uint64_t width = std::uint64_t{1} << parent.shift;
  Rung& rung = add_rung(parent.next_start() - width, width, bucket.count);
  // By value, since appending may move the pool.
  pool_.for_each(bucket,
                 [&](QueuedEvent event) { pool_.append(rung.bucket_of(event.when), event); });
  pool_.release(bucket);
}

void EventQueue::spread_fresh() {
  const std::uint64_t end = depth_ == 0 ? top_start_ : rungs_[depth_ - 1].next_start();
  const std::uint64_t start = now_ + 1;
  if (depth_ == kMostRungs || end - start < 2) return;
  fresh_.insert(fresh_.end(), run_.begin() + static_cast<std::ptrdiff_t>(run_next_), run_.end());
  // Events of the present instant stay sorted, where the lanes are compared with them.
  const auto later = std::partition(fresh_.begin(), fresh_.end(),
                                    [&](const QueuedEvent& event) { return event.when == now_; });
  run_.assign(fresh_.begin(), later);
  run_next_ = 0;
  sort_run();
  Rung& rung = add_rung(start, end - start, fresh_.size());
  for (auto event = later; event != fresh_.end(); ++event) {
    pool_.append(rung.bucket_of(event->when), *event);
  }
  fresh_.clear();
}

}  // namespace pipecast
