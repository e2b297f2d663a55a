/// Casts to and from FP8 and E5M6, and transpositions: src/kernels/quantise/.
#include "base/registry.hpp"
#include "kernels/calibration/cases/operands.hpp"
#include "kernels/calibration/timed_case.hpp"
#include "kernels/quantise/cast_e5m6.hpp"
#include "kernels/quantise/cast_fp8.hpp"
#include "kernels/quantise/cast_transpose_fp8.hpp"
#include "kernels/quantise/transpose_fp8.hpp"

namespace pipecast::kernels {

namespace {

constexpr std::int64_t kTile = 128;  // elements that share a scale
constexpr std::int64_t kStep = 8;    // elements of a 16-byte access

std::int64_t tiles(std::int64_t extent) { return (extent + kTile - 1) / kTile; }

struct Extents {
  std::int64_t rows = 0;
  std::int64_t columns = 0;
  [[nodiscard]] int r() const { return static_cast<int>(rows); }
  [[nodiscard]] int c() const { return static_cast<int>(columns); }
  [[nodiscard]] std::int64_t elements() const { return rows * columns; }
};

std::optional<Extents> extents_of(const CaseOptions& options) {
  const Extents out{options.at("rows"), options.at("columns")};
  if (out.rows <= 0 || out.columns <= 0 || out.columns % kStep != 0) return std::nullopt;
  return out;
}

/// How far a number in a format of `mantissa` bits may be from what it stands for, at `scale`.
double half_step(double value, double scale, int mantissa, double smallest_step) {
  return std::max(std::abs(value) * std::ldexp(1, -mantissa - 1), scale * smallest_step / 2);
}

constexpr int kE4m3Mantissa = 3;
constexpr double kE4m3Smallest = 0x1p-9;  // step of its subnormal numbers
constexpr int kE5m6Mantissa = 6;
constexpr double kE5m6Smallest = 0x1p-20;
/// Rounding, in half steps; the FP32 scale adds a little.
constexpr double kWithinRounding = 1.001;
constexpr double kExact = 0;

/// Largest magnitude over the elements i * stride, i = 0 .. count - 1, from `first`.
double largest(const Buffer<Bf16>& source, std::int64_t first, std::int64_t count,
               std::int64_t stride) {
  double out = 0;
  for (std::int64_t i = 0; i < count; ++i) {
    out = std::max(out, std::abs(number(source[at(first + i * stride)])));
  }
  return out;
}

constexpr double kLargestCode = 448;  // of E4M3

/// In half steps: of a code and of the scale that its tile should have.
double cast_error(double code, double scale, double value, double tile_largest, bool power_of_two) {
  double expected = tile_largest / kLargestCode;
  if (power_of_two) expected = std::exp2(std::ceil(std::log2(expected)));
  constexpr double kScaleError = 1e-6;
  if (!(std::abs(scale / expected - 1) < kScaleError)) return HUGE_VAL;
  return std::abs(code * scale - value) / half_step(value, scale, kE4m3Mantissa, kE4m3Smallest);
}

std::optional<TimedCase> rows_to_fp8(const CaseOptions& options, int sms) {
  const std::optional<Extents> found = extents_of(options);
  if (!found) return std::nullopt;
  const Extents e = *found;
  const bool power_of_two = options.at("power_of_two") == 1;
  const auto source = bf16_operand(e.elements(), "activations");
  const auto codes = result_of<E4m3>(e.elements());
  const auto scales = result_of<float>(e.rows * tiles(e.columns));
  const auto run = [=] {
    cast_fp8_1x128({source->data(), codes->data(), scales->data(), e.r(), e.c(), ScaleOrder::kByRow,
                    power_of_two, sms});
  };
  const auto error = [=] {
    double worst = 0;
    for (const std::int64_t element : sampled(e.elements())) {
      const std::int64_t row = element / e.columns;
      const std::int64_t tile = element % e.columns / kTile;
      const std::int64_t first = row * e.columns + tile * kTile;
      const double top = largest(*source, first, std::min(kTile, e.columns - tile * kTile), 1);
      worst = worse(worst, cast_error(number((*codes)[at(element)]),
                                      number((*scales)[at(row * tiles(e.columns) + tile)]),
                                      number((*source)[at(element)]), top, power_of_two));
    }
    return worst;
  };
  return TimedCase{.run = run, .error = error, .tolerance = kWithinRounding};
}

/// Codes and scales to read back.
struct Scaled {
  std::shared_ptr<Buffer<E4m3>> codes{};
  std::shared_ptr<Buffer<float>> scales{};
};
Scaled scaled_operand(std::int64_t elements, std::int64_t scale_count) {
  constexpr double kDeviation = 100;  // of codes, which reach 448
  return {normal_operand<E4m3>(elements, "codes", kDeviation, to_e4m3),
          normal_operand<float>(scale_count, "scales", 1,
                                [](float drawn) { return 0.01F * (1.0F + std::abs(drawn)); })};
}

std::optional<TimedCase> rows_from_fp8(const CaseOptions& options, int sms) {
  const std::optional<Extents> found = extents_of(options);
  if (!found) return std::nullopt;
  const Extents e = *found;
  const Scaled source = scaled_operand(e.elements(), e.rows * tiles(e.columns));
  const auto result = result_of<Bf16>(e.elements());
  const auto run = [=] {
    uncast_fp8({source.codes->data(), source.scales->data(), result->data(), e.r(), e.c(),
                ScaleOrder::kByRow, sms});
  };
  const auto error = [=] {
    double worst = 0;
    for (const std::int64_t element : sampled(e.elements())) {
      const std::int64_t row = element / e.columns;
      const std::int64_t tile = element % e.columns / kTile;
      const double expected = number((*source.codes)[at(element)]) *
                              number((*source.scales)[at(row * tiles(e.columns) + tile)]);
      constexpr int kBf16Mantissa = 7;
      const double off = std::abs(number((*result)[at(element)]) - expected);
      worst = worse(worst, off == 0 ? 0 : off / half_step(expected, 0, kBf16Mantissa, 0));
    }
    return worst;
  };
  return TimedCase{.run = run, .error = error, .tolerance = kWithinRounding};
}

/// Weights are a number of elements: rows of the largest power of two up to 4,096 that divides it.
std::optional<TimedCase> blocks_to_fp8(const CaseOptions& options, int sms) {
  const std::int64_t elements = options.at("elements");
  std::int64_t columns = 4096;
  while (columns > kTile && elements % columns != 0) columns /= 2;
  if (elements <= 0 || elements % columns != 0) return std::nullopt;
  const Extents e{elements / columns, columns};
  const auto source = bf16_operand(elements, "weights");
  const auto codes = result_of<E4m3>(elements);
  const auto scales = result_of<float>(tiles(e.rows) * tiles(e.columns));
  const auto run = [=] {
    cast_fp8_128x128({source->data(), codes->data(), scales->data(), e.r(), e.c(), sms});
  };
  const auto error = [=] {
    double worst = 0;
    constexpr std::int64_t kChecked = 16;  // each reads a whole block
    for (const std::int64_t element : sampled(elements, kChecked)) {
      const std::int64_t top_row = element / e.columns / kTile * kTile;
      const std::int64_t left = element % e.columns / kTile * kTile;
      double top = 0;
      for (std::int64_t row = top_row; row < std::min(top_row + kTile, e.rows); ++row) {
        top = std::max(
            top, largest(*source, row * e.columns + left, std::min(kTile, e.columns - left), 1));
      }
      const std::int64_t block = top_row / kTile * tiles(e.columns) + left / kTile;
      worst = worse(worst, cast_error(number((*codes)[at(element)]), number((*scales)[at(block)]),
                                      number((*source)[at(element)]), top, false));
    }
    return worst;
  };
  return TimedCase{.run = run, .error = error, .tolerance = kWithinRounding};
}

std::optional<TimedCase> columns_to_fp8(const CaseOptions& options, int sms) {
  const std::optional<Extents> found = extents_of(options);
  if (!found) return std::nullopt;
  const Extents e = *found;
  const std::int64_t padded = padded_tokens(e.r());
  const auto source = bf16_operand(e.elements(), "activations");
  const auto codes = result_of<E4m3>(e.columns * padded);
  const auto scales = result_of<float>(padded / kTile * e.columns);
  const auto run = [=] {
    CastTransposeFp8 problem{};
    problem.source = source->data();
    problem.transposed = codes->data();
    problem.new_scales = scales->data();
    problem.rows = e.r();
    problem.columns = e.c();
    problem.sms = sms;
    cast_transpose_fp8_128x1(problem);
  };
  const auto error = [=] {
    double worst = 0;
    for (const std::int64_t element : sampled(e.elements())) {
      const std::int64_t row = element / e.columns;
      const std::int64_t column = element % e.columns;
      const std::int64_t tile = row / kTile;
      const double top = largest(*source, tile * kTile * e.columns + column,
                                 std::min(kTile, e.rows - tile * kTile), e.columns);
      worst = worse(worst, cast_error(number((*codes)[at(column * padded + row)]),
                                      number((*scales)[at(tile * e.columns + column)]),
                                      number((*source)[at(element)]), top, false));
    }
    return worst;
  };
  return TimedCase{.run = run, .error = error, .tolerance = kWithinRounding};
}

/// A code among packed ones: three bytes hold two.
E5m6 packed_code(const Buffer<std::uint8_t>& packed, std::int64_t element) {
  const std::int64_t first = element / 2 * 3;
  const auto byte = [&](std::int64_t i) { return static_cast<unsigned>(packed[at(first + i)]); };
  const unsigned word = byte(0) | byte(1) << 8 | byte(2) << 16;
  return E5m6{static_cast<std::uint16_t>(element % 2 == 0 ? word & 0xfffU : word >> 12)};
}

std::optional<TimedCase> to_packed_e5m6(const CaseOptions& options, int sms) {
  const std::optional<Extents> found = extents_of(options);
  if (!found) return std::nullopt;
  const Extents e = *found;
  const auto source = bf16_operand(e.elements(), "attention output");
  const auto packed = result_of<std::uint8_t>(e.elements() / 2 * 3);
  const auto run = [=] { cast_e5m6({source->data(), packed->data(), e.r(), e.c(), sms}); };
  const auto error = [=] {
    double worst = 0;
    for (const std::int64_t element : sampled(e.elements())) {
      const double expected = number((*source)[at(element)]);
      const double off = std::abs(number(to_float(packed_code(*packed, element))) - expected);
      worst = worse(worst, off / half_step(expected, 1, kE5m6Mantissa, kE5m6Smallest));
    }
    return worst;
  };
  return TimedCase{.run = run, .error = error, .tolerance = kWithinRounding};
}

std::optional<TimedCase> from_packed_e5m6(const CaseOptions& options, int sms) {
  const std::optional<Extents> found = extents_of(options);
  if (!found) return std::nullopt;
  const Extents e = *found;
  // Random bits, but for infinities and NaN: no exponent of all ones.
  const auto packed =
      normal_operand<std::uint8_t>(e.elements() / 2 * 3, "packed", 1, [](float drawn) {
        return static_cast<std::uint8_t>(static_cast<int>(std::abs(drawn) * 1000.0F) & 0xbb);
      });
  const auto result = result_of<Bf16>(e.elements());
  const auto run = [=] { uncast_e5m6({packed->data(), result->data(), e.r(), e.c(), sms}); };
  const auto error = [=] {
    double worst = 0;
    for (const std::int64_t element : sampled(e.elements())) {
      worst = worse(worst, std::abs(number((*result)[at(element)]) -
                                    number(to_float(packed_code(*packed, element)))));
    }
    return worst;
  };
  return TimedCase{.run = run, .error = error, .tolerance = kExact};  // BF16 holds every code
}

/// Of moved things: how many are not what they were.
template <class Moved>
double misplaced(std::int64_t rows, std::int64_t columns, const Buffer<Moved>& from,
                 const Buffer<Moved>& to) {
  double wrong = 0;
  for (const std::int64_t element : sampled(rows * columns)) {
    const std::int64_t target = element % columns * rows + element / columns;
    if (number(from[at(element)]) != number(to[at(target)])) ++wrong;
  }
  return wrong;
}

std::optional<TimedCase> transposed_weights(const CaseOptions& options, int sms) {
  const std::optional<Extents> found = extents_of(options);
  constexpr std::int64_t kCodes = 16;  // of a 16-byte access
  if (!found || found->rows % kCodes != 0 || found->columns % kCodes != 0) return std::nullopt;
  const Extents e = *found;
  const Scaled source = scaled_operand(e.elements(), tiles(e.rows) * tiles(e.columns));
  const auto codes = result_of<E4m3>(e.elements());
  const auto scales = result_of<float>(tiles(e.rows) * tiles(e.columns));
  const auto run = [=] {
    transpose_fp8({source.codes->data(), source.scales->data(), codes->data(), scales->data(),
                   e.r(), e.c(), sms});
  };
  const auto error = [=] {
    return misplaced(e.rows, e.columns, *source.codes, *codes) +
           misplaced(tiles(e.rows), tiles(e.columns), *source.scales, *scales);
  };
  return TimedCase{.run = run, .error = error, .tolerance = kExact};
}

std::optional<TimedCase> transposed_scales(const CaseOptions& options, int sms) {
  const std::int64_t rows = options.at("rows");
  const std::int64_t count = tiles(options.at("columns"));
  if (rows <= 0 || count <= 0) return std::nullopt;
  const auto source = scaled_operand(1, rows * count).scales;
  const auto result = result_of<float>(rows * count);
  const auto run = [=] {
    transpose_scales(
        {source->data(), result->data(), static_cast<int>(rows), static_cast<int>(count), sms});
  };
  return TimedCase{.run = run,
                   .error = [=] { return misplaced(rows, count, *source, *result); },
                   .tolerance = kExact};
}

const Register<CaseMaker> kEntries[] = {
    {"cast_e5m6", {to_packed_e5m6}},         {"cast_fp8_128x128", {blocks_to_fp8}},
    {"cast_fp8_1x128", {rows_to_fp8}},       {"cast_transpose_fp8_128x1", {columns_to_fp8}},
    {"transpose_fp8", {transposed_weights}}, {"transpose_scales", {transposed_scales}},
    {"uncast_e5m6", {from_packed_e5m6}},     {"uncast_fp8", {rows_from_fp8}},
};

}  // namespace

}  // namespace pipecast::kernels
