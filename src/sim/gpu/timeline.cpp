#include "sim/gpu/timeline.hpp"

#include <algorithm>
#include <cmath>

#include "sim/gpu/stretch.hpp"

namespace pipecast {

namespace {

constexpr std::size_t kLinks = 4;

constexpr auto kCommunicationStream = static_cast<std::size_t>(Stream::kCommunication);

using PerStream = std::array<double, kStreams>;

/// Bytes per second of every stream through one link.
using Demands = std::array<PerStream, kLinks>;

/// Largest share that all get who want more, when together they get no more than `capacity`.
double fair_share(PerStream demands, double capacity) {
  std::sort(demands.begin(), demands.end());
  std::size_t left = kStreams;
  for (const double demand : demands) {
    const double share = capacity / static_cast<double>(left);
    if (demand > share) return share;
    capacity -= demand;
    --left;
  }
  return demands.back();
}

/// Speeds, at most 1, at which no link carries more than it can.
PerStream speeds(const Demands& demands, const std::array<double, kLinks>& capacity) {
  PerStream speed{};
  speed.fill(1);
  // Slowing a kernel for one link frees others: from the scarcest on, until all fit.
  for (std::size_t round = 0; round < kLinks; ++round) {
    PerStream next = speed;
    double scarcest = 1;
    for (std::size_t link = 0; link < kLinks; ++link) {
      PerStream asked{};
      double sum = 0;
      for (std::size_t s = 0; s < kStreams; ++s) {
        asked[s] = std::min(demands[link][s] * speed[s], capacity[link]);
        sum += asked[s];
      }
      if (sum <= capacity[link]) continue;
      const double share = fair_share(asked, capacity[link]);
      PerStream here = speed;
      double slowest = 1;
      for (std::size_t s = 0; s < kStreams; ++s) {
        if (asked[s] <= share) continue;
        here[s] = speed[s] * share / asked[s];
        slowest = std::min(slowest, share / asked[s]);
      }
      if (slowest < scarcest) {
        scarcest = slowest;
        next = here;
      }
    }
    if (scarcest >= 1) break;
    speed = next;
  }
  return speed;
}

struct SmShares {
  std::array<int, kStreams> sms{};
  std::array<bool, kStreams> runs{};  // has all that it needs
};

SmShares share_sms(const Running& running, const KernelTable& kernels) {
  SmShares out;
  int rest = kernels.scenario().cluster.gpu.sm_count;
  const auto use_of = [&](std::size_t s) { return kernels.at(running.kernel[s]).use; };
  const auto grid_of = [&](std::size_t s) { return kernels.at(running.kernel[s]).grid; };
  std::array<std::size_t, kStreams> queue = {0, 1, 2};
  std::sort(queue.begin(), queue.end(), [&](std::size_t a, std::size_t b) {
    return std::pair(running.order[a], a) < std::pair(running.order[b], b);
  });
  const auto holds = [&](std::size_t s) {
    return s == kCommunicationStream && running.kernel[s] >= 0 && use_of(s) == SmUse::kGrid;
  };
  if (holds(kCommunicationStream)) {
    out.sms[kCommunicationStream] = grid_of(kCommunicationStream);
    out.runs[kCommunicationStream] = true;
    rest -= out.sms[kCommunicationStream];
  }
  bool first = true;
  for (const std::size_t s : queue) {
    if (running.kernel[s] < 0 || holds(s)) continue;
    if (use_of(s) == SmUse::kNone) {
      out.runs[s] = true;
      continue;
    }
    const bool free = use_of(s) == SmUse::kFree;
    out.sms[s] = free ? rest : std::min(grid_of(s), rest);
    out.runs[s] = free || first ? rest > 0 : grid_of(s) <= rest;
    rest -= out.sms[s];
    first = false;
  }
  return out;
}

}  // namespace

GpuShares share_gpu(const Running& running, KernelTable& kernels) {
  const SmShares shares = share_sms(running, kernels);
  const auto runs = [&](std::size_t s) { return shares.runs[s]; };
  GpuShares out{.sms = shares.sms};
  bool computing = false;
  for (std::size_t s = 0; s < kCommunicationStream; ++s) {
    computing = computing || (runs(s) && !kernels.at(running.kernel[s]).transfer);
  }
  PerStream picoseconds{};
  Demands demands{};
  int busy = 0;
  for (std::size_t s = 0; s < kStreams; ++s) {
    if (!runs(s)) continue;
    ++busy;
    const GpuKernelCost& cost = kernels.cost(running.kernel[s], out.sms[s]);
    out.time[s] = computing && kernels.at(running.kernel[s]).transfer ? cost.beside : cost.time;
    picoseconds[s] = static_cast<double>(out.time[s]->count());
    if (picoseconds[s] <= 0) continue;
    const double rate = kPicosecondsPerSecond / picoseconds[s];
    demands[0][s] = cost.hbm_bytes * rate;
    demands[1][s] = cost.l2_bytes * rate;
    demands[2][s] = cost.nvlink_bytes * rate;
    demands[3][s] = cost.nic_bytes * rate;
  }
  if (busy < 2) return out;
  const PerStream speed = speeds(demands, kernels.links());
  for (std::size_t s = 0; s < kStreams; ++s) {
    if (out.time[s]) out.time[s] = duration_from_picoseconds(picoseconds[s] / speed[s]);
  }
  return out;
}

namespace {

class Player {
 public:
  Player(const std::vector<Launch>& launches, KernelTable& kernels)
      : launches_(launches),
        kernels_(kernels),
        gap_(duration_from_seconds(kernels.scenario().calibration.latency.launch_gap_us.value *
                                   1e-6)),
        spans_(launches.size()),
        ended_(launches.size(), false) {
    for (std::size_t s = 0; s < kStreams; ++s) {
      next_[s] = after_on_stream(s, 0);
    }
  }

  std::vector<KernelSpan> run() {
    for (;;) {
      start_ready();
      std::optional<Duration> soonest = next_start();
      for (std::size_t s = 0; s < kStreams; ++s) {
        if (ends_[s] && (!soonest || *ends_[s] < *soonest)) soonest = ends_[s];
      }
      if (!soonest) break;
      now_ = *soonest;
      end_due();
    }
    PIPECAST_ASSERT(std::all_of(ended_.begin(), ended_.end(), [](bool ended) { return ended; }));
    return std::move(spans_);
  }

 private:
  using Index = std::optional<std::size_t>;

  [[nodiscard]] Index after_on_stream(std::size_t stream, std::size_t from) const {
    for (std::size_t i = from; i < launches_.size(); ++i) {
      if (static_cast<std::size_t>(launches_[i].stream) == stream) return i;
    }
    return std::nullopt;
  }

  /// When the next launch of a stream may start, if all that it waits for has ended.
  [[nodiscard]] std::optional<Duration> start_of(std::size_t stream) const {
    if (!next_[stream] || launch_[stream]) return std::nullopt;
    const Launch& launch = launches_[*next_[stream]];
    std::optional<Duration> last = last_end_[stream];
    for (const std::int32_t before : launch.after) {
      if (before < 0) continue;
      const auto index = static_cast<std::size_t>(before);
      if (!ended_[index]) return std::nullopt;
      if (!last || spans_[index].end > *last) last = spans_[index].end;
    }
    return last ? *last + gap_ : Duration();
  }

  [[nodiscard]] std::optional<Duration> next_start() const {
    std::optional<Duration> out;
    for (std::size_t s = 0; s < kStreams; ++s) {
      const std::optional<Duration> start = start_of(s);
      if (start && (!out || *start < *out)) out = start;
    }
    return out;
  }

  void start_ready() {
    bool changed = false;
    for (std::size_t s = 0; s < kStreams; ++s) {
      const std::optional<Duration> start = start_of(s);
      if (!start || *start > now_) continue;
      launch_[s] = next_[s];
      next_[s] = after_on_stream(s, *launch_[s] + 1);
      running_.kernel[s] = launches_[*launch_[s]].kernel;
      running_.order[s] = started_++;
      placed_[s] = false;
      left_[s] = whole_[s] = Duration();
      changed = true;
    }
    if (changed) share();
  }

  void end_due() {
    bool changed = false;
    for (std::size_t s = 0; s < kStreams; ++s) {
      if (!ends_[s] || *ends_[s] > now_) continue;
      spans_[*launch_[s]].end = now_;
      ended_[*launch_[s]] = true;
      last_end_[s] = now_;
      launch_[s].reset();
      ends_[s].reset();
      running_.kernel[s] = -1;
      changed = true;
    }
    if (changed) share();
  }

  /// Gives every running kernel its new speed. What is left of it stretches as its whole time does.
  void share() {
    const GpuShares shares = share_gpu(running_, kernels_);
    for (std::size_t s = 0; s < kStreams; ++s) {
      if (!launch_[s] || (ends_[s] && shares.time[s] == whole_[s])) continue;
      if (!placed_[s] && (shares.sms[s] > 0 || shares.time[s])) {
        placed_[s] = true;  // its first thread block runs
        spans_[*launch_[s]].start = now_;
      }
      if (ends_[s]) left_[s] = *ends_[s] - now_;
      ends_[s].reset();
      if (!shares.time[s]) continue;
      left_[s] = whole_[s] == Duration() ? *shares.time[s]
                                         : stretched(left_[s], whole_[s], *shares.time[s]);
      whole_[s] = *shares.time[s];
      ends_[s] = now_ + left_[s];
    }
  }

  const std::vector<Launch>& launches_;
  KernelTable& kernels_;
  Duration gap_;
  std::vector<KernelSpan> spans_;
  std::vector<bool> ended_;
  Duration now_;
  std::array<Index, kStreams> next_;
  std::array<Index, kStreams> launch_;  // that has started
  Running running_;                     // its kernel
  std::int32_t started_ = 0;
  std::array<bool, kStreams> placed_{};
  std::array<Duration, kStreams>
      whole_;                            // its time from beginning to end at its last speed, if any
  std::array<Duration, kStreams> left_;  // of that, where it waits for SMs
  std::array<std::optional<Duration>, kStreams> ends_;
  std::array<std::optional<Duration>, kStreams> last_end_;
};

}  // namespace

std::vector<KernelSpan> play(const std::vector<Launch>& launches, KernelTable& kernels) {
  return Player(launches, kernels).run();
}

}  // namespace pipecast
