/// SwiGLU, rotary embedding and pointwise work: src/kernels/activation/.
#include <vector>

#include "base/registry.hpp"
#include "kernels/activation/elementwise.hpp"
#include "kernels/activation/rope.hpp"
#include "kernels/activation/swiglu.hpp"
#include "kernels/calibration/cases/operands.hpp"
#include "kernels/calibration/timed_case.hpp"
#include "kernels/quantise/cast_transpose_fp8.hpp"

namespace pipecast::kernels {

namespace {

constexpr std::int64_t kStep = 8;    // elements of a 16-byte access
constexpr std::int64_t kTile = 128;  // elements that share a scale
/// BF16's 2^-9 of products of normal values, up to 20 deviations.
constexpr double kTolerance = 0.04;
/// Of fp8_error().
constexpr double kFp8Tolerance = 1;

std::int64_t tiles(std::int64_t extent) { return (extent + kTile - 1) / kTile; }

struct Extents {
  std::int64_t rows = 0;
  std::int64_t columns = 0;  ///< of SwiGLU: its width
  [[nodiscard]] int r() const { return static_cast<int>(rows); }
  [[nodiscard]] int c() const { return static_cast<int>(columns); }
  [[nodiscard]] std::int64_t elements() const { return rows * columns; }
};

std::optional<Extents> extents_of(const CaseOptions& options) {
  const Extents out{options.at("rows"), options.at("columns")};
  if (out.rows <= 0 || out.columns <= 0 || out.columns % kStep != 0) return std::nullopt;
  return out;
}

/// Gate and up projection of one output element.
struct GatePair {
  double gate = 0;
  double up = 0;

  [[nodiscard]] double sigmoid() const { return 1 / (1 + std::exp(-gate)); }
  [[nodiscard]] double output() const { return gate * sigmoid() * up; }
  [[nodiscard]] double gate_slope() const { return up * sigmoid() * (1 + gate * (1 - sigmoid())); }
  [[nodiscard]] double up_slope() const { return gate * sigmoid(); }
};

/// Inputs kept in BF16.
struct GateUp {
  Extents e{};
  std::shared_ptr<Buffer<Bf16>> values{};
  [[nodiscard]] GatePair at_element(std::int64_t element) const {
    const std::int64_t first = element / e.columns * 2 * e.columns + element % e.columns;
    return {number((*values)[at(first)]), number((*values)[at(first + e.columns)])};
  }
  [[nodiscard]] GateAndUp kept() const { return {values->data(), nullptr, nullptr, {}}; }
};
GateUp gate_up_of(const Extents& e) { return {e, bf16_operand(2 * e.elements(), "gate and up")}; }

std::optional<TimedCase> swiglu(const CaseOptions& options, int sms) {
  const std::optional<Extents> found = extents_of(options);
  if (!found) return std::nullopt;
  const GateUp x = gate_up_of(*found);
  const auto y = result_of<Bf16>(x.e.elements());
  const auto run = [=] { swiglu_fwd({x.values->data(), y->data(), x.e.r(), x.e.c(), sms}); };
  const auto error = [=] {
    WorstError worst;
    for (const std::int64_t element : sampled(x.e.elements())) {
      worst.add(number((*y)[at(element)]), x.at_element(element).output());
    }
    return worst.value();
  };
  return TimedCase{.run = run, .error = error, .tolerance = kTolerance};
}

std::optional<TimedCase> swiglu_cast(const CaseOptions& options, int sms) {
  const std::optional<Extents> found = extents_of(options);
  if (!found) return std::nullopt;
  const GateUp x = gate_up_of(*found);
  const auto codes = result_of<E4m3>(x.e.elements());
  const auto scales = result_of<float>(x.e.rows * tiles(x.e.columns));
  const auto run = [=] {
    swiglu_fwd_and_cast_fp8({x.values->data(), codes->data(), scales->data(), ScaleOrder::kByRow,
                             x.e.r(), x.e.c(), sms});
  };
  const auto error = [=] {
    double worst = 0;
    for (const std::int64_t element : sampled(x.e.elements())) {
      const std::int64_t tile = element % x.e.columns / kTile;
      const std::int64_t row = element / x.e.columns;
      const double scale = number((*scales)[at(row * tiles(x.e.columns) + tile)]);
      worst = worse(worst, fp8_error(number((*codes)[at(element)]) * scale,
                                     x.at_element(element).output(), scale));
    }
    return worst;
  };
  return TimedCase{.run = run, .error = error, .tolerance = kFp8Tolerance};
}

/// Inputs kept in FP8, as the plan keeps them by default.
std::optional<TimedCase> swiglu_again(const CaseOptions& options, int sms) {
  const std::optional<Extents> found = extents_of(options);
  if (!found) return std::nullopt;
  const Extents e = *found;
  const std::int64_t kept_tiles = tiles(2 * e.columns);
  constexpr double kDeviation = 100;
  const auto codes = normal_operand<E4m3>(2 * e.elements(), "gate and up", kDeviation, to_e4m3);
  const auto scales = result_of<float>(e.rows * kept_tiles);
  std::fill(scales->begin(), scales->end(), 0.01F);
  const std::int64_t padded = padded_tokens(e.r());
  const auto transposed = result_of<E4m3>(e.columns * padded);
  const auto new_scales = result_of<float>(padded / kTile * e.columns);
  const auto run = [=] {
    swiglu_recompute_and_cast_transpose(
        {.gate_up = {nullptr, codes->data(), scales->data(), ScaleOrder::kByRow},
         .transposed = transposed->data(),
         .new_scales = new_scales->data(),
         .rows = e.r(),
         .width = e.c(),
         .sms = sms});
  };
  const auto error = [=] {
    double worst = 0;
    for (const std::int64_t element : sampled(e.elements())) {
      const std::int64_t row = element / e.columns;
      const std::int64_t column = element % e.columns;
      const std::int64_t first = row * 2 * e.columns + column;
      const double scale = number((*scales)[0]);
      const GatePair pair{number((*codes)[at(first)]) * scale,
                          number((*codes)[at(first + e.columns)]) * scale};
      const double new_scale = number((*new_scales)[at(row / kTile * e.columns + column)]);
      const double code = number((*transposed)[at(column * padded + row)]);
      worst = worse(worst, fp8_error(code * new_scale, pair.output(), new_scale));
    }
    return worst;
  };
  return TimedCase{.run = run, .error = error, .tolerance = kFp8Tolerance};
}

/// Of sampled elements of both gradients, the routing weight being 1.
double gradient_error(const GateUp& x, const Buffer<Bf16>& dy, const Buffer<Bf16>& dx) {
  WorstError worst;
  for (const std::int64_t element : sampled(x.e.elements())) {
    const GatePair pair = x.at_element(element);
    const std::int64_t first = element / x.e.columns * 2 * x.e.columns + element % x.e.columns;
    const double pull = number(dy[at(element)]);
    worst.add(number(dx[at(first)]), pull * pair.gate_slope());
    worst.add(number(dx[at(first + x.e.columns)]), pull * pair.up_slope());
  }
  return worst.value();
}

template <class Launch>
std::optional<TimedCase> gradient(const CaseOptions& options, int sms, const Launch& launch) {
  const std::optional<Extents> found = extents_of(options);
  if (!found) return std::nullopt;
  const GateUp x = gate_up_of(*found);
  const auto dy = bf16_operand(x.e.elements(), "output gradient");
  const auto dx = result_of<Bf16>(2 * x.e.elements());
  const auto run = [=] {
    launch(SwigluBackward{x.kept(), dy->data(), dx->data(), x.e.r(), x.e.c(), sms});
  };
  return TimedCase{
      .run = run, .error = [=] { return gradient_error(x, *dy, *dx); }, .tolerance = kTolerance};
}

std::optional<TimedCase> routed_gradient(const CaseOptions& options, int sms) {
  return gradient(options, sms, swiglu_bwd);
}
std::optional<TimedCase> shared_gradient(const CaseOptions& options, int sms) {
  return gradient(options, sms, swiglu_bwd_shared);
}

std::optional<TimedCase> forward_and_gradient(const CaseOptions& options, int sms) {
  const std::optional<Extents> found = extents_of(options);
  if (!found) return std::nullopt;
  const GateUp x = gate_up_of(*found);
  const auto dy = bf16_operand(x.e.elements(), "output gradient");
  const auto y = result_of<Bf16>(x.e.elements());
  const auto dx = result_of<Bf16>(2 * x.e.elements());
  const auto run = [=] {
    swiglu_fwd_bwd_routed({.gate_up = x.values->data(),
                           .output_gradient = dy->data(),
                           .row_weight = nullptr,
                           .output = y->data(),
                           .gate_up_gradient = dx->data(),
                           .rows = x.e.r(),
                           .width = x.e.c(),
                           .sms = sms});
  };
  const auto error = [=] {
    WorstError worst;
    for (const std::int64_t element : sampled(x.e.elements())) {
      worst.add(number((*y)[at(element)]), x.at_element(element).output());
    }
    return worse(worst.value(), gradient_error(x, *dy, *dx));
  };
  return TimedCase{.run = run, .error = error, .tolerance = kTolerance};
}

std::optional<TimedCase> weight_gradient(const CaseOptions& options, int sms) {
  const std::optional<Extents> found = extents_of(options);
  const std::int64_t choices = options.at("choices");
  if (!found || choices < found->rows) return std::nullopt;
  const Extents e = *found;
  const auto y = bf16_operand(e.elements(), "output");
  const auto dy = bf16_operand(e.elements(), "output gradient");
  const auto choice_of_row = result_of<int>(e.rows);
  for (std::int64_t row = 0; row < e.rows; ++row) {
    (*choice_of_row)[at(row)] = static_cast<int>(choices - 1 - row);
  }
  const auto gradients = result_of<float>(choices);
  const auto run = [=] {
    swiglu_weight_bwd(
        {y->data(), dy->data(), choice_of_row->data(), gradients->data(), e.r(), e.c(), sms});
  };
  const auto error = [=] {
    WorstError worst;
    for (const std::int64_t row : sampled(e.rows)) {
      double sum = 0;
      for (std::int64_t c = 0; c < e.columns; ++c) {
        sum += number((*y)[at(row * e.columns + c)]) * number((*dy)[at(row * e.columns + c)]);
      }
      worst.add(number((*gradients)[at(choices - 1 - row)]), sum);
    }
    return worst.value();
  };
  constexpr double kFp32Sums = 1e-4;
  return TimedCase{.run = run, .error = error, .tolerance = kFp32Sums};
}

constexpr std::int64_t kRotary = 64;  // width of a head's rotary part
constexpr int kPositions = 4096;      // of the table, which rows use in turn

/// Works in place: a check begins with the same elements.
std::optional<TimedCase> rotation(const CaseOptions& options, int sms) {
  const std::optional<Extents> found = extents_of(options);
  if (!found || found->columns % kRotary != 0) return std::nullopt;
  const Extents e = *found;
  const auto original = bf16_operand(e.elements(), "queries");
  const auto data = bf16_operand(e.elements(), "queries");
  const auto positions = result_of<int>(e.rows);
  for (std::int64_t row = 0; row < e.rows; ++row) {
    (*positions)[at(row)] = static_cast<int>(row % kPositions);
  }
  constexpr double kBase = 1e4;
  const auto table =
      std::make_shared<Buffer<float>>(rope_table(kPositions, static_cast<int>(kRotary), kBase));
  const auto run = [=] {
    rope({.data = data->data(),
          .positions = positions->data(),
          .table = table->data(),
          .table_positions = kPositions,
          .rows = e.r(),
          .heads = static_cast<int>(e.columns / kRotary),
          .width = static_cast<int>(kRotary),
          .row_stride = e.columns,
          .head_stride = kRotary,
          .backward = false,
          .sms = sms});
  };
  const auto error = [=] {
    std::copy(original->begin(), original->end(), data->begin());
    run();
    synchronise();
    WorstError worst;
    for (const std::int64_t element : sampled(e.elements())) {
      const std::int64_t pair = element % kRotary / 2;
      const double angle = static_cast<double>(element / e.columns % kPositions) *
                           std::pow(kBase, -2.0 * static_cast<double>(pair) / kRotary);
      const bool second = element % 2 == 1;
      const double own = number((*original)[at(element)]);
      const double other = number((*original)[at(second ? element - 1 : element + 1)]);
      worst.add(number((*data)[at(element)]),
                own * std::cos(angle) + (second ? 1 : -1) * other * std::sin(angle));
    }
    return worst.value();
  };
  return TimedCase{.run = run, .error = error, .tolerance = kTolerance};
}

/// Out of a tensor twice as wide.
std::optional<TimedCase> strided_copy(const CaseOptions& options, int sms) {
  const std::optional<Extents> found = extents_of(options);
  if (!found) return std::nullopt;
  const Extents e = *found;
  const auto source = bf16_operand(2 * e.elements(), "wide");
  const auto part = result_of<Bf16>(e.elements());
  const auto run = [=] {
    copy_strided(
        {source->data() + e.columns, part->data(), 2 * e.columns, e.columns, e.r(), e.c(), sms});
  };
  const auto error = [=] {
    double wrong = 0;
    for (const std::int64_t element : sampled(e.elements())) {
      const std::int64_t from =
          element / e.columns * 2 * e.columns + e.columns + element % e.columns;
      if (number((*part)[at(element)]) != number((*source)[at(from)])) ++wrong;
    }
    return wrong;
  };
  return TimedCase{.run = run, .error = error};
}

std::optional<TimedCase> addition(const Extents& e, int sms) {
  const auto a = bf16_operand(e.elements(), "residual");
  const auto b = bf16_operand(e.elements(), "branch");
  const auto sum = result_of<Bf16>(e.elements());
  const auto run = [=] { elementwise_add({a->data(), b->data(), sum->data(), e.r(), e.c(), sms}); };
  const auto error = [=] {
    WorstError worst;
    for (const std::int64_t element : sampled(e.elements())) {
      worst.add(number((*sum)[at(element)]), number((*a)[at(element)]) + number((*b)[at(element)]));
    }
    return worst.value();
  };
  return TimedCase{.run = run, .error = error, .tolerance = kTolerance};
}

std::optional<TimedCase> sigmoid(const Extents& e, int sms) {
  const auto source = normal_operand<float>(e.elements(), "scores", 1, [](float x) { return x; });
  const auto result = result_of<float>(e.elements());
  const auto run = [=] {
    elementwise_sigmoid({source->data(), result->data(), e.r(), e.c(), sms});
  };
  const auto error = [=] {
    WorstError worst;
    for (const std::int64_t element : sampled(e.elements())) {
      const double x = number((*source)[at(element)]);
      worst.add(number((*result)[at(element)]), 1 / (1 + std::exp(-x)));
    }
    return worst.value();
  };
  constexpr double kFp32 = 1e-5;
  return TimedCase{.run = run, .error = error, .tolerance = kFp32};
}

/// The residual's addition and the router's sigmoid; other pointwise work is smaller.
std::optional<TimedCase> pointwise(const CaseOptions& options, int sms) {
  const std::optional<Extents> found = extents_of(options);
  if (!found || options.at("tensors_written") != 1) return std::nullopt;
  const bool bf16 = options.at("element_bytes") == 2;
  if (bf16 && options.at("tensors_read") == 2) return addition(*found, sms);
  if (!bf16 && options.at("tensors_read") == 1) return sigmoid(*found, sms);
  return std::nullopt;
}

const Register<CaseMaker> kEntries[] = {
    {"copy_strided", {strided_copy}},
    {"elementwise", {pointwise}},
    {"rope", {rotation}},
    {"swiglu_bwd", {routed_gradient}},
    {"swiglu_bwd_shared", {shared_gradient}},
    {"swiglu_fwd", {swiglu}},
    {"swiglu_fwd_and_cast_fp8", {swiglu_cast}},
    {"swiglu_fwd_bwd_routed", {forward_and_gradient}},
    {"swiglu_recompute_and_cast_transpose", {swiglu_again}},
    {"swiglu_weight_bwd", {weight_gradient}},
};

}  // namespace

}  // namespace pipecast::kernels
