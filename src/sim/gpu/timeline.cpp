#include "sim/gpu/timeline.hpp"

#include <algorithm>
#include <cmath>

#include "model/collectives/links.hpp"
#include "model/ops/attention_machine.hpp"

namespace pipecast {

namespace {

constexpr std::size_t kStreams = 3;
constexpr std::size_t kLinks = 4;

constexpr auto kCommunicationStream = static_cast<std::size_t>(Stream::kCommunication);

using PerStream = std::array<double, kStreams>;

/// Bytes per second of every stream through one link.
using Demands = std::array<PerStream, kLinks>;

/// Bytes per second that the links of a GPU carry in training.
std::array<double, kLinks> capacities(const KernelTable& kernels) {
  const Scenario& s = kernels.scenario();
  const double clock =
      std::min(s.cluster.gpu.max_clock.count(), s.calibration.clock.training_ghz.value * 1e9);
  return {s.cluster.gpu.hbm_bandwidth.count() * s.calibration.link.hbm.value,
          kL2BytesPerClock * clock, reached_nvlink(s.cluster, s.calibration).count(),
          reached_nic(s.cluster, s.calibration).count()};
}

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

/// SMs of every running kernel, and how many times longer it takes because it takes turns.
struct SmShares {
  std::array<int, kStreams> sms{};
  PerStream turns{};
};

SmShares share_sms(const Running& running, const KernelTable& kernels) {
  SmShares out;
  out.turns.fill(1);
  int rest = kernels.scenario().cluster.gpu.sm_count;
  int grids = 0;
  int open = 0;
  const auto is = [&](std::size_t s, SmUse use) {
    return running[s] >= 0 && kernels.at(running[s]).use == use;
  };
  if (is(kCommunicationStream, SmUse::kGrid)) {
    out.sms[kCommunicationStream] = kernels.at(running[kCommunicationStream]).grid;
    rest -= out.sms[kCommunicationStream];
  }
  for (std::size_t s = 0; s < kStreams; ++s) {
    if (is(s, SmUse::kGrid) && s != kCommunicationStream) {
      out.sms[s] = std::min(kernels.at(running[s]).grid, rest);
      grids += out.sms[s];
    }
    if (is(s, SmUse::kFree)) ++open;
  }
  const int free = rest - grids;
  const int asked = grids + (free >= open ? 0 : open * rest);
  for (std::size_t s = 0; s < kStreams; ++s) {
    if (is(s, SmUse::kFree)) out.sms[s] = free >= open ? free / open : rest;
    const bool holds = s == kCommunicationStream && is(s, SmUse::kGrid);
    const bool computes = is(s, SmUse::kFree) || (is(s, SmUse::kGrid) && !holds);
    if (computes && asked > rest) {
      out.turns[s] = static_cast<double>(asked) / static_cast<double>(rest);
    }
  }
  return out;
}

}  // namespace

Shares share_gpu(const Running& running, KernelTable& kernels) {
  const SmShares sms = share_sms(running, kernels);
  const auto computes = [&](std::size_t s) {
    return running[s] >= 0 && s != kCommunicationStream && !kernels.at(running[s]).transfer;
  };
  const bool computing = computes(0) || computes(1);
  Shares out;
  PerStream picoseconds{};
  Demands demands{};
  int busy = 0;
  for (std::size_t s = 0; s < kStreams; ++s) {
    if (running[s] < 0) continue;
    ++busy;
    const GpuKernel& kernel = kernels.at(running[s]);
    const GpuKernelCost& cost = kernels.cost(running[s], sms.sms[s]);
    const double beside = kernel.transfer && computing ? kernel.beside : 1;
    out.sms[s] = sms.sms[s];
    out.time[s] = cost.time;
    picoseconds[s] = static_cast<double>(cost.time.count()) * sms.turns[s] * beside;
    const double rate = kPicosecondsPerSecond / picoseconds[s];
    demands[0][s] = cost.hbm_bytes * rate;
    demands[1][s] = cost.l2_bytes * rate;
    demands[2][s] = cost.nvlink_bytes * rate;
    demands[3][s] = cost.nic_bytes * rate;
  }
  if (busy < 2) return out;
  const PerStream speed = speeds(demands, capacities(kernels));
  for (std::size_t s = 0; s < kStreams; ++s) {
    if (running[s] >= 0) out.time[s] = duration_from_picoseconds(picoseconds[s] / speed[s]);
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

  std::vector<Span> run() {
    for (;;) {
      start_ready();
      std::optional<Duration> soonest = next_start();
      for (std::size_t s = 0; s < kStreams; ++s) {
        if (launch_[s] && (!soonest || ends_[s] < *soonest)) soonest = ends_[s];
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
      running_[s] = launches_[*launch_[s]].kernel;
      spans_[*launch_[s]].start = now_;
      times_[s] = Duration();
      changed = true;
    }
    if (changed) share();
  }

  void end_due() {
    bool changed = false;
    for (std::size_t s = 0; s < kStreams; ++s) {
      if (!launch_[s] || ends_[s] > now_) continue;
      spans_[*launch_[s]].end = now_;
      ended_[*launch_[s]] = true;
      last_end_[s] = now_;
      launch_[s].reset();
      running_[s] = -1;
      changed = true;
    }
    if (changed) share();
  }

  /// Gives every running kernel its new speed. What is left of it stretches as its whole time does.
  void share() {
    const Shares shares = share_gpu(running_, kernels_);
    for (std::size_t s = 0; s < kStreams; ++s) {
      if (!launch_[s] || shares.time[s] == times_[s]) continue;
      if (times_[s] == Duration()) {
        ends_[s] = now_ + shares.time[s];
      } else {
        __extension__ using Wide = __int128;
        const Wide left = ends_[s].count() - now_.count();
        const Wide whole = times_[s].count();
        const Wide stretched = (left * shares.time[s].count() + whole - 1) / whole;
        ends_[s] = now_ + Duration(static_cast<std::int64_t>(stretched));
      }
      times_[s] = shares.time[s];
    }
  }

  const std::vector<Launch>& launches_;
  KernelTable& kernels_;
  Duration gap_;
  std::vector<Span> spans_;
  std::vector<bool> ended_;
  Duration now_;
  std::array<Index, kStreams> next_;
  std::array<Index, kStreams> launch_;    // that runs
  Running running_ = {-1, -1, -1};        // its kernel
  std::array<Duration, kStreams> times_;  // its whole time at its present speed
  std::array<Duration, kStreams> ends_;
  std::array<std::optional<Duration>, kStreams> last_end_;
};

}  // namespace

std::vector<Span> play(const std::vector<Launch>& launches, KernelTable& kernels) {
  return Player(launches, kernels).run();
}

}  // namespace pipecast
