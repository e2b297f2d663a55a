/// Non-linear least squares with bounds that a few wild rows do not spoil.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

namespace pipecast {

/// In which coordinate a parameter is searched.
enum class ParameterScale : std::uint8_t {
  kLog,     ///< its logarithm: rates, efficiencies, anything positive; steps are relative
  kLinear,  ///< itself over its range: what may be zero or negative
};

struct FitParameter {
  double start = 1;
  double low = 0;   ///< bound; above 0 for kLog
  double high = 0;  ///< bound, above low
  ParameterScale scale = ParameterScale::kLog;
};

/// How much a large residual counts.
enum class Loss : std::uint8_t {
  kSquares,  ///< its square
  kHuber,    ///< its square up to 1.345 spreads, then linearly
  kCauchy,   ///< less and less from 2.385 spreads on: for rows that belong to another population
};

struct LeastSquaresProblem {
  std::vector<FitParameter> parameters{};
  std::vector<double> weights{};  ///< one per row, >= 0; none: all 1
  std::size_t rows = 0;
  /// Fills one residual per row. Parameters come in their own units.
  std::function<void(const std::vector<double>& parameters, std::vector<double>& residuals)>
      residuals{};
  Loss loss = Loss::kHuber;
  double least_spread = 1e-9;  ///< resolution of the measurement: the spread is taken no smaller
  int max_iterations = 200;    ///< steps of the search, all together
};

struct LeastSquaresFit {
  std::vector<double> parameters;
  std::vector<double> residuals;
  std::vector<double> weights;  ///< of each row's square: the problem's times the loss's
  /// Derivatives of row i's residual at [i * parameters + j], by the logarithm of a kLog parameter
  /// and by a kLinear one over its range.
  std::vector<double> jacobian;
  /// Of each parameter in the Jacobian's coordinate: relative for kLog, of the range for kLinear. 0
  /// on a bound; huge where the rows do not determine the parameter.
  std::vector<double> standard_errors;
  double spread = 0;  ///< robust standard deviation of the residuals
  int iterations = 0;
  bool converged = false;
};

/// Minimises the sum of weight * loss(residual) inside the bounds: Levenberg-Marquardt steps on
/// iteratively reweighted squares, the spread taken anew (1.4826 median absolute residuals) when a
/// search has ended. Parameters on a bound that pull outwards rest. The Jacobian comes from
/// differences 0.5 % wide, which smooth over the small steps of tile choices and of picoseconds:
/// one-sided ones in the search, central ones for the standard errors.
///
/// Standard errors are from s^2 (J^T W J)^-1, W including the robust weights and s^2 the weighted
/// mean square per degree of freedom: they hold if rows err independently. The same input gives the
/// same bits.
///
/// Sources: Madsen, Nielsen and Tingleff 2004 (damping); Kanzow, Yamashita and Fukushima 2004
/// (projection on bounds); Huber 1964; Holland and Welsch 1977 (reweighting, the constants).
/// @throws Error if a start lies outside its bounds, bounds are empty, rows are fewer than
/// parameters, or the residuals at the start are not finite
LeastSquaresFit fit_least_squares(const LeastSquaresProblem& problem);

/// What the coordinate of the Jacobian makes of a parameter, and back.
double to_coordinate(const FitParameter& parameter, double value);
double from_coordinate(const FitParameter& parameter, double coordinate);

}  // namespace pipecast
