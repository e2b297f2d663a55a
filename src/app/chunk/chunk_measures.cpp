#include "app/chunk/chunk_measures.hpp"

#include <algorithm>
#include <tuple>
#include <utility>

#include "base/assert.hpp"
#include "model/operations/operation.hpp"

namespace pipecast {

namespace {

/// Busy intervals by role, and from when to when there were any.
struct Busy {
  std::array<std::vector<BusyInterval>, 3> by_role{};
  std::optional<BusyInterval> span{};

  void add(LaunchRole role, const BusyInterval& interval) {
    by_role[static_cast<std::size_t>(role)].push_back(interval);
    if (!span) span = interval;
    span->start = std::min(span->start, interval.start);
    span->end = std::max(span->end, interval.end);
  }
  [[nodiscard]] const std::vector<BusyInterval>& of(LaunchRole role) const {
    return by_role[static_cast<std::size_t>(role)];
  }
  [[nodiscard]] double covered(LaunchRole role) const { return covered_us(of(role)); }
};

void measure_overlap(ChunkMeasures& out, const Busy& chunk) {
  out.computing_us = chunk.covered(LaunchRole::kCompute);
  const double communication = chunk.covered(LaunchRole::kCommunication);
  std::vector<BusyInterval> both = chunk.of(LaunchRole::kCompute);
  const std::vector<BusyInterval>& moves = chunk.of(LaunchRole::kCommunication);
  both.insert(both.end(), moves.begin(), moves.end());
  out.exposed_communication_us =
      std::clamp(covered_us(both) - out.computing_us, 0.0, communication);
  out.hidden_communication_us = communication - out.exposed_communication_us;
}

}  // namespace

Phase phase_of(const TraceRow& row) {
  for (int p = 0; p < kPhases; ++p) {
    if (name_of(static_cast<Phase>(p)) == row.phase) return static_cast<Phase>(p);
  }
  PIPECAST_ASSERT(false);
  return {};
}

LaunchRole role_of(const TraceRow& row) {
  if (row.op == "ep_notify" || row.op == "ep_cached_notify") return LaunchRole::kNotify;
  const bool exchange =
      row.op.rfind("ep_", 0) == 0 || row.stream == name_of(Stream::kCommunication);
  return exchange ? LaunchRole::kCommunication : LaunchRole::kCompute;
}

double covered_us(std::vector<BusyInterval> intervals) {
  std::sort(intervals.begin(), intervals.end(), [](const BusyInterval& a, const BusyInterval& b) {
    return std::pair(a.start, a.end) < std::pair(b.start, b.end);
  });
  double out = 0;
  std::optional<BusyInterval> current;
  for (const BusyInterval& next : intervals) {
    if (current && next.start <= current->end) {
      current->end = std::max(current->end, next.end);
      continue;
    }
    if (current) out += current->end - current->start;
    current = next;
  }
  return current ? out + current->end - current->start : out;
}

ChunkMeasures measure_chunk(const std::vector<TraceRow>& rows) {
  ChunkMeasures out;
  Busy chunk;
  std::map<std::tuple<Phase, int, bool>, Busy> layers;
  std::vector<BusyInterval> compute;
  std::vector<BusyInterval> comm;
  for (const TraceRow& row : rows) {
    const BusyInterval interval{row.start_us, row.start_us + row.duration_us};
    const LaunchRole role = role_of(row);
    chunk.add(role, interval);
    layers[{phase_of(row), row.layer, row.again}].add(role, interval);
    (row.stream == name_of(Stream::kCommunication) ? comm : compute).push_back(interval);
    OpTimes& op = out.ops[row.op];
    ++op.count;
    op.time_us += row.duration_us;
  }
  if (chunk.span) out.time_us = chunk.span->end - chunk.span->start;
  out.compute_busy_us = covered_us(std::move(compute));
  out.comm_busy_us = covered_us(std::move(comm));
  measure_overlap(out, chunk);
  for (const auto& [key, busy] : layers) {
    std::optional<PhaseTimes>& phase = out.phases[static_cast<std::size_t>(std::get<Phase>(key))];
    if (!phase) phase.emplace();
    phase->time_us += busy.span->end - busy.span->start;
    phase->compute_us += busy.covered(LaunchRole::kCompute);
    phase->communication_us += busy.covered(LaunchRole::kCommunication);
    phase->notify_us += busy.covered(LaunchRole::kNotify);
  }
  return out;
}

}  // namespace pipecast
