#include "app/report/schedule_report.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "app/report/table.hpp"
#include "model/schedules/text.hpp"

namespace pipecast {
namespace {

using Json = nlohmann::ordered_json;

constexpr double kGiB = 1024.0 * 1024.0 * 1024.0;

/// With a digit behind the point unless it is whole or large.
std::string shown(Duration d, const TimeUnit& unit) {
  const double value = static_cast<double>(d.count()) * unit.per_picosecond;
  constexpr double kLarge = 1e3;
  const bool whole = value == std::round(value) || std::abs(value) >= kLarge;
  return whole ? (value < 0 ? "-" : "") + grouped(std::abs(value)) : fmt::format("{:.1f}", value);
}
std::string shown(Time t, const TimeUnit& unit) { return shown(t - Time{}, unit); }

Json number(Duration d, const TimeUnit& unit) {
  if (unit.per_picosecond == 1) return d.count();
  return static_cast<double>(d.count()) * unit.per_picosecond;
}

template <class Values, class Convert>
Json list(const Values& values, Convert&& convert) {
  Json out = Json::array();
  for (const auto& value : values) out.push_back(convert(value));
  return out;
}

std::string percent(Duration part, Time whole) {
  if (whole == Time{}) return "-";
  return fmt::format("{:.1f}",
                     100 * static_cast<double>(part.count()) / static_cast<double>(whole.count()));
}

/// Of a rank's whole part of the model.
std::string share(int chunks, int virtual_stages) {
  if (chunks % virtual_stages == 0) return std::to_string(chunks / virtual_stages);
  return fmt::format("{:.1f}", static_cast<double>(chunks) / virtual_stages);
}

std::string gibibytes(Bytes bytes) {
  return fmt::format("{:.2f}", static_cast<double>(bytes.count()) / kGiB);
}

std::string formula_text(const ScheduleStudy& study, const TimeUnit& unit) {
  if (!study.formula_value) return "none published";
  return fmt::format("{} = {} {}", study.formula, shown(*study.formula_value, unit), unit.name);
}

Json idle_json(const IdleTime& t, const TimeUnit& unit) {
  return {{"warm_up", number(t.warm_up, unit)},       {"steady", number(t.steady, unit)},
          {"drain", number(t.drain, unit)},           {"inside", number(t.inside, unit)},
          {"dependency", number(t.dependency, unit)}, {"imbalance", number(t.imbalance, unit)},
          {"transfer", number(t.transfer, unit)}};
}

Json fields(const ScheduleStudy& study, const TimeUnit& unit) {
  const auto duration = [&](Duration d) { return number(d, unit); };
  Json out{{"kind", study.kind},
           {"ranks", study.schedule.ranks.size()},
           {"microbatches", study.schedule.all_microbatches()},
           {"virtual_stages", study.virtual_stages},
           {"parameter_copies", study.parameter_copies},
           {"unit", unit.name},
           {"makespan", number(study.timing.makespan - Time{}, unit)},
           {"finish", list(study.timing.finish, [&](Time t) { return number(t - Time{}, unit); })},
           {"bubble", list(study.timing.bubble, duration)},
           {"bubble_formula", study.formula_value ? duration(*study.formula_value) : Json(nullptr)},
           {"makespan_bound", duration(study.bound)},
           {"bubble_formula_text", study.formula.empty() ? Json(nullptr) : Json(study.formula)},
           {"peak_live_activations", study.timing.peak_live_activations},
           {"idle", list(study.idle, [&](const IdleTime& t) { return idle_json(t, unit); })},
           {"blocking_deadlock",
            study.blocking_deadlock ? Json(*study.blocking_deadlock) : Json(nullptr)}};
  if (!study.peak_bytes.empty()) {
    out["peak_activation_bytes"] = list(study.peak_bytes, [](Bytes b) { return b.count(); });
  }
  return out;
}

}  // namespace

std::string schedule_text(const ScheduleStudy& study, const TimeUnit& unit) {
  const ScheduleTiming& timing = study.timing;
  const Duration most = study.largest_bubble();
  std::string out = fmt::format(
      "{}: {} ranks, {} micro-batches, {} {}\n"
      "largest bubble {} {} ({} %); formula: {}\n"
      "{} {} above the bound on every order of these passes\n"
      "{} of parameters; {}\n\n",
      study.kind, study.schedule.ranks.size(), study.schedule.all_microbatches(),
      shown(timing.makespan, unit), unit.name, shown(most, unit), unit.name,
      percent(most, timing.makespan), formula_text(study, unit),
      shown(timing.makespan - Time{} - study.bound, unit), unit.name,
      study.parameter_copies == 1 ? "one copy" : fmt::format("{} copies", study.parameter_copies),
      study.blocking_deadlock ? "blocking transfers lock: " + *study.blocking_deadlock
                              : "runs with blocking transfers");
  std::vector<std::string> header{"rank",      "finish",   "bubble", "%",
                                  "warm-up",   "steady",   "drain",  "dependency",
                                  "imbalance", "transfer", "live"};
  if (!study.peak_bytes.empty()) header.emplace_back("GiB");
  Table table(std::move(header));
  for (std::size_t rank = 0; rank < timing.bubble.size(); ++rank) {
    const IdleTime& t = study.idle[rank];
    std::vector<std::string> cells{std::to_string(rank), shown(timing.finish[rank], unit),
                                   shown(timing.bubble[rank], unit),
                                   percent(timing.bubble[rank], timing.makespan)};
    for (const Duration d : {t.warm_up, t.steady, t.drain, t.dependency, t.imbalance, t.transfer}) {
      cells.push_back(shown(d, unit));
    }
    cells.push_back(std::to_string(timing.peak_live_activations[rank]));
    if (!study.peak_bytes.empty()) cells.push_back(gibibytes(study.peak_bytes[rank]));
    table.add(std::move(cells));
  }
  return out + table.text();
}

Json schedule_json(const ScheduleStudy& study, const TimeUnit& unit) {
  Json out{{"format", "pipecast-schedule/1"}};
  out.update(fields(study, unit));
  Json& lines = out["steps"] = Json::array();
  for (std::size_t rank = 0; rank < study.schedule.ranks.size(); ++rank) {
    Json line = Json::array();
    for (std::size_t i = 0; i < study.schedule.ranks[rank].size(); ++i) {
      const StepTime& t = study.timing.steps[rank][i];
      line.push_back({{"pass", to_text(study.schedule.ranks[rank][i])},
                      {"start", number(t.start - Time{}, unit)},
                      {"end", number(t.end - Time{}, unit)}});
    }
    lines.push_back(std::move(line));
  }
  return out;
}

SchedulePicture schedule_picture(const std::vector<ComparedSchedule>& rows, const TimeUnit& unit) {
  SchedulePicture out{.unit = unit};
  for (const ComparedSchedule& row : rows) {
    if (!row.study) continue;
    const ScheduleStudy& study = *row.study;
    out.panels.push_back({.title = fmt::format("{}: {} {}, largest bubble {} {}", study.kind,
                                               shown(study.timing.makespan, unit), unit.name,
                                               shown(study.largest_bubble(), unit), unit.name),
                          .schedule = study.schedule,
                          .timing = study.timing});
    if (out.title.empty()) {
      out.title = fmt::format("{} ranks, {} micro-batches", study.schedule.ranks.size(),
                              study.schedule.all_microbatches());
    }
  }
  return out;
}

std::string comparison_text(const std::vector<ComparedSchedule>& rows, const TimeUnit& unit) {
  const bool bytes = std::any_of(rows.begin(), rows.end(), [](const ComparedSchedule& row) {
    return row.study && !row.study->peak_bytes.empty();
  });
  std::vector<std::string> header{"kind",    unit.name, "bubble", "%",      "inside",
                                  "formula", "",        "live",   "copies", "blocking"};
  if (bytes) header.emplace_back("GiB");
  constexpr std::size_t kFormulaText = 6;
  Table table(std::move(header), {kFormulaText});
  std::string impossible;
  for (const ComparedSchedule& row : rows) {
    if (!row.study) {
      impossible += fmt::format("{} is not possible: {}\n", row.kind, row.reason);
      continue;
    }
    const ScheduleStudy& study = *row.study;
    const Duration most = study.largest_bubble();
    std::vector<std::string> cells{study.kind,
                                   shown(study.timing.makespan, unit),
                                   shown(most, unit),
                                   percent(most, study.timing.makespan),
                                   shown(study.largest_inside(), unit),
                                   study.formula_value ? shown(*study.formula_value, unit) : "-",
                                   study.formula,
                                   share(study.largest_peak(), study.virtual_stages),
                                   std::to_string(study.parameter_copies),
                                   study.blocking_deadlock ? "locks" : "runs"};
    if (bytes) {
      cells.push_back(
          gibibytes(*std::max_element(study.peak_bytes.begin(), study.peak_bytes.end())));
    }
    table.add(std::move(cells));
  }
  return table.text() +
         "\nbubble: of the rank that idles most; inside: between its first and last pass\n"
         "live: most micro-batches kept by a rank, in its whole share of the model\n"
         "blocking: whether it runs where ranks send and receive only between two passes\n" +
         impossible;
}

Json comparison_json(const std::vector<ComparedSchedule>& rows, const TimeUnit& unit) {
  return {{"format", "pipecast-schedule-comparison/1"},
          {"rows", list(rows, [&](const ComparedSchedule& row) {
             return row.study ? fields(*row.study, unit)
                              : Json{{"kind", row.kind}, {"impossible", row.reason}};
           })}};
}

}  // namespace pipecast
