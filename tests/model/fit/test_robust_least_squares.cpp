#include <catch2/catch.hpp>
#include <cmath>

#include "base/error.hpp"
#include "base/random.hpp"
#include "model/fit/quantile.hpp"
#include "model/fit/robust_least_squares.hpp"

using namespace pipecast;

namespace {

using Values = std::vector<double>;

/// A time of two parts, as a kernel's: bytes over a rate plus a latency, and its logarithm with
/// noise.
struct Kernel {
  static constexpr double kRate = 3.0;
  static constexpr double kLatency = 0.7;

  Values size;
  Values measured;

  explicit Kernel(std::size_t rows, double noise) {
    Random random(1, "test of a fit");
    for (std::size_t i = 0; i < rows; ++i) {
      size.push_back(std::exp(6 * random.uniform() - 3));
      measured.push_back(time(size[i], kRate, kLatency) * std::exp(noise * random.normal()));
    }
  }

  static double time(double size, double rate, double latency) { return size / rate + latency; }

  [[nodiscard]] LeastSquaresProblem problem(Loss loss) const {
    LeastSquaresProblem out;
    out.parameters = {{.start = 1, .low = 0.01, .high = 100},
                      {.start = 0.1, .low = 0.001, .high = 10}};
    out.rows = size.size();
    out.residuals = [this](const Values& p, Values& residuals) {
      for (std::size_t i = 0; i < size.size(); ++i) {
        residuals[i] = std::log(time(size[i], p[0], p[1]) / measured[i]);
      }
    };
    out.loss = loss;
    return out;
  }
};

/// y = a + b x with residuals a + b x - y; both parameters linear.
struct Line {
  Values x;
  Values y;
  Values weights{};

  [[nodiscard]] LeastSquaresProblem problem(Loss loss, double bound = 10) const {
    LeastSquaresProblem out;
    const FitParameter any{
        .start = 0, .low = -bound, .high = bound, .scale = ParameterScale::kLinear};
    out.parameters = {any, any};
    out.weights = weights;
    out.rows = x.size();
    out.residuals = [this](const Values& p, Values& residuals) {
      for (std::size_t i = 0; i < x.size(); ++i) residuals[i] = p[0] + p[1] * x[i] - y[i];
    };
    out.loss = loss;
    return out;
  }
};

struct ClosedForm {
  double intercept = 0;
  double slope = 0;
  double slope_error = 0;
};

/// Weighted ordinary least squares, from the textbook's sums.
ClosedForm closed_form(const Line& line) {
  double n = 0;
  double mean_x = 0;
  double mean_y = 0;
  const auto weight = [&](std::size_t i) { return line.weights.empty() ? 1 : line.weights[i]; };
  for (std::size_t i = 0; i < line.x.size(); ++i) {
    n += weight(i);
    mean_x += weight(i) * line.x[i];
    mean_y += weight(i) * line.y[i];
  }
  mean_x /= n;
  mean_y /= n;
  double xx = 0;
  double xy = 0;
  for (std::size_t i = 0; i < line.x.size(); ++i) {
    xx += weight(i) * (line.x[i] - mean_x) * (line.x[i] - mean_x);
    xy += weight(i) * (line.x[i] - mean_x) * (line.y[i] - mean_y);
  }
  ClosedForm out;
  out.slope = xy / xx;
  out.intercept = mean_y - out.slope * mean_x;
  double squares = 0;
  for (std::size_t i = 0; i < line.x.size(); ++i) {
    const double off = out.intercept + out.slope * line.x[i] - line.y[i];
    squares += weight(i) * off * off;
  }
  out.slope_error = std::sqrt(squares / static_cast<double>(line.x.size() - 2) / xx);
  return out;
}

const Line kLine{.x = {0, 1, 2, 3, 4, 5}, .y = {0.9, 3.2, 4.8, 7.1, 8.7, 11.3}};

}  // namespace

TEST_CASE("a linear problem gives the closed form, its standard error included", "[fit]") {
  Line line = kLine;
  if (GENERATE(false, true)) line.weights = {1, 2, 3, 1, 2, 0.5};
  constexpr double kBound = 10;
  const LeastSquaresFit fit = fit_least_squares(line.problem(Loss::kSquares, kBound));
  const ClosedForm expected = closed_form(line);
  REQUIRE(fit.converged);
  REQUIRE(fit.parameters[0] == Approx(expected.intercept).epsilon(1e-6));
  REQUIRE(fit.parameters[1] == Approx(expected.slope).epsilon(1e-6));
  // Linear coordinates are over the range between the bounds.
  REQUIRE(fit.standard_errors[1] * 2 * kBound == Approx(expected.slope_error).epsilon(1e-6));
}

TEST_CASE("known parameters come back from noisy rows", "[fit]") {
  const auto loss = GENERATE(Loss::kSquares, Loss::kHuber, Loss::kCauchy);
  constexpr double kNoise = 0.05;
  const Kernel kernel(2000, kNoise);
  const LeastSquaresFit fit = fit_least_squares(kernel.problem(loss));
  REQUIRE(fit.converged);
  REQUIRE(fit.spread == Approx(kNoise).epsilon(0.1));
  // Four standard errors: a chance of one in 16,000 with another seed.
  REQUIRE(std::abs(std::log(fit.parameters[0] / Kernel::kRate)) < 4 * fit.standard_errors[0]);
  REQUIRE(std::abs(std::log(fit.parameters[1] / Kernel::kLatency)) < 4 * fit.standard_errors[1]);
  // The standard error falls with the root of the number of rows, 5 % / sqrt(2000) at the least.
  REQUIRE(fit.standard_errors[0] > kNoise / std::sqrt(2000));
  REQUIRE(fit.standard_errors[0] < 4 * kNoise / std::sqrt(2000));
}

TEST_CASE("a fifth of wild rows spoils squares and not the robust losses", "[fit]") {
  Kernel kernel(500, 0.02);
  for (std::size_t i = 0; i < kernel.measured.size(); i += 5) kernel.measured[i] *= 3;
  const auto off = [&](Loss loss) {
    const LeastSquaresFit fit = fit_least_squares(kernel.problem(loss));
    return std::abs(std::log(fit.parameters[0] / Kernel::kRate));
  };
  const double squares = off(Loss::kSquares);
  const double huber = off(Loss::kHuber);
  const double cauchy = off(Loss::kCauchy);
  CAPTURE(squares, huber, cauchy);
  REQUIRE(squares > 0.1);  // a fifth of log 3 is 0.22
  REQUIRE(huber < squares / 4);
  REQUIRE(cauchy < huber);
  REQUIRE(cauchy < 0.01);
}

TEST_CASE("parameters stay inside their bounds and the others make the best of it", "[fit]") {
  const Kernel kernel(300, 0.01);
  LeastSquaresProblem problem = kernel.problem(Loss::kSquares);
  problem.parameters[1] = {.start = 0.2, .low = 0.1, .high = 0.5};  // the true one is 0.7
  const LeastSquaresFit fit = fit_least_squares(problem);
  REQUIRE(fit.converged);
  REQUIRE(fit.parameters[1] == 0.5);
  REQUIRE(fit.standard_errors[1] == 0);
  // The rate alone, with the latency held at the bound, ends at the same place.
  LeastSquaresProblem alone = problem;
  alone.parameters.pop_back();
  alone.residuals = [&](const Values& p, Values& residuals) {
    problem.residuals({p[0], 0.5}, residuals);
  };
  REQUIRE(fit.parameters[0] == Approx(fit_least_squares(alone).parameters[0]).epsilon(1e-6));
}

TEST_CASE("a start on the wrong bound does not hold a parameter there", "[fit]") {
  const Kernel kernel(300, 0.01);
  LeastSquaresProblem problem = kernel.problem(Loss::kHuber);
  const double start = GENERATE(0.01, 100.0);
  problem.parameters[0].start = start;
  REQUIRE(fit_least_squares(problem).parameters[0] == Approx(Kernel::kRate).epsilon(0.01));
}

TEST_CASE("the result does not depend on where the search starts", "[fit]") {
  const Kernel kernel(300, 0.05);
  LeastSquaresProblem problem = kernel.problem(Loss::kHuber);
  const LeastSquaresFit one = fit_least_squares(problem);
  problem.parameters[0].start = 20;
  problem.parameters[1].start = 5;
  const LeastSquaresFit other = fit_least_squares(problem);
  for (std::size_t j = 0; j < 2; ++j) {
    REQUIRE(one.parameters[j] == Approx(other.parameters[j]).epsilon(1e-4));
  }
}

TEST_CASE("the same problem gives the same bits", "[fit]") {
  const Kernel kernel(200, 0.05);
  const LeastSquaresFit one = fit_least_squares(kernel.problem(Loss::kCauchy));
  const LeastSquaresFit other = fit_least_squares(kernel.problem(Loss::kCauchy));
  REQUIRE(one.parameters == other.parameters);
  REQUIRE(one.standard_errors == other.standard_errors);
  REQUIRE(one.jacobian == other.jacobian);
}

TEST_CASE("rows that do not know a parameter leave it where it was", "[fit]") {
  LeastSquaresProblem problem = kLine.problem(Loss::kSquares);
  problem.residuals = [](const Values& p, Values& residuals) {
    for (std::size_t i = 0; i < residuals.size(); ++i) {
      residuals[i] = p[0] - static_cast<double>(i);
    }
  };
  problem.parameters[1].start = 2;
  const LeastSquaresFit fit = fit_least_squares(problem);
  REQUIRE(fit.converged);
  REQUIRE(fit.parameters[0] == Approx((0 + 1 + 2 + 3 + 4 + 5) / 6.0));
  REQUIRE(fit.parameters[1] == 2);
  REQUIRE(fit.standard_errors[1] > 1e3);  // of the range
}

TEST_CASE("the robust centre of one sample lies between its mean and its median", "[fit]") {
  LeastSquaresProblem problem;
  const Values sample = {1, 2, 3, 4, 100};
  problem.parameters = {{.start = 1, .low = 0, .high = 200, .scale = ParameterScale::kLinear}};
  problem.rows = sample.size();
  problem.residuals = [&](const Values& p, Values& residuals) {
    for (std::size_t i = 0; i < sample.size(); ++i) residuals[i] = p[0] - sample[i];
  };
  problem.loss = Loss::kSquares;
  REQUIRE(fit_least_squares(problem).parameters[0] == Approx(110 / 5.0));
  problem.loss = Loss::kHuber;
  const double centre = fit_least_squares(problem).parameters[0];
  REQUIRE(centre >= 3);
  REQUIRE(centre < 5);
}

TEST_CASE("what cannot be fitted is refused", "[fit]") {
  LeastSquaresProblem problem = kLine.problem(Loss::kSquares);
  problem.parameters[0].start = 11;
  REQUIRE_THROWS_WITH(fit_least_squares(problem),
                      "least squares: start 11 is not inside -10 .. 10");
  problem.parameters[0] = {.start = 0, .low = 0, .high = 1};
  REQUIRE_THROWS_WITH(fit_least_squares(problem),
                      "least squares: a logarithmic parameter needs a bound above 0, not 0");
  problem = kLine.problem(Loss::kSquares);
  problem.rows = 1;
  REQUIRE_THROWS_WITH(fit_least_squares(problem),
                      "least squares: 1 rows cannot determine 2 parameters");
  problem = kLine.problem(Loss::kSquares);
  problem.weights = {1, 1};
  REQUIRE_THROWS_WITH(fit_least_squares(problem), "least squares: 2 weights for 6 rows");
  problem = kLine.problem(Loss::kSquares);
  problem.residuals = [](const Values&, Values& residuals) { residuals.assign(6, NAN); };
  REQUIRE_THROWS_WITH(fit_least_squares(problem),
                      "least squares: residuals at the start are not finite");
}

TEST_CASE("a weighted quantile holds its share of the weight", "[fit]") {
  const std::vector<WeightedValue> values = {{3, 1}, {1, 1}, {2, 2}};
  REQUIRE(weighted_quantile(values, 0) == 1);
  REQUIRE(weighted_quantile(values, 0.25) == 1);
  REQUIRE(weighted_quantile(values, 0.5) == 2);
  REQUIRE(weighted_quantile(values, 0.75) == 2);
  REQUIRE(weighted_quantile(values, 1) == 3);
  REQUIRE(weighted_quantile({{7, 0}, {8, 1}}, 0) == 8);  // what has no weight is not there
  REQUIRE_THROWS_WITH(weighted_quantile({{7, 0}}, 0.5), "no quantile of 1 values without weight");
}

TEST_CASE("an interpolated quantile runs from the smallest to the largest value", "[fit]") {
  const Values values = {30, 10, 20};
  REQUIRE(interpolated_quantile(values, 0) == 10);
  REQUIRE(interpolated_quantile(values, 0.5) == 20);
  REQUIRE(interpolated_quantile(values, 0.75) == 25);
  REQUIRE(interpolated_quantile(values, 1) == 30);
  REQUIRE(interpolated_quantile({4}, 0.9) == 4);
  REQUIRE_THROWS_WITH(interpolated_quantile({}, 0.5), "no quantile of no values");
}
