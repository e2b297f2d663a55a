/// AdamW and the norm of the gradients: src/kernels/optimizer/adamw.hpp.
#include "base/registry.hpp"
#include "kernels/calibration/cases/operands.hpp"
#include "kernels/calibration/timed_case.hpp"
#include "kernels/optimizer/adamw.hpp"

namespace pipecast::kernels {

namespace {

float as_drawn(float value) { return value; }

std::optional<TimedCase> norm(const CaseOptions& options, int sms) {
  const std::int64_t elements = options.at("elements");
  if (elements <= 0) return std::nullopt;
  const auto gradients = normal_operand<float>(elements, "gradients", 1, as_drawn);
  const auto sum = result_of<double>(1);
  const auto partial = result_of<double>(grad_norm_partials(sms));
  const auto run = [=] {
    grad_norm({gradients->data(), sum->data(), partial->data(), elements, sms});
  };
  const auto error = [=] {
    double expected = 0;
    for (const float gradient : *gradients) expected += number(gradient) * number(gradient);
    const double off = std::abs((*sum)[0] / expected - 1);
    return std::isnan(off) ? HUGE_VAL : off;
  };
  constexpr double kFp64Sums = 1e-9;
  return TimedCase{.run = run, .error = error, .tolerance = kFp64Sums};
}

/// Constants of DeepSeek-V3's training (arXiv 2412.19437, section 4.2).
constexpr double kRate = 2.2e-4;
constexpr double kBeta1 = 0.9;
constexpr double kBeta2 = 0.95;
constexpr double kEpsilon = 1e-8;
constexpr double kDecay = 0.1;

/// The state changes with every step; a check begins with the first.
std::optional<TimedCase> step(const CaseOptions& options, int sms) {
  const std::int64_t elements = options.at("elements");
  if (elements <= 0) return std::nullopt;
  const auto gradients = normal_operand<float>(elements, "gradients", 1, as_drawn);
  const auto weights = result_of<float>(elements);
  const auto first = result_of<Bf16>(elements);
  const auto second = result_of<Bf16>(elements);
  const auto parameters = result_of<Bf16>(elements);
  constexpr float kWeight = 0.5F;
  std::fill(weights->begin(), weights->end(), kWeight);
  std::fill(first->begin(), first->end(), Bf16{0});
  std::fill(second->begin(), second->end(), Bf16{0});
  const auto run = [=] {
    AdamW problem{};
    problem.gradients = gradients->data();
    problem.weights = weights->data();
    problem.first_moment = first->data();
    problem.second_moment = second->data();
    problem.parameters = parameters->data();
    problem.elements = elements;
    problem.step = 1;
    problem.learning_rate = static_cast<float>(kRate);
    problem.beta1 = static_cast<float>(kBeta1);
    problem.beta2 = static_cast<float>(kBeta2);
    problem.epsilon = static_cast<float>(kEpsilon);
    problem.weight_decay = static_cast<float>(kDecay);
    problem.sms = sms;
    adamw(problem);
  };
  const auto error = [=] {
    std::fill(weights->begin(), weights->end(), kWeight);
    std::fill(first->begin(), first->end(), Bf16{0});
    std::fill(second->begin(), second->end(), Bf16{0});
    run();
    synchronise();
    WorstError moved;  // the step that the weights take, over the rate
    for (const std::int64_t i : sampled(elements)) {
      const double g = number((*gradients)[at(i)]);
      // At the first step both moments are the gradient's, after their corrections.
      const double direction = g / (std::abs(g) + kEpsilon) + kDecay * number(kWeight);
      moved.add((number(kWeight) - number((*weights)[at(i)])) / kRate, direction);
    }
    return moved.value();
  };
  // FP32 weights of 0.5 resolve steps of 2e-4 to 2^-25 / 2.2e-4.
  constexpr double kTolerance = 1e-3;
  return TimedCase{.run = run, .error = error, .tolerance = kTolerance};
}

const Register<CaseMaker> kEntries[] = {{"adamw", {step}}, {"grad_norm", {norm}}};

}  // namespace

}  // namespace pipecast::kernels
