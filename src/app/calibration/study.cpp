#include "app/calibration/study.hpp"

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>

#include "app/forecast/assumptions.hpp"
#include "base/error.hpp"
#include "base/random.hpp"
#include "model/fit/quantile.hpp"
#include "model/ops/kernel_cost.hpp"

namespace pipecast {

namespace {

using Rows = std::vector<std::size_t>;

constexpr std::uint64_t kSeed = 1;       // any: the draw only has to be the same every time
constexpr double kStandardErrors = 2;    // 95 % of a normal distribution
constexpr double kLongestRequest = 1e3;  // in coordinates; beyond every bound

/// 0 .. count-1 in an order drawn once per purpose.
Rows shuffled(std::size_t count, std::string_view purpose) {
  Rows out(count);
  std::iota(out.begin(), out.end(), std::size_t{0});
  Random random(kSeed, purpose);
  for (std::size_t i = count; i > 1; --i) std::swap(out[i - 1], out[random.below(i)]);
  return out;
}

Constant* find_constant(const FitStudy& study, CalibrationSpec& calibration,
                        const std::string& name) {
  for (const NamedConstant& known : constants_of(calibration)) {
    if (known.name == name) return known.constant;
  }
  throw Error(fmt::format("study '{}': there is no constant '{}'", study.name, name));
}

std::vector<Constant*> constants_of_study(const FitStudy& study, CalibrationSpec& calibration) {
  std::vector<Constant*> out;
  for (const FreeConstant& free : study.constants) {
    out.push_back(find_constant(study, calibration, free.name));
  }
  return out;
}

class StudyRun {
 public:
  StudyRun(const FitStudy& study, CalibrationSpec& calibration)
      : study_(study),
        calibration_(calibration),
        constants_(constants_of_study(study, calibration)) {
    for (std::size_t j = 0; j < constants_.size(); ++j) {
      parameters_.push_back(study.constants[j].parameter);
      parameters_[j].start = constants_[j]->value;
    }
    for (const StudyRow& row : study.rows) {
      require(study.error == RowError::kDifference || row.measured > 0,
              "study '{}': a row of '{}' measured {}, which has no ratio to a prediction",
              study.name, row.group, row.measured);
    }
    require(!study.rows.empty(), "study '{}': no rows to fit on: {}", study.name, study.source);
    number_groups();
    sample_ = shuffled(study.rows.size(), "rows of a fit");
    sample_.resize(std::min(sample_.size(), study.most_rows));
    std::sort(sample_.begin(), sample_.end());
  }

  LeastSquaresFit search() {
    LeastSquaresFit fit = search(sample_);
    set(fit.parameters);
    return fit;
  }

  StudyResult run() {
    const LeastSquaresFit fit = search();
    StudyResult out{.name = study_.name, .source = study_.source};
    for (const FreeConstant& free : study_.constants) out.constants.push_back(free.name);
    out.rows = study_.rows.size();
    out.groups = groups_;
    out.iterations = fit.iterations;
    out.converged = fit.converged;
    const std::vector<LeastSquaresFit> folds = cross_validate(out);
    set(fit.parameters);
    std::vector<double> predicted(study_.rows.size());
    predict(all_rows(), predicted);
    out.fitted = summary(predicted);
    for (std::size_t j = 0; j < parameters_.size(); ++j) write_constant(j, fit, folds);
    return out;
  }

 private:
  /// Groups get numbers in an order that has nothing to do with their names, so that folds, which
  /// take them in turn, do not follow the table's order of extents.
  void number_groups() {
    std::map<std::string, std::size_t> numbers;
    for (const StudyRow& row : study_.rows) numbers.emplace(row.group, 0);
    groups_ = numbers.size();
    const Rows order = shuffled(groups_, "groups of a fit");
    std::size_t position = 0;
    for (auto& [name, number] : numbers) number = order[position++];
    for (const StudyRow& row : study_.rows) group_of_.push_back(numbers.at(row.group));
  }

  Rows all_rows() const {
    Rows out(study_.rows.size());
    std::iota(out.begin(), out.end(), std::size_t{0});
    return out;
  }

  void set(const std::vector<double>& values) {
    for (std::size_t j = 0; j < values.size(); ++j) constants_[j]->value = values[j];
  }

  double error_of(const StudyRow& row) const {
    const double predicted = row.predict(calibration_);
    return study_.error == RowError::kRelative ? std::log(predicted / row.measured)
                                               : predicted - row.measured;
  }

  /// Most steps are taken on some of the rows, spread evenly over the table; all of them then have
  /// little left to move.
  LeastSquaresFit search(const Rows& rows) {
    std::vector<FitParameter> parameters = parameters_;
    constexpr std::size_t kFewRows = 400;
    if (rows.size() > 2 * kFewRows) {
      Rows few;
      for (std::size_t i = 0; i < kFewRows; ++i) few.push_back(rows[i * rows.size() / kFewRows]);
      const LeastSquaresFit rough = search(few, parameters);
      for (std::size_t j = 0; j < parameters.size(); ++j) parameters[j].start = rough.parameters[j];
    }
    return search(rows, parameters);
  }

  LeastSquaresFit search(const Rows& rows, const std::vector<FitParameter>& parameters) {
    LeastSquaresProblem problem{.parameters = parameters, .rows = rows.size()};
    double total = 0;
    for (const std::size_t row : rows) total += study_.rows[row].weight;
    for (const std::size_t row : rows) {
      problem.weights.push_back(study_.rows[row].weight / total * static_cast<double>(rows.size()));
    }
    problem.residuals = [&](const std::vector<double>& values, std::vector<double>& residuals) {
      set(values);
      for (std::size_t i = 0; i < rows.size(); ++i) residuals[i] = error_of(study_.rows[rows[i]]);
    };
    problem.loss = study_.loss;
    problem.least_spread = study_.resolution;
    try {
      return fit_least_squares(problem);
    } catch (const Error& error) {
      throw Error(fmt::format("study '{}': {}", study_.name, error.what()));
    }
  }

  /// What the present constants say of some rows.
  void predict(const Rows& rows, std::vector<double>& out) const {
    for (const std::size_t row : rows) out[row] = study_.rows[row].predict(calibration_);
  }

  /// A measurement of nothing has no relative error; it counts by what it differs from the
  /// prediction, relative to that.
  ErrorSummary summary(const std::vector<double>& predicted) const {
    std::vector<double> errors;
    for (std::size_t i = 0; i < predicted.size(); ++i) {
      const double measured = study_.rows[i].measured;
      errors.push_back(study_.error == RowError::kRelative ? predicted[i] / measured - 1
                                                           : 1 - measured / predicted[i]);
    }
    return *summarise(errors);  // a study has rows
  }

  std::vector<LeastSquaresFit> cross_validate(StudyResult& out) {
    // From the declared starts: a constant that only the left-out shape knows must not remember it.
    for (std::size_t j = 0; j < parameters_.size(); ++j)
      parameters_[j] = study_.constants[j].parameter;
    std::vector<LeastSquaresFit> fits;
    const std::size_t folds = std::min(study_.folds, groups_);
    if (folds < 2) return fits;
    std::vector<double> predicted(study_.rows.size());
    for (std::size_t fold = 0; fold < folds; ++fold) {
      const auto left_out = [&](std::size_t row) { return group_of_[row] % folds == fold; };
      Rows kept;
      std::copy_if(sample_.begin(), sample_.end(), std::back_inserter(kept),
                   [&](std::size_t row) { return !left_out(row); });
      if (kept.size() < parameters_.size()) return {};  // too few shapes to do without some
      fits.push_back(search(kept));
      set(fits.back().parameters);
      Rows others = all_rows();
      others.erase(std::remove_if(others.begin(), others.end(),
                                  [&](std::size_t row) { return !left_out(row); }),
                   others.end());
      predict(others, predicted);
    }
    out.left_out = summary(predicted);
    return fits;
  }

  /// Delete-a-group jackknife (Efron and Stein 1981).
  double jackknife_error(std::size_t j, const std::vector<LeastSquaresFit>& folds) const {
    if (folds.empty()) return 0;
    double mean = 0;
    for (const LeastSquaresFit& fold : folds) mean += coordinate(j, fold.parameters[j]);
    mean /= static_cast<double>(folds.size());
    double squares = 0;
    for (const LeastSquaresFit& fold : folds) {
      const double off = coordinate(j, fold.parameters[j]) - mean;
      squares += off * off;
    }
    const auto n = static_cast<double>(folds.size());
    return std::sqrt(squares * (n - 1) / n);
  }

  double coordinate(std::size_t j, double value) const {
    return to_coordinate(parameters_[j], value);
  }

  /// How far every shape would move constant j if it were fitted alone, and its say.
  std::vector<WeightedValue> requests(std::size_t j, const LeastSquaresFit& fit) const {
    struct Sums {
      double pull = 0;
      double weight = 0;
    };
    std::vector<Sums> sums(groups_);
    for (std::size_t i = 0; i < sample_.size(); ++i) {
      Sums& group = sums[group_of_[sample_[i]]];
      const double slope = fit.jacobian[i * parameters_.size() + j];
      const double weight = fit.weights[i];
      group.pull -= weight * slope * fit.residuals[i];
      group.weight += weight * slope * slope;
    }
    std::vector<WeightedValue> out;
    for (const Sums& s : sums) {
      if (s.weight <= 0) continue;
      out.push_back({std::clamp(s.pull / s.weight, -kLongestRequest, kLongestRequest), s.weight});
    }
    return out;
  }

  void write_constant(std::size_t j, const LeastSquaresFit& fit,
                      const std::vector<LeastSquaresFit>& folds) {
    const FitParameter& p = parameters_[j];
    const std::string& source = study_.constants[j].source;
    double below = -kStandardErrors * std::max(fit.standard_errors[j], jackknife_error(j, folds));
    double above = -below;
    if (const std::vector<WeightedValue> asked = requests(j, fit); !asked.empty()) {
      below = std::min(below, weighted_quantile(asked, 0.25));
      above = std::max(above, weighted_quantile(asked, 0.75));
    }
    const double here = coordinate(j, fit.parameters[j]);
    const auto end = [&](double step) {
      const double longest = std::clamp(step, -kLongestRequest, kLongestRequest);
      return std::clamp(from_coordinate(p, here + longest), p.low, p.high);
    };
    *constants_[j] = {.value = fit.parameters[j],
                      .low = std::min(fit.parameters[j], end(below)),
                      .high = std::max(fit.parameters[j], end(above)),
                      .source = source.empty() ? study_.source : source,
                      .kind = study_.evidence};
  }

  const FitStudy& study_;
  CalibrationSpec& calibration_;
  std::vector<Constant*> constants_;
  std::vector<FitParameter> parameters_;
  std::vector<std::size_t> group_of_;  // by row
  std::size_t groups_ = 0;
  Rows sample_;
};

}  // namespace

std::vector<KernelEvidence> evidence_of(const std::vector<FitStudy>& studies) {
  std::map<std::string, KernelEvidence, std::less<>> by_operation;
  for (const FitStudy& study : studies) {
    std::map<std::string_view, int> rows;
    for (const StudyRow& row : study.rows) ++rows[row.operation];
    rows.erase(std::string_view());
    for (const auto& [operation, count] : rows) {
      KernelEvidence& evidence = by_operation[std::string(operation)];
      evidence.operation = operation;
      evidence.kind = study.evidence;
      evidence.rows += count;
      evidence.source += (evidence.source.empty() ? "" : "; ") + study.source;
    }
  }
  for (const FitStudy& study : studies) {
    for (const KernelEvidence& stated : study.stated_kernels) {
      by_operation.try_emplace(stated.operation, stated);
    }
  }
  std::vector<KernelEvidence> out;
  for (auto& [operation, evidence] : by_operation) out.push_back(std::move(evidence));
  return out;
}

void start_study(const FitStudy& study, CalibrationSpec& calibration) {
  const std::vector<Constant*> constants = constants_of_study(study, calibration);
  for (std::size_t j = 0; j < constants.size(); ++j) {
    constants[j]->value = study.constants[j].parameter.start;
  }
  for (const StatedConstant& stated : study.stated) {
    *find_constant(study, calibration, stated.name) = stated.constant;
  }
}

void search_study(const FitStudy& study, CalibrationSpec& calibration) {
  StudyRun(study, calibration).search();
}

StudyResult run_study(const FitStudy& study, CalibrationSpec& calibration) {
  return StudyRun(study, calibration).run();
}

StudyRow kernel_row(const Operation& operation, const GpuSpec& gpu, int sms, double time_us,
                    std::string group) {
  return {.predict =
              [operation, &gpu, sms](const CalibrationSpec& calibration) {
                return to_microseconds(kernel_cost(operation, gpu, calibration, sms).time);
              },
          .measured = time_us,
          .group = std::move(group),
          .operation = operation.op};
}

void append_rows(std::vector<StudyRow>& to, std::vector<StudyRow> rows, double weight) {
  double total = 0;
  for (const StudyRow& row : rows) total += row.weight;
  for (StudyRow& row : rows) {
    row.weight *= weight / total;
    to.push_back(std::move(row));
  }
}

}  // namespace pipecast
