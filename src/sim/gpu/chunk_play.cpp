#include "sim/gpu/chunk_play.hpp"

#include <algorithm>

#include "base/assert.hpp"
#include "sim/gpu/stretch.hpp"

namespace pipecast {

namespace {

constexpr Time kNotYet{-1};

}  // namespace

void ChunkPlay::begin(const std::vector<Task>& tasks, TaskSpan* spans, Time now) {
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

void ChunkPlay::start(StreamState& stream) const {
  stream.running = true;
  stream.whole = stream.left = Duration();
  spans_[stream.next].start = now_;
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
    if (compute_.running) {
      set_time(compute_, (*tasks_)[compute_.next].time[static_cast<std::size_t>(beside)]);
    }
    if (communication_.running) {
      const auto phase =
          static_cast<std::size_t>(compute_.running ? (*tasks_)[compute_.next].phase : Phase());
      set_time(communication_,
               compute_.running ? collective().beside_phase[phase] : collective().time.front());
    }
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
    set_time(compute_, (*tasks_)[compute_.next].time[static_cast<std::size_t>(beside)]);
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

std::vector<TaskSpan> play_alone(std::vector<Task>& tasks) {
  std::vector<TaskSpan> spans(tasks.size());
  ChunkPlay play;
  play.begin(tasks, spans.data(), Time());
  play.alone_ = true;
  const ChunkPlay::Stop stop = play.advance();
  PIPECAST_ASSERT(stop.ended);
  for (std::size_t i = 0; i < tasks.size(); ++i) {
    if (tasks[i].collective) tasks[i].transfer = spans[i].end - spans[i].start;
  }
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

namespace {

/// The work of a task that took longer or shorter than beside nothing; what rounding leaves goes to
/// its last share.
void add_work(std::vector<WorkShare>& shares, const Task& task, Duration took) {
  Duration left = took;
  for (std::size_t i = 0; i < task.work.size(); ++i) {
    WorkShare share = task.work[i];
    const bool last = i + 1 == task.work.size();
    share.time = last ? left : std::min(left, stretched(share.time, task.time.front(), took));
    left -= share.time;
    add_share(shares, share);
  }
}

}  // namespace

std::vector<WorkShare> critical_work(const std::vector<Task>& tasks,
                                     const std::vector<TaskSpan>& spans) {
  std::vector<WorkShare> out;
  Time end;
  for (const TaskSpan& span : spans) end = std::max(end, span.end);
  // Whatever starts, starts when something else ends, or at the beginning.
  for (std::size_t i = tasks.size(); i-- > 0;) {
    if (spans[i].end != end) continue;
    add_work(out, tasks[i], spans[i].end - spans[i].start);
    end = spans[i].start;
    if (end == Time()) break;
  }
  return out;
}

}  // namespace pipecast
