#include "kernels/numerics/moments.hpp"

#include <cmath>

#include "base/random.hpp"
#include "kernels/reference/optimizer.hpp"

namespace pipecast::kernels {
namespace {

using reference::AdamWSettings;
using reference::AdamWState;
using reference::Index;
using reference::Matrix;
using reference::Vector;

constexpr Index kInputs = 16;
constexpr Index kHidden = 32;
constexpr Index kWeights = kInputs * kHidden + kHidden;
constexpr Index kBatch = 32;
constexpr Index kExamined = 512;  // inputs that the loss is measured on
constexpr double kNoise = 0.1;    // standard deviation of what is added to the teacher's outputs

Matrix normal_matrix(Random& random, Index rows, Index columns) {
  return Matrix::NullaryExpr(rows, columns, [&] { return random.normal(); });
}

Vector normal_weights(Random& random) {
  Vector out(kWeights);
  for (Index i = 0; i < kWeights; ++i) {
    const auto fan_in = static_cast<double>(i < kInputs * kHidden ? kInputs : kHidden);
    out[i] = random.normal() / std::sqrt(fan_in);
  }
  return out;
}

/// The first weights are hidden x inputs, the last of the output.
struct Layers {
  Matrix hidden{};
  Vector output{};
};
Layers layers_of(const Vector& weights) {
  return {.hidden = Eigen::Map<const Matrix>(weights.data(), kHidden, kInputs),
          .output = weights.tail(kHidden)};
}

Matrix hidden_of(const Layers& layers, const Matrix& inputs) {
  return (inputs * layers.hidden.transpose()).array().tanh();
}

Vector outputs_of(const Vector& weights, const Matrix& inputs) {
  const Layers layers = layers_of(weights);
  return hidden_of(layers, inputs) * layers.output;
}

/// Of half the mean squared error.
Vector gradient_of(const Vector& weights, const Matrix& inputs, const Vector& targets) {
  const Layers layers = layers_of(weights);
  const Matrix hidden = hidden_of(layers, inputs);
  const Vector error = (hidden * layers.output - targets) / static_cast<double>(inputs.rows());
  const Matrix of_sums =
      (error * layers.output.transpose()).array() * (1 - hidden.array().square());
  const Matrix of_hidden = of_sums.transpose() * inputs;
  Vector out(kWeights);
  out << Eigen::Map<const Vector>(of_hidden.data(), kInputs * kHidden), hidden.transpose() * error;
  return out;
}

double loss_of(const Vector& weights, const Matrix& inputs, const Vector& targets) {
  return (outputs_of(weights, inputs) - targets).squaredNorm() /
         (2 * static_cast<double>(inputs.rows()));
}

}  // namespace

std::vector<MomentsCheckpoint> moments_error(const MomentsCase& the_case) {
  Random random(the_case.seed, "teacher and student");
  const Vector teacher = normal_weights(random);
  const Vector start = normal_weights(random);
  const Matrix examined = normal_matrix(random, kExamined, kInputs);
  const Vector expected = outputs_of(teacher, examined);
  const AdamWSettings settings{.learning_rate = the_case.learning_rate, .beta2 = the_case.beta2};
  const auto rounding = [&](double moment) { return rounded(moment, the_case.format); };
  const AdamWState begin{start, Vector::Zero(kWeights), Vector::Zero(kWeights)};
  AdamWState stored = begin;
  AdamWState exact = begin;
  std::vector<MomentsCheckpoint> out;
  for (int step = 1; out.size() < the_case.checkpoints.size(); ++step) {
    const Matrix inputs = normal_matrix(random, kBatch, kInputs);
    const Vector targets =
        outputs_of(teacher, inputs) + kNoise * normal_matrix(random, kBatch, 1).col(0);
    const auto learn = [&](AdamWState& state, const reference::MomentRounding& how) {
      state =
          adamw_step(state, gradient_of(state.parameters, inputs, targets), settings, step, how);
    };
    learn(stored, rounding);
    learn(exact, {});
    if (step != the_case.checkpoints[out.size()]) continue;
    const double gone = (exact.parameters - start).norm();
    out.push_back(
        {.divergence = (stored.parameters - exact.parameters).norm() / gone,
         .loss = loss_of(stored.parameters, examined, expected),
         .exact_loss = loss_of(exact.parameters, examined, expected),
         .second_moment = (stored.second_moment.array() / exact.second_moment.array()).mean()});
  }
  return out;
}

}  // namespace pipecast::kernels
