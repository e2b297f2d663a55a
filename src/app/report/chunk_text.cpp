#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <tuple>

#include "app/report/chunk_report.hpp"
#include "app/report/chunk_timeline.hpp"
#include "app/report/table.hpp"

namespace pipecast {

namespace {

constexpr double kMicrosecondsPerMillisecond = 1e3;
constexpr std::size_t kOpsShown = 12;

/// One unit for all times of a report: microseconds, or milliseconds from ten of them on.
struct TimeUnit {
  explicit TimeUnit(double longest_us) : milli(longest_us >= 10 * kMicrosecondsPerMillisecond) {}
  [[nodiscard]] std::string name() const { return milli ? "ms" : "us"; }
  [[nodiscard]] std::string text(double us) const {
    return milli ? fmt::format("{:.2f}", us / kMicrosecondsPerMillisecond)
                 : fmt::format("{:.1f}", us);
  }
  bool milli;
};

std::string percent(double share) { return fmt::format("{:.1f} %", 100 * share); }

std::string error_text(double predicted, double measured) {
  const std::optional<double> error = relative_error(predicted, measured);
  return error ? fmt::format("{:+.1f} %", 100 * *error) : "-";
}

std::string layers_text(const std::vector<LayerKind>& layers) {
  std::vector<std::pair<LayerKind, int>> runs;
  for (const LayerKind kind : layers) {
    if (runs.empty() || runs.back().first != kind) runs.emplace_back(kind, 0);
    ++runs.back().second;
  }
  std::string out;
  for (const auto& [kind, count] : runs) {
    out += fmt::format("{}{} {}", out.empty() ? "" : " + ", count, name_of(kind));
  }
  return out;
}

const ChunkMeasures* measured_of(const ChunkAnswer& answer) {
  return answer.measured ? &answer.measured->comparison.measured : nullptr;
}

std::string heading(const ChunkAnswer& answer, const TimeUnit& unit) {
  const Scenario& s = answer.scenario;
  std::string out = fmt::format("{}: {} on {}, {} of {} SMs for communication\n", s.name,
                                description_of(answer.run.shape), s.cluster.gpu.name,
                                s.plan.communication_sms, s.cluster.gpu.sm_count);
  out += fmt::format("{} {}", unit.text(answer.measures.time_us), unit.name());
  if (const ChunkMeasures* measured = measured_of(answer)) {
    out +=
        fmt::format("; measured {} {} ({}): {}", unit.text(measured->time_us), unit.name(),
                    error_text(answer.measures.time_us, measured->time_us), answer.measured->name);
  }
  return out + "\n" + peers_text(answer.run.peers_late);
}

std::string timelines(const ChunkAnswer& answer, const TextStyle& style) {
  BusyInterval range = range_of(answer.rows);
  if (!answer.measured) {
    return timeline_text(answer.rows, range, style) + timeline_axis(range, style) +
           timeline_legend(answer.rows, style);
  }
  const std::vector<TraceRow>& other = answer.measured->rows;
  range = {0, std::max(range.end, range_of(other).end)};
  std::vector<TraceRow> both = answer.rows;
  both.insert(both.end(), other.begin(), other.end());
  return "predicted\n" + timeline_text(answer.rows, range, style) + "measured\n" +
         timeline_text(other, range, style) + timeline_axis(range, style) +
         timeline_legend(both, style);
}

/// What a phase is there for: computation, or moving tokens.
double work_of(Phase phase, const PhaseTimes& times) {
  const bool computes =
      name_of(phase).substr(0, 4) == "attn" || name_of(phase).substr(0, 3) == "mlp";
  return computes ? times.compute_us : times.communication_us;
}

std::string phase_table(const ChunkAnswer& answer, const TimeUnit& unit) {
  const ChunkMeasures* const measured = measured_of(answer);
  std::vector<std::string> header = {"phase", "span " + unit.name()};
  if (measured != nullptr) header.insert(header.end(), {"measured", "error"});
  header.push_back("work " + unit.name());
  if (measured != nullptr) header.insert(header.end(), {"measured", "error"});
  header.push_back("notify " + unit.name());
  if (measured != nullptr) header.emplace_back("measured");
  Table table(header);
  for (std::size_t p = 0; p < kPhases; ++p) {
    const bool other = measured != nullptr && measured->phases[p];
    if (!answer.measures.phases[p] && !other) continue;
    const auto phase = static_cast<Phase>(p);
    const PhaseTimes own = answer.measures.phases[p].value_or(PhaseTimes{});
    const PhaseTimes theirs = other ? *measured->phases[p] : PhaseTimes{};
    std::vector<std::string> cells = {std::string(name_of(phase))};
    const auto add = [&](double predicted, double reference, bool with_error) {
      cells.push_back(unit.text(predicted));
      if (measured == nullptr) return;
      cells.push_back(unit.text(reference));
      if (with_error) cells.push_back(error_text(predicted, reference));
    };
    add(own.time_us, theirs.time_us, true);
    add(work_of(phase, own), work_of(phase, theirs), true);
    add(own.notify_us, theirs.notify_us, false);
    table.add(std::move(cells));
  }
  return table.text() +
         "Span: from a layer's first start to its last end. Work: computation, or dispatch and\n"
         "combine, at least one of its kernels running.\n";
}

std::string stream_table(const ChunkAnswer& answer, const TimeUnit& unit) {
  const ChunkMeasures* const measured = measured_of(answer);
  std::vector<std::string> header = {"", unit.name(), "of the time"};
  if (measured != nullptr) header.insert(header.end(), {"measured", "error"});
  Table table(header);
  const auto add = [&](std::string_view name, double ChunkMeasures::*member) {
    const double own = answer.measures.*member;
    std::vector<std::string> cells = {std::string(name), unit.text(own),
                                      percent(own / answer.measures.time_us)};
    if (measured != nullptr) {
      const double theirs = measured->*member;
      cells.insert(cells.end(), {unit.text(theirs), error_text(own, theirs)});
    }
    table.add(std::move(cells));
  };
  add("compute streams busy", &ChunkMeasures::compute_busy_us);
  add("communication stream busy", &ChunkMeasures::comm_busy_us);
  add("communication hidden", &ChunkMeasures::hidden_communication_us);
  add("communication exposed", &ChunkMeasures::exposed_communication_us);
  return table.text();
}

std::string utilisation_bars(const Utilisation& use, const TextStyle& style) {
  std::string out;
  std::size_t colour = 0;
  const auto add = [&](std::string_view name, double share) {
    constexpr std::size_t kBar = 50;
    const auto full = static_cast<std::size_t>(std::lround(std::clamp(share, 0.0, 1.0) * kBar));
    out += fmt::format("{:<13}[{}{}] {:>5.1f} %\n", name,
                       painted(std::string(full, '#'), colour++, style.colours && full > 0),
                       std::string(kBar - full, '.'), 100 * share);
  };
  add("SMs held", use.sm);
  add("tensor cores", use.tensor_cores);
  add("HBM", use.hbm);
  add("NVLink", use.nvlink);
  add("NIC", use.nic);
  return out;
}

/// What there is more of, and what of communication is not hidden.
std::string verdict(const ChunkMeasures& m, const TimeUnit& unit) {
  const double communication = m.hidden_communication_us + m.exposed_communication_us;
  const bool compute = m.computing_us >= std::max(communication, m.comm_busy_us);
  std::string out =
      compute ? fmt::format("Computation bounds the chunk: kernels compute for {} of the time.",
                            percent(m.computing_us / m.time_us))
              : fmt::format(
                    "Communication bounds the chunk: its stream is busy for {} of the time, "
                    "kernels compute for {}.",
                    percent(std::max(communication, m.comm_busy_us) / m.time_us),
                    percent(m.computing_us / m.time_us));
  if (communication <= 0) return out + " Nothing is sent to other GPUs.\n";
  return out + fmt::format("\nOf {} {} in which tokens move, {} {} are exposed: {} of the chunk.\n",
                           unit.text(communication), unit.name(),
                           unit.text(m.exposed_communication_us), unit.name(),
                           percent(m.exposed_communication_us / m.time_us));
}

std::string kernel_table(const ChunkAnswer& answer, const TimeUnit& unit) {
  std::vector<std::pair<std::string, OpTimes>> ops(answer.measures.ops.begin(),
                                                   answer.measures.ops.end());
  std::stable_sort(ops.begin(), ops.end(), [](const auto& a, const auto& b) {
    return a.second.time_us > b.second.time_us;
  });
  ops.resize(std::min(ops.size(), kOpsShown));
  const ChunkMeasures* const measured = measured_of(answer);
  std::vector<std::string> header = {"kernels", "launches", unit.name()};
  if (measured != nullptr) {
    header.insert(header.end(), {"measured", "error", "median error", "p90 error"});
  }
  Table table(header);
  for (const auto& [op, times] : ops) {
    std::vector<std::string> cells = {op, std::to_string(times.count), unit.text(times.time_us)};
    if (measured != nullptr) {
      const auto it = measured->ops.find(op);
      const double theirs = it == measured->ops.end() ? 0 : it->second.time_us;
      const KernelGroup& group = answer.measured->comparison.ops.at(op);
      cells.insert(cells.end(), {unit.text(theirs), error_text(times.time_us, theirs),
                                 group.errors ? percent(group.errors->median) : "-",
                                 group.errors ? percent(group.errors->p90) : "-"});
    }
    table.add(std::move(cells));
  }
  return table.text();
}

std::string family_table(const ChunkComparison& comparison) {
  Table table({"each kernel by itself", "compared", "unmatched", "median error", "p90 error"});
  for (std::size_t f = 0; f < comparison.families.size(); ++f) {
    const KernelGroup& group = comparison.families[f];
    if (!group.errors) continue;
    std::string name(name_of(static_cast<LaunchFamily>(f)));
    std::replace(name.begin(), name.end(), '_', ' ');
    table.add({name, std::to_string(group.errors->rows), std::to_string(group.unmatched),
               percent(group.errors->median), percent(group.errors->p90)});
  }
  return table.text();
}

}  // namespace

std::string peers_text(Duration peers_late) {
  if (peers_late == Duration()) return "No GPU of the expert-parallel group is late.\n";
  return fmt::format("Exchanges wait {:.0f} us for the last GPU of the group (--peers-late).\n",
                     to_microseconds(peers_late));
}

std::string description_of(const ChunkShape& shape) {
  std::string out = fmt::format("{} chunk", name_of(shape.kind));
  if (has_forward(shape.kind)) out += fmt::format(", {} forward", layers_text(shape.forward));
  if (has_backward(shape.kind)) out += fmt::format(", {} backward", layers_text(shape.backward));
  return out;
}

ChunkAnswer chunk_answer(const Scenario& scenario, const ChunkRun& run) {
  std::vector<TraceRow> rows = rows_of(run.kernels);
  ChunkMeasures measures = measure_chunk(rows);
  return {.scenario = scenario,
          .run = run,
          .rows = std::move(rows),
          .measures = std::move(measures),
          .utilisation = utilisation_of(run.use, scenario.cluster)};
}

void compare_with(ChunkAnswer& answer, const std::string& name, std::vector<TraceRow> rows) {
  ChunkComparison comparison = compare_chunk(answer.rows, rows);
  answer.measured = {name, std::move(rows), std::move(comparison)};
}

std::string chunk_text(const ChunkAnswer& answer, const TextStyle& style) {
  const TimeUnit unit(answer.measures.time_us);
  std::string out = heading(answer, unit) + "\n" + timelines(answer, style) + "\n";
  out += phase_table(answer, unit) + "\n" + stream_table(answer, unit) + "\n";
  out += utilisation_bars(answer.utilisation, style) + "\n";
  out += verdict(answer.measures, unit) + "\n" + kernel_table(answer, unit);
  if (answer.measured) out += "\n" + family_table(answer.measured->comparison);
  return out;
}

}  // namespace pipecast
