#include "sim/gpu/chunk_play.hpp"

#include <algorithm>
#include <cmath>

#include "base/assert.hpp"

namespace pipecast {

namespace {

constexpr Time kNotYet{-1};
}  // namespace

std::string_view name_of(ShardMove move) {
  static constexpr std::string_view kNames[] = {"", "all_gather", "reduce_scatter"};
  return kNames[static_cast<std::size_t>(move)];
}

void ChunkPlay::begin(const std::vector<Task>& tasks, TaskSpan* spans, Time now,
                      const ChunkConditions& conditions) {
  conditions_ = conditions;
  tasks_ = &tasks;
  spans_ = spans;
  now_ = now;
  computing_ = Duration();
  compute_ = {};
  communication_ = {.communication = true};
  for (std::size_t i = 0; i < tasks.size(); ++i) spans_[i].end = kNotYet;
  go_to_next(compute_, 0);
  go_to_next(communication_, 0);
}

void ChunkPlay::go_to_next(StreamState& stream, std::size_t from) const {
  stream.next = from;
  while (stream.next < tasks_->size() &&
         (*tasks_)[stream.next].communication != stream.communication) {
    ++stream.next;
  }
}

bool ChunkPlay::ready(const StreamState& stream) const {
  if (stream.running || stream.next == tasks_->size()) return false;
  const int after = (*tasks_)[stream.next].after;
  return after < 0 || spans_[after].end != kNotYet;
}

void ChunkPlay::start(StreamState& stream) {
  stream.running = true;
  // Links are no slower on a slow GPU.
  const bool of_links = (*tasks_)[stream.next].move != ShardMove::kNone;
  stream.factor = of_links ? 1 : conditions_.slowness;
  if (conditions_.jitter > 0 && !of_links) {
    // Log-normal with mean 1: never negative, and long tails are late ones.
    const double deviation = conditions_.jitter;
    stream.factor *= std::exp(deviation * conditions_.random.normal() - deviation * deviation / 2);
  }
  stream.whole = stream.left = Duration();
  spans_[stream.next].start = now_;
}

Duration ChunkPlay::compute_time(Beside beside) const {
  const Task& task = (*tasks_)[compute_.next];
  const auto place = static_cast<std::size_t>(beside);
  const Duration time = task.curve != nullptr && conditions_.loads != nullptr
                            ? task.curve->time(place, conditions_.loads[task.slot])
                            : task.times.time[place];
  return scaled(time, compute_.factor);
}

/// Beside whatever the compute stream does.
Duration ChunkPlay::communication_time() const {
  const Task& task = (*tasks_)[communication_.next];
  const bool uneven = task.curve != nullptr && conditions_.loads != nullptr;
  Duration time;
  if (compute_.running) {
    const auto phase = static_cast<std::size_t>((*tasks_)[compute_.next].phase);
    time = uneven ? task.curve->beside_phase(phase, conditions_.loads[task.slot])
                  : task.times.beside_phase[phase];
  } else {
    time = uneven ? task.curve->time(0, conditions_.loads[task.slot]) : task.times.time.front();
  }
  return scaled(time, communication_.factor);
}

/// What is left of a task stretches as its whole time does.
void ChunkPlay::set_time(StreamState& stream, Duration whole) const {
  if (!stream.running || whole == stream.whole) return;
  stream.left = stream.whole == Duration() ? whole : stretched(stream.left, stream.whole, whole);
  stream.whole = whole;
}

void ChunkPlay::pass(Duration time) {
  now_ += time;
  if (compute_.running) {
    compute_.left -= time;
    computing_ += time;
  }
  if (communication_.running) communication_.left -= time;
}

void ChunkPlay::end_due(StreamState& stream) const {
  if (!stream.running || stream.left > Duration()) return;
  spans_[stream.next].end = now_;
  stream.running = false;
  go_to_next(stream, stream.next + 1);
}

ChunkPlay::Stop ChunkPlay::advance() {
  for (;;) {
    if (ready(compute_)) start(compute_);
    if (ready(communication_)) {
      if (collective().collective && !alone_) return {now_, false};
      start(communication_);
    }
    if (!compute_.running && !communication_.running) {
      PIPECAST_ASSERT(compute_.next == tasks_->size() && communication_.next == tasks_->size());
      return {now_, true};
    }
    const Beside beside = communication_.running ? collective().beside : Beside::kNothing;
    if (compute_.running) set_time(compute_, compute_time(beside));
    if (communication_.running) set_time(communication_, communication_time());
    Duration soonest = compute_.running ? compute_.left : communication_.left;
    if (communication_.running) soonest = std::min(soonest, communication_.left);
    pass(soonest);
    end_due(compute_);
    end_due(communication_);
  }
}

void ChunkPlay::compute_until(Time until, Beside beside) {
  while (now_ < until) {
    if (ready(compute_)) start(compute_);
    if (!compute_.running) {
      now_ = until;
      return;
    }
    set_time(compute_, compute_time(beside));
    pass(std::min(compute_.left, until - now_));
    end_due(compute_);
  }
}

void ChunkPlay::finish_collective(Time start, Time end) {
  compute_until(start, Beside::kWaiting);
  compute_until(end, collective().beside);
  spans_[communication_.next] = {start, end};
  go_to_next(communication_, communication_.next + 1);
}

std::vector<TaskSpan> play_alone(const std::vector<Task>& tasks, const TaskLoad* loads) {
  std::vector<TaskSpan> spans(tasks.size());
  ChunkPlay play;
  play.begin(tasks, spans.data(), Time(), {.loads = loads});
  play.alone_ = true;
  const ChunkPlay::Stop stop = play.advance();
  PIPECAST_ASSERT(stop.ended);
  return spans;
}

void add_share(std::vector<WorkShare>& shares, const WorkShare& added) {
  for (WorkShare& share : shares) {
    if (share.operation == added.operation && share.resource == added.resource) {
      share.time += added.time;
      return;
    }
  }
  shares.push_back(added);
}

std::vector<WorkShare> critical_work(const std::vector<Task>& tasks,
                                     const std::vector<TaskSpan>& spans) {
  std::vector<WorkShare> out;
  Time end;
  for (const TaskSpan& span : spans) end = std::max(end, span.end);
  // Whatever starts, starts when something else ends, or at the beginning.
  for (std::size_t i = tasks.size(); i-- > 0;) {
    if (spans[i].end != end) continue;
    for_work(tasks[i], spans[i].end - spans[i].start,
             [&out](const WorkShare& share) { add_share(out, share); });
    end = spans[i].start;
    if (end == Time()) break;
  }
  return out;
}

}  // namespace pipecast
