#include "model/fit/robust_least_squares.hpp"

#include <Eigen/Dense>
#include <algorithm>
#include <cmath>
#include <limits>

#include "base/error.hpp"
#include "model/fit/quantile.hpp"

namespace pipecast {

namespace {

using Matrix = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
using Vector = Eigen::VectorXd;
using Index = Eigen::Index;

constexpr double kHuberBend = 1.345;   // 95 % efficient on normal residuals
constexpr double kCauchyBend = 2.385;  // the same
constexpr double kNormalMad = 1.4826;  // standard deviation over median absolute deviation
constexpr double kDifference = 0.005;  // width of a difference to one side, in coordinates
constexpr double kTolerance = 1e-6;    // of coordinates, and of the gradient's direction cosine
constexpr double kSpreadTolerance = 1e-3;
constexpr double kFirstDamping = 1e-3;
constexpr double kLargestDamping = 1e12;

double loss_of(Loss loss, double residual, double spread) {
  const double size = std::abs(residual);
  if (loss == Loss::kHuber) {
    const double bend = kHuberBend * spread;
    return size <= bend ? 0.5 * size * size : bend * (size - 0.5 * bend);
  }
  if (loss == Loss::kCauchy) {
    const double bend = kCauchyBend * spread;
    return 0.5 * bend * bend * std::log1p(residual * residual / (bend * bend));
  }
  return 0.5 * residual * residual;
}

/// Derivative of the loss over the residual: what a square must be weighted with.
double robust_weight(Loss loss, double residual, double spread) {
  if (loss == Loss::kHuber) {
    const double bend = kHuberBend * spread;
    return std::abs(residual) <= bend ? 1 : bend / std::abs(residual);
  }
  if (loss == Loss::kCauchy) {
    const double ratio = residual / (kCauchyBend * spread);
    return 1 / (1 + ratio * ratio);
  }
  return 1;
}

class Search {
 public:
  explicit Search(const LeastSquaresProblem& problem)
      : problem_(problem),
        parameters_(static_cast<Index>(problem.parameters.size())),
        rows_(static_cast<Index>(problem.rows)),
        weights_(Vector::Ones(rows_)) {
    check();
    jacobian_.resize(rows_, parameters_);
    at_.resize(parameters_);
    low_.resize(parameters_);
    high_.resize(parameters_);
    for (Index j = 0; j < parameters_; ++j) {
      const FitParameter& p = problem.parameters[static_cast<std::size_t>(j)];
      at_[j] = to_coordinate(p, p.start);
      low_[j] = to_coordinate(p, p.low);
      high_[j] = to_coordinate(p, p.high);
    }
    for (std::size_t i = 0; i < problem.weights.size(); ++i) {
      weights_[static_cast<Index>(i)] = problem.weights[i];
    }
    residuals_ = evaluate(at_);
    require(residuals_.allFinite(), "least squares: residuals at the start are not finite");
  }

  LeastSquaresFit run() {
    spread_ = spread();
    constexpr int kMostSpreads = 30;
    for (int round = 0; round < kMostSpreads && iterations_ < problem_.max_iterations; ++round) {
      const bool ended = minimise();
      const double before = spread_;
      spread_ = spread();
      converged_ = ended && (problem_.loss == Loss::kSquares ||
                             std::abs(spread_ - before) <= kSpreadTolerance * before);
      if (converged_) break;
    }
    return result();
  }

 private:
  void check() const {
    for (const FitParameter& p : problem_.parameters) {
      require(p.low < p.high && p.start >= p.low && p.start <= p.high,
              "least squares: start {} is not inside {} .. {}", p.start, p.low, p.high);
      require(p.scale != ParameterScale::kLog || p.low > 0,
              "least squares: a logarithmic parameter needs a bound above 0, not {}", p.low);
    }
    require(problem_.rows >= problem_.parameters.size(),
            "least squares: {} rows cannot determine {} parameters", problem_.rows,
            problem_.parameters.size());
    require(problem_.weights.empty() || problem_.weights.size() == problem_.rows,
            "least squares: {} weights for {} rows", problem_.weights.size(), problem_.rows);
  }

  std::vector<double> values_at(const Vector& at) const {
    std::vector<double> values(problem_.parameters.size());
    for (std::size_t j = 0; j < values.size(); ++j) {
      const FitParameter& p = problem_.parameters[j];
      values[j] = std::clamp(from_coordinate(p, at[static_cast<Index>(j)]), p.low, p.high);
    }
    return values;
  }

  Vector evaluate(const Vector& at) const {
    std::vector<double> residuals(problem_.rows);
    problem_.residuals(values_at(at), residuals);
    return Eigen::Map<const Vector>(residuals.data(), rows_);
  }

  double spread() const {
    std::vector<WeightedValue> sizes(problem_.rows);
    for (std::size_t i = 0; i < sizes.size(); ++i) {
      const auto row = static_cast<Index>(i);
      sizes[i] = {std::abs(residuals_[row]), weights_[row]};
    }
    return std::max(problem_.least_spread, kNormalMad * weighted_quantile(std::move(sizes), 0.5));
  }

  double cost(const Vector& residuals) const {
    if (!residuals.allFinite()) return std::numeric_limits<double>::infinity();
    double sum = 0;
    for (Index i = 0; i < rows_; ++i) {
      sum += weights_[i] * loss_of(problem_.loss, residuals[i], spread_);
    }
    return sum;
  }

  Vector squares_weights() const {
    Vector out(rows_);
    for (Index i = 0; i < rows_; ++i) {
      out[i] = weights_[i] * robust_weight(problem_.loss, residuals_[i], spread_);
    }
    return out;
  }

  /// One-sided, into the bounds: the search needs no better.
  void differentiate() {
    for (Index j = 0; j < parameters_; ++j) {
      Vector beside = at_;
      const bool upwards = at_[j] + kDifference <= high_[j];
      beside[j] = upwards ? at_[j] + kDifference : std::max(at_[j] - kDifference, low_[j]);
      jacobian_.col(j) = (evaluate(beside) - residuals_) / (beside[j] - at_[j]);
    }
  }

  void differentiate_centrally() {
    for (Index j = 0; j < parameters_; ++j) {
      Vector above = at_;
      Vector below = at_;
      above[j] = std::min(at_[j] + kDifference, high_[j]);
      below[j] = std::max(at_[j] - kDifference, low_[j]);
      jacobian_.col(j) = (evaluate(above) - evaluate(below)) / (above[j] - below[j]);
    }
  }

  /// Parameters that may move: not on a bound, or pulled inwards from it.
  std::vector<Index> movable(const Vector& gradient) const {
    std::vector<Index> out;
    for (Index j = 0; j < parameters_; ++j) {
      const bool held =
          (at_[j] <= low_[j] && gradient[j] > 0) || (at_[j] >= high_[j] && gradient[j] < 0);
      if (!held) out.push_back(j);
    }
    return out;
  }

  Vector damped_step(const Matrix& normal, const Vector& gradient, const std::vector<Index>& moving,
                     double damping) const {
    Matrix system = normal(moving, moving);
    const double least = 1e-12 * std::max(1e-300, system.diagonal().maxCoeff());
    for (Index j = 0; j < system.rows(); ++j) {
      system(j, j) += damping * std::max(least, system(j, j));
    }
    const Vector part = system.ldlt().solve(-gradient(moving));
    Vector step = Vector::Zero(parameters_);
    step(moving) = part;
    return (at_ + step).cwiseMin(high_).cwiseMax(low_) - at_;
  }

  /// Searches with the spread held. @returns whether it ended by itself
  bool minimise() {
    double damping = kFirstDamping;
    double growth = 2;
    double here = cost(residuals_);
    while (iterations_ < problem_.max_iterations) {
      ++iterations_;
      differentiate();
      const Vector weights = squares_weights();
      const Matrix normal = jacobian_.transpose() * weights.asDiagonal() * jacobian_;
      const Vector gradient = jacobian_.transpose() * weights.cwiseProduct(residuals_);
      const std::vector<Index> moving = movable(gradient);
      if (moving.empty() || flat(normal, gradient, weights, moving)) return true;
      while (true) {
        const Vector step = damped_step(normal, gradient, moving, damping);
        if (step.lpNorm<Eigen::Infinity>() <= kTolerance || damping > kLargestDamping) return true;
        const Vector residuals = evaluate(at_ + step);
        const double there = cost(residuals);
        const double promised = -(gradient.dot(step) + 0.5 * step.dot(normal * step));
        if (there < here) {
          const double kept = (here - there) / std::max(promised, 1e-300);
          at_ += step;
          residuals_ = residuals;
          here = there;
          damping *= std::clamp(1 - std::pow(2 * kept - 1, 3), 1.0 / 3, 2.0);
          growth = 2;
          break;
        }
        damping *= growth;
        growth *= 2;
      }
    }
    return false;
  }

  /// Whether no direction changes the sum of squares any more: the residuals stand at right angles
  /// on every column of the Jacobian.
  bool flat(const Matrix& normal, const Vector& gradient, const Vector& weights,
            const std::vector<Index>& moving) const {
    const double length = std::sqrt(weights.dot(residuals_.cwiseAbs2()));
    return std::all_of(moving.begin(), moving.end(), [&](Index j) {
      return std::abs(gradient[j]) <= kTolerance * std::sqrt(normal(j, j)) * length;
    });
  }

  Vector standard_errors() const {
    Vector out = Vector::Zero(parameters_);
    const Vector weights = squares_weights();
    const Vector gradient = jacobian_.transpose() * weights.cwiseProduct(residuals_);
    const std::vector<Index> moving = movable(gradient);
    const Index freedom = rows_ - static_cast<Index>(moving.size());
    if (moving.empty() || freedom <= 0) return out;
    const double variance = weights.dot(residuals_.cwiseAbs2()) / static_cast<double>(freedom);
    const Matrix normal = jacobian_.transpose() * weights.asDiagonal() * jacobian_;
    const Matrix system = normal(moving, moving);
    const Eigen::SelfAdjointEigenSolver<Eigen::MatrixXd> axes{Eigen::MatrixXd(system)};
    const double least = 1e-14 * std::max(1e-300, axes.eigenvalues().maxCoeff());
    for (Index j = 0; j < system.rows(); ++j) {
      double sum = 0;
      for (Index a = 0; a < system.rows(); ++a) {
        const double share = axes.eigenvectors()(j, a);
        sum += share * share / std::max(least, axes.eigenvalues()[a]);
      }
      out[moving[static_cast<std::size_t>(j)]] = std::sqrt(variance * sum);
    }
    return out;
  }

  LeastSquaresFit result() {
    differentiate_centrally();
    const Vector errors = standard_errors();
    LeastSquaresFit out;
    out.parameters = values_at(at_);
    out.residuals.assign(residuals_.begin(), residuals_.end());
    const Vector weights = squares_weights();
    out.weights.assign(weights.begin(), weights.end());
    out.jacobian.assign(jacobian_.data(), jacobian_.data() + jacobian_.size());
    out.standard_errors.assign(errors.begin(), errors.end());
    out.spread = spread_;
    out.iterations = iterations_;
    out.converged = converged_;
    return out;
  }

  const LeastSquaresProblem& problem_;
  Index parameters_;
  Index rows_;
  Vector weights_;
  Vector at_;  // coordinates
  Vector low_;
  Vector high_;
  Vector residuals_;
  Matrix jacobian_;
  double spread_ = 0;
  int iterations_ = 0;
  bool converged_ = false;
};

}  // namespace

double to_coordinate(const FitParameter& p, double value) {
  return p.scale == ParameterScale::kLog ? std::log(value) : value / (p.high - p.low);
}

double from_coordinate(const FitParameter& p, double coordinate) {
  return p.scale == ParameterScale::kLog ? std::exp(coordinate) : coordinate * (p.high - p.low);
}

LeastSquaresFit fit_least_squares(const LeastSquaresProblem& problem) {
  return Search(problem).run();
}

}  // namespace pipecast
