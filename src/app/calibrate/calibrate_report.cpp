#include "app/calibrate/calibrate_report.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "app/forecast/assumptions.hpp"
#include "app/kernel/kernel_table.hpp"
#include "app/report/table.hpp"

namespace pipecast {

namespace {

using Json = nlohmann::ordered_json;
using Outcome = Measurement::Outcome;

std::string percent(double share) { return fmt::format("{:+.1f} %", 100 * share); }

std::string number(double value) {
  return value < 10 ? fmt::format("{:.2f}", value) : fmt::format("{:.1f}", value);
}

Json extents_json(const PlannedMeasurement& planned) {
  Json out = Json::object();
  for (const NamedExtent& extent : planned.extents) out[extent.name] = extent.value;
  return out;
}

Json planned_json(const PlannedMeasurement& planned) {
  return {{"name", planned.name}, {"shape", extents_json(planned)}, {"sms", planned.sms},
          {"gpus", planned.gpus}, {"used", planned.used},           {"unit", planned.unit}};
}

Json device_json(const CalibrateSubject& subject) {
  if (subject.device.name.empty()) return nullptr;
  return {{"name", subject.device.name},
          {"driver", subject.device.driver},
          {"date", subject.device.date}};
}

Json subject_json(const CalibrateSubject& subject) {
  return {{"scenario", subject.scenario},
          {"gpu", subject.machine.gpu.name},
          {"calibration", subject.machine.calibration_file},
          {"device", device_json(subject)},
          {"no_gpu", subject.no_gpu.empty() ? Json(nullptr) : Json(subject.no_gpu)}};
}

std::string shapes_text(const CalibrateSubject& subject) {
  return fmt::format("Shapes of {}; predictions for {} by {}.\n\n", subject.scenario,
                     subject.machine.gpu.name, subject.machine.calibration_file);
}

/// Predicted over measured, less 1.
double error_of(const SessionRow& row, const CalibrationSpec& calibration) {
  return row.planned->predict(calibration) / row.measurement.value - 1;
}

bool timed(const SessionRow& row) { return row.measurement.outcome == Outcome::kTimed; }

/// "q_b and 3 more".
std::string shortened(const std::string& used) {
  const auto others = std::count(used.begin(), used.end(), ',');
  if (others == 0) return used;
  return fmt::format("{} and {} more", used.substr(0, used.find(',')), others);
}

std::string_view name_of_outcome(Outcome outcome) {
  switch (outcome) {
    case Outcome::kTimed:
      return "timed";
    case Outcome::kWrong:
      return "wrong";
    case Outcome::kNoKernel:
      return "no_kernel";
  }
  return "";
}

/// Of the calibration's machine: what a fit was given.
const CalibrationSpec& after(const CalibrateSubject& subject, const CalibrateOutcome& outcome) {
  return outcome.fitted ? outcome.fitted->calibration : subject.machine.calibration;
}

std::string kinds_text(const CalibrateSubject& subject, const CalibrateOutcome& outcome) {
  struct Errors {
    std::vector<double> before;
    std::vector<double> after;
    double spread = 0;
  };
  std::map<std::string, Errors> kinds;
  for (const SessionRow& row : outcome.session.rows) {
    if (!timed(row)) continue;
    Errors& kind = kinds[row.planned->name];
    kind.before.push_back(error_of(row, subject.machine.calibration));
    kind.after.push_back(error_of(row, after(subject, outcome)));
    kind.spread = std::max(kind.spread, row.measurement.spread);
  }
  Table table({"timed", "rows", "widest spread", "error before", "90 %", "error after", "90 %"});
  for (const auto& [name, kind] : kinds) {
    const ErrorSummary before = *summarise(kind.before);
    const ErrorSummary fitted = *summarise(kind.after);
    const auto share = [](double value) { return fmt::format("{:.1f} %", 100 * value); };
    table.add({name, std::to_string(kind.before.size()), share(kind.spread), share(before.median),
               share(before.p90), share(fitted.median), share(fitted.p90)});
  }
  return kinds.empty() ? "" : table.text() + "\n";
}

std::string worst_text(const CalibrateSubject& subject, const CalibrateOutcome& outcome) {
  constexpr std::size_t kShown = 10;
  std::vector<const SessionRow*> rows;
  for (const SessionRow& row : outcome.session.rows) {
    if (timed(row)) rows.push_back(&row);
  }
  const CalibrationSpec& fitted = after(subject, outcome);
  std::stable_sort(rows.begin(), rows.end(), [&](const SessionRow* a, const SessionRow* b) {
    return std::abs(error_of(*a, fitted)) > std::abs(error_of(*b, fitted));
  });
  rows.resize(std::min(rows.size(), kShown));
  Table table(
      {"furthest off", "shape", "SMs", "", "measured", "predicted before", "after", "error"},
      {1, 3});
  for (const SessionRow* const row : rows) {
    const PlannedMeasurement& planned = *row->planned;
    table.add({planned.name, planned.shape, std::to_string(planned.sms), planned.unit,
               number(row->measurement.value), number(planned.predict(subject.machine.calibration)),
               number(planned.predict(fitted)), percent(error_of(*row, fitted))});
  }
  return rows.empty() ? "" : table.text() + "\n";
}

/// Lines for what has no time, one per reason and name.
std::string untimed_text(const SessionResult& session) {
  std::map<std::string, std::size_t> reasons;
  for (const SessionRow& row : session.rows) {
    if (timed(row)) continue;
    const bool wrong = row.measurement.outcome == Outcome::kWrong;
    const std::string& what = wrong ? row.planned->key() : row.planned->name;
    ++reasons[fmt::format("{}: {}", what, row.measurement.note)];
  }
  std::string out;
  for (const auto& [reason, count] : reasons) {
    out += fmt::format("Not timed: {}{}\n", reason,
                       count > 1 ? fmt::format(" ({} shapes)", count) : "");
  }
  return out;
}

std::string constants_text(const FittedCalibration& fitted) {
  CalibrationSpec calibration = fitted.calibration;
  Table table({"constant", "value", "low", "high", "spread"});
  std::size_t kept = 0;
  for (const NamedConstant& named : constants_of(calibration)) {
    const Constant& c = *named.constant;
    if (c.kind != Evidence::kCalibrated) {
      ++kept;
      continue;
    }
    table.add({named.name, fmt::format("{:.4g}", c.value), fmt::format("{:.4g}", c.low),
               fmt::format("{:.4g}", c.high), fmt::format("{:.1f} %", 100 * c.spread)});
  }
  return fmt::format("{}\n{} constants could not be measured here and keep their values.\n",
                     table.text(), kept);
}

Json constants_json(const FittedCalibration& fitted) {
  CalibrationSpec calibration = fitted.calibration;
  Json out = Json::array();
  for (const NamedConstant& named : constants_of(calibration)) {
    const Constant& c = *named.constant;
    out.push_back({{"name", named.name},
                   {"value", c.value},
                   {"low", c.low},
                   {"high", c.high},
                   {"kind", name_of(c.kind)},
                   {"spread", c.spread},
                   {"source", c.source}});
  }
  return out;
}

Json optional_json(const std::optional<double>& value) {
  return value ? Json(*value) : Json(nullptr);
}

}  // namespace

std::string calibrate_plan_text(const CalibrateSubject& subject,
                                const std::vector<PlannedMeasurement>& plan) {
  Table table({"to time", "shape", "SMs", "predicted", "", "kernel", "where"}, {1, 4, 5, 6});
  std::size_t missing = 0;
  for (const PlannedMeasurement& planned : plan) {
    const bool there = subject.has_kernel(planned);
    missing += there ? 0 : 1;
    table.add({planned.name, planned.shape, std::to_string(planned.sms),
               number(planned.predict(subject.machine.calibration)), planned.unit,
               there ? "yes" : "none", shortened(planned.used)});
  }
  return fmt::format(
      "Nothing is timed: a dry run.\n{}{}\n{} measurements, of which {} have no kernel in this "
      "build.\n",
      shapes_text(subject), table.text(), plan.size(), missing);
}

nlohmann::ordered_json calibrate_plan_json(const CalibrateSubject& subject,
                                           const std::vector<PlannedMeasurement>& plan) {
  Json out = subject_json(subject);
  out["measurements"] = Json::array();
  for (const PlannedMeasurement& planned : plan) {
    Json row = planned_json(planned);
    row["predicted"] = planned.predict(subject.machine.calibration);
    row["kernel"] = subject.has_kernel(planned);
    out["measurements"].push_back(std::move(row));
  }
  return out;
}

std::string calibrate_text(const CalibrateSubject& subject, const CalibrateOutcome& outcome) {
  std::string out = fmt::format("{}, driver {}\n", subject.device.name, subject.device.driver) +
                    shapes_text(subject) + kinds_text(subject, outcome) +
                    worst_text(subject, outcome) + untimed_text(outcome.session);
  if (outcome.session.not_reached > 0) {
    out += fmt::format("The time limit left {} measurements; the same command goes on.\n",
                       outcome.session.not_reached);
  }
  if (!outcome.fitted) return out + "Nothing was timed: no calibration is written.\n";
  return out + "\n" + constants_text(*outcome.fitted) +
         fmt::format("Written: {}; measurements: {}\n", outcome.calibration, outcome.table);
}

nlohmann::ordered_json calibrate_json(const CalibrateSubject& subject,
                                      const CalibrateOutcome& outcome) {
  Json out = subject_json(subject);
  out["measurements"] = Json::array();
  for (const SessionRow& row : outcome.session.rows) {
    const Measurement& m = row.measurement;
    Json json = planned_json(*row.planned);
    json["outcome"] = name_of_outcome(m.outcome);
    json["predicted"] = row.planned->predict(subject.machine.calibration);
    if (timed(row)) {
      json["predicted_after"] = row.planned->predict(after(subject, outcome));
      json["measured"] = m.value;
      json["spread"] = m.spread;
      json["repetitions"] = m.repetitions;
      json["clock_ghz"] = optional_json(m.clock_ghz);
      json["power_w"] = optional_json(m.power_w);
      json["temperature_c"] = optional_json(m.temperature_c);
      json["earlier"] = row.earlier;
    } else {
      json["reason"] = m.note;
    }
    out["measurements"].push_back(std::move(json));
  }
  out["not_reached"] = outcome.session.not_reached;
  out["constants"] = outcome.fitted ? constants_json(*outcome.fitted) : Json::array();
  out["table"] = outcome.table;
  out["written"] = outcome.calibration.empty() ? Json(nullptr) : Json(outcome.calibration);
  return out;
}

}  // namespace pipecast
