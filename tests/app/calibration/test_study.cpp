#include <catch2/catch.hpp>
#include <cmath>

#include "app/calibration/studies.hpp"
#include "app/calibration/study.hpp"
#include "app/calibration/write.hpp"
#include "app/forecast/assumptions.hpp"
#include "base/random.hpp"

using namespace pipecast;
using Catch::Contains;

namespace {

constexpr double kEfficiency = 0.62;
constexpr double kLatency = 4.0;

/// Time of some work, given what a study of two constants fits.
double time_of(double work, double efficiency, double latency) {
  return work / efficiency + latency;
}

StudyRow row_of(double work, double measured, std::string group) {
  return {.predict =
              [work](const CalibrationSpec& c) {
                return time_of(work, c.product.hbm.value, c.latency.kernel_us.value);
              },
          .measured = measured,
          .group = std::move(group)};
}

/// Rows of `shapes` shapes, each with an error of its own that its `repeats` rows share, and one of
/// every row.
FitStudy study_of(int shapes, int repeats, double shape_error, double row_error) {
  FitStudy study{.name = "test",
                 .source = "made up",
                 .constants = {{"product.hbm", {.start = 0.9, .low = 0.01, .high = 1}},
                               {"latency.kernel_us", {.start = 1, .low = 0.1, .high = 100}}}};
  Random random(1, "test of a study");
  for (int s = 0; s < shapes; ++s) {
    const double off = shape_error * random.normal();
    for (int r = 0; r < repeats; ++r) {
      const double work = std::exp(6 * random.uniform() - 1);
      const double measured =
          time_of(work, kEfficiency, kLatency) * std::exp(off + row_error * random.normal());
      study.rows.push_back(row_of(work, measured, "shape " + std::to_string(s)));
    }
  }
  return study;
}

CalibrationSpec started(const FitStudy& study) {
  CalibrationSpec calibration;
  start_study(study, calibration);
  return calibration;
}

double relative_width(const Constant& c) { return std::log(c.high / c.low); }

}  // namespace

TEST_CASE("a study finds the constants that made its rows", "[calibration]") {
  const FitStudy study = study_of(40, 10, 0, 0.03);
  CalibrationSpec calibration = started(study);
  const StudyResult result = run_study(study, calibration);
  REQUIRE(result.converged);
  REQUIRE(result.rows == 400);
  REQUIRE(result.groups == 40);
  REQUIRE(result.constants == std::vector<std::string>{"product.hbm", "latency.kernel_us"});
  for (const auto& [c, truth] : {std::pair{calibration.product.hbm, kEfficiency},
                                 std::pair{calibration.latency.kernel_us, kLatency}}) {
    REQUIRE(c.low < truth);
    REQUIRE(truth < c.high);
    REQUIRE(c.value == Approx(truth).epsilon(0.02));
    REQUIRE(c.source == "made up");
  }
  // Half of normal errors lie within 0.6745 standard deviations.
  REQUIRE(result.fitted.median == Approx(0.6745 * 0.03).epsilon(0.15));
  REQUIRE(result.left_out.has_value());
  REQUIRE(result.left_out->median == Approx(result.fitted.median).epsilon(0.1));
}

TEST_CASE("exact rows leave no error, in or out of the fit", "[calibration]") {
  const FitStudy study = study_of(12, 3, 0, 0);
  CalibrationSpec calibration = started(study);
  const StudyResult result = run_study(study, calibration);
  REQUIRE(result.fitted.worst < 1e-4);
  REQUIRE(result.left_out->worst < 1e-4);
  REQUIRE(calibration.product.hbm.value == Approx(kEfficiency).epsilon(1e-4));
}

TEST_CASE("cross-validation leaves out whole shapes", "[calibration]") {
  // A constant that serves one shape alone: rows of a shape that is left out cannot know it.
  FitStudy study = study_of(8, 10, 0, 0);
  for (StudyRow& row : study.rows) {
    if (row.group != "shape 3") continue;
    row.predict = [inner = row.predict](const CalibrationSpec& c) {
      return inner(c) * c.contention.dispatch.value;
    };
    row.measured *= 2;
  }
  study.constants.push_back({"contention.dispatch", {.start = 1, .low = 0.5, .high = 10}});
  CalibrationSpec calibration = started(study);
  const StudyResult result = run_study(study, calibration);
  REQUIRE(calibration.contention.dispatch.value == Approx(2).epsilon(1e-3));
  REQUIRE(result.fitted.worst < 1e-3);
  REQUIRE(result.left_out->worst > 0.1);
}

TEST_CASE("ranges know that rows of one shape err alike", "[calibration]") {
  const auto width = [](double shape_error, double row_error) {
    const FitStudy study = study_of(20, 50, shape_error, row_error);
    CalibrationSpec calibration = started(study);
    run_study(study, calibration);
    return relative_width(calibration.product.hbm);
  };
  // 50 rows of a shape average their own errors away, not the shape's.
  REQUIRE(width(0.05, 0) > 2 * width(0, 0.05));
}

TEST_CASE("a shape asks for the value that would make it right", "[calibration]") {
  // Shapes that differ by a factor in speed, all rows proportional to one constant: the range is
  // the quartiles of what they ask for.
  FitStudy study{.name = "quartiles",
                 .source = "made up",
                 .constants = {{"communication.notify_us", {.start = 1, .low = 0.1, .high = 100}}}};
  for (int i = 0; i < 101; ++i) {
    study.rows.push_back(
        {.predict = [](const CalibrationSpec& c) { return c.communication.notify_us.value; },
         .measured = 10 * std::exp((i - 50) * 0.01),
         .group = std::to_string(i)});
  }
  CalibrationSpec calibration = started(study);
  run_study(study, calibration);
  const Constant& c = calibration.communication.notify_us;
  REQUIRE(c.value == Approx(10).epsilon(1e-3));
  REQUIRE(c.low == Approx(10 * std::exp(-0.25)).epsilon(1e-3));
  REQUIRE(c.high == Approx(10 * std::exp(0.25)).epsilon(1e-3));
}

TEST_CASE("ranges stay inside the bounds", "[calibration]") {
  FitStudy study = study_of(10, 5, 0.3, 0.1);
  study.constants[0].parameter = {.start = 0.62, .low = 0.6, .high = 0.64};
  CalibrationSpec calibration = started(study);
  run_study(study, calibration);
  REQUIRE(calibration.product.hbm.low >= 0.6);
  REQUIRE(calibration.product.hbm.high <= 0.64);
  REQUIRE(calibration.product.hbm.low <= calibration.product.hbm.value);
  REQUIRE(calibration.product.hbm.value <= calibration.product.hbm.high);
}

TEST_CASE("one shape alone is fitted and not cross-validated", "[calibration]") {
  const FitStudy study = study_of(1, 10, 0, 0.01);
  CalibrationSpec calibration = started(study);
  REQUIRE_FALSE(run_study(study, calibration).left_out.has_value());
}

TEST_CASE("differences fit what was measured as nothing", "[calibration]") {
  FitStudy study{.name = "gaps",
                 .source = "made up",
                 .constants = {{"latency.launch_gap_us", {.start = 5, .low = 0.1, .high = 20}}},
                 .error = RowError::kDifference,
                 .resolution = 1};
  for (const double gap : {0.0, 2.0, 2.0, 2.0, 4.0}) {
    study.rows.push_back(
        {.predict = [](const CalibrationSpec& c) { return c.latency.launch_gap_us.value; },
         .measured = gap,
         .group = std::to_string(study.rows.size())});
  }
  CalibrationSpec calibration = started(study);
  const StudyResult result = run_study(study, calibration);
  REQUIRE(calibration.latency.launch_gap_us.value == Approx(2).epsilon(1e-6));
  REQUIRE(result.fitted.median == Approx(0).margin(1e-6));
  REQUIRE(result.fitted.worst == Approx(1));  // gaps of 0 and 4 against 2
}

TEST_CASE("a search on part of the rows reports errors of all", "[calibration]") {
  FitStudy study = study_of(100, 20, 0, 0.03);
  CalibrationSpec all = started(study);
  run_study(study, all);
  study.most_rows = 300;
  CalibrationSpec part = started(study);
  const StudyResult result = run_study(study, part);
  REQUIRE(result.rows == 2000);
  REQUIRE(part.product.hbm.value != all.product.hbm.value);
  REQUIRE(part.product.hbm.value == Approx(all.product.hbm.value).epsilon(0.01));
  REQUIRE(result.fitted.median == Approx(0.6745 * 0.03).epsilon(0.15));
}

TEST_CASE("appended tables weigh what they are told, whatever their length", "[calibration]") {
  // Two tables that contradict each other; the longer one has the lesser weight.
  FitStudy study{.name = "weights",
                 .source = "made up",
                 .constants = {{"product.hbm", {.start = 0.9, .low = 0.01, .high = 1}}},
                 .loss = Loss::kSquares};
  const auto table = [](int rows, double efficiency) {
    std::vector<StudyRow> out;
    for (int i = 0; i < rows; ++i) {
      out.push_back(
          {.predict = [](const CalibrationSpec& c) { return 1 / c.product.hbm.value; },
           .measured = 1 / efficiency,
           .group = std::to_string(i)});
    }
    return out;
  };
  append_rows(study.rows, table(5, 0.5), 3);
  append_rows(study.rows, table(200, 0.8), 1);
  CalibrationSpec calibration = started(study);
  run_study(study, calibration);
  // Squares of logarithms: the weighted geometric mean.
  REQUIRE(calibration.product.hbm.value ==
          Approx(std::exp((3 * std::log(0.5) + std::log(0.8)) / 4)).epsilon(1e-6));
}

TEST_CASE("a study that cannot be run says which", "[calibration]") {
  FitStudy study = study_of(2, 2, 0, 0);
  CalibrationSpec calibration = started(study);
  study.rows.front().measured = 0;
  REQUIRE_THROWS_WITH(run_study(study, calibration),
                      "study 'test': a row of 'shape 0' measured 0, which has no ratio to a "
                      "prediction");
  study.rows.resize(1);
  study.rows.front().measured = 1;
  REQUIRE_THROWS_WITH(run_study(study, calibration),
                      "study 'test': least squares: 1 rows cannot determine 2 parameters");
  study.rows.clear();
  REQUIRE_THROWS_WITH(run_study(study, calibration), "study 'test': no rows to fit on: made up");
  study.constants.push_back({"product.gemm", {}});
  REQUIRE_THROWS_WITH(run_study(study, calibration),
                      "study 'test': there is no constant 'product.gemm'");
}

TEST_CASE("studies fit every constant of a calibration once", "[calibration]") {
  const FitStudy study = study_of(5, 2, 0, 0.01);
  REQUIRE_THROWS_WITH(fit_calibration("h800", {study, study}),
                      "study 'test': 'product.hbm' is fitted already");
  REQUIRE_THROWS_WITH(fit_calibration("h800", {study}), Contains("no study fits '"));
}

TEST_CASE("later studies rest on the fitted values of earlier ones, and the reverse",
          "[calibration]") {
  // Both studies see both constants and fit one each; the truth is where they agree.
  FitStudy rest{.name = "rest", .source = "made up"};
  FitStudy first = study_of(20, 5, 0, 0);
  FitStudy second = first;
  first.constants.pop_back();
  second.constants.erase(second.constants.begin());
  CalibrationSpec names;
  for (const NamedConstant& named : constants_of(names)) {
    if (named.name == "product.hbm" || named.name == "latency.kernel_us") continue;
    rest.constants.push_back({named.name, {.start = 2, .low = 1, .high = 3}});
  }
  for (int i = 0; i < 80; ++i) {
    rest.rows.push_back({.predict = [](const CalibrationSpec&) { return 1.0; },
                         .measured = 1,
                         .group = std::to_string(i)});
  }
  for (StudyRow& row : second.rows) {
    if (row.measured > 3 * kLatency) row.weight = 0.01;  // small work knows the latency
  }
  const FittedCalibration fitted = fit_calibration("h100", {first, second, rest});
  REQUIRE(fitted.calibration.gpu == "h100");
  REQUIRE(fitted.studies.size() == 3);
  const double worst_at_start =
      std::abs(std::log(time_of(1, kEfficiency, 1) / time_of(1, kEfficiency, kLatency)));
  REQUIRE(fitted.studies[1].fitted.worst < worst_at_start / 4);

  // The file names every constant, with its study's errors, and says what wrote it.
  const std::string yaml = calibration_yaml(fitted, "some command");
  REQUIRE_THAT(yaml, Contains("# Written by `some command`:"));
  REQUIRE_THAT(yaml, Contains("gpu: h100\n"));
  REQUIRE_THAT(yaml, Contains("product:\n"));
  REQUIRE_THAT(yaml, Contains("  hbm:  # 100 rows of 20 shapes, median error "));
  REQUIRE_THAT(yaml, Contains("; left out: "));
  for (const FreeConstant& free : rest.constants) {
    REQUIRE_THAT(yaml, Contains("  " + free.name.substr(free.name.find('.') + 1) + ":  # 80 rows"));
  }
}
