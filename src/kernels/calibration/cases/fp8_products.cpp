/// FP8 products, single and of experts: src/kernels/gemm/fp8_gemm.hpp.
#include "base/registry.hpp"
#include "kernels/calibration/cases/operands.hpp"
#include "kernels/calibration/timed_case.hpp"
#include "kernels/gemm/fp8_gemm.hpp"

namespace pipecast::kernels {

namespace {

constexpr std::int64_t kBlock = 128;  // of K, and columns of B, that share a scale

std::int64_t blocks(std::int64_t extent) { return (extent + kBlock - 1) / kBlock; }

/// Operands and result of one product per group, whose rows follow one another.
struct Fp8Operands {
  std::int64_t m = 0;  ///< of all groups
  std::int64_t n = 0;
  std::int64_t k = 0;
  std::int64_t groups = 1;
  std::shared_ptr<Buffer<E4m3>> a{};
  std::shared_ptr<Buffer<E4m3>> b{};
  std::shared_ptr<Buffer<float>> a_scale{};
  std::shared_ptr<Buffer<float>> b_scale{};
  std::shared_ptr<Buffer<Bf16>> d{};

  /// The product of one element in FP64.
  [[nodiscard]] double expected(std::int64_t row, std::int64_t column) const {
    const auto at = [](std::int64_t index) { return static_cast<std::size_t>(index); };
    const auto number = [](float x) { return static_cast<double>(x); };
    const std::int64_t group = row / (m / groups);
    const std::int64_t b_row = group * n + column;
    const std::int64_t b_tile = group * blocks(n) + column / kBlock;
    double sum = 0;
    for (std::int64_t x = 0; x < k; ++x) {
      sum += number(to_float((*a)[at(row * k + x)])) * number(to_float((*b)[at(b_row * k + x)])) *
             number((*a_scale)[at(x / kBlock * m + row)]) *
             number((*b_scale)[at(b_tile * blocks(k) + x / kBlock)]);
    }
    return sum;
  }

  [[nodiscard]] double error() const {
    WorstError worst;
    for (const std::int64_t element : sampled(m * n)) {
      worst.add(static_cast<double>(to_float((*d)[static_cast<std::size_t>(element)])),
                expected(element / n, element % n));
    }
    return worst.value();
  }
};

/// Accumulation with 14 bits over 128 products, and BF16's 2^-9 of values up to 5 deviations.
constexpr double kTolerance = 0.02;

/// Nothing for what our kernels are not: other tiles, casts or accumulators.
std::optional<Fp8Operands> operands_of(const CaseOptions& options) {
  Fp8Operands out{.m = options.at("m"),
                  .n = options.at("n"),
                  .k = options.at("k"),
                  .groups = options.at("groups")};
  constexpr std::int64_t kStep = 16;  // of columns and depth
  const bool ours = options.at("promotion") == 1 && options.at("full-accumulation") == 0 &&
                    options.at("native-scaling") == 0 && options.at("cast") == 0 &&
                    options.at("masked") == 0;
  const std::int64_t columns = options.at("block-n");
  if (!ours || out.n % kStep != 0 || out.k % kStep != 0 || (columns != 0 && columns != kBlock)) {
    return std::nullopt;
  }
  constexpr double kDeviation = 100;  // of codes, which reach 448
  const auto scale = [](float drawn) { return 0.01F * (1.0F + std::abs(drawn)); };
  out.a = normal_operand<E4m3>(out.m * out.k, "A", kDeviation, to_e4m3);
  out.b = normal_operand<E4m3>(out.groups * out.n * out.k, "B", kDeviation, to_e4m3);
  out.a_scale = normal_operand<float>(blocks(out.k) * out.m, "scales of A", 1, scale);
  out.b_scale =
      normal_operand<float>(out.groups * blocks(out.n) * blocks(out.k), "scales of B", 1, scale);
  out.d = std::make_shared<Buffer<Bf16>>(static_cast<std::size_t>(out.m * out.n));
  return out;
}

std::optional<TimedCase> single(const CaseOptions& options, int sms) {
  const auto block_m = static_cast<int>(options.at("block-m"));
  const bool offered = block_m == 0 || block_m == 64 || block_m == kBlock;
  if (options.at("groups") != 1 || !offered) return std::nullopt;
  const std::optional<Fp8Operands> found = operands_of(options);
  if (!found) return std::nullopt;
  const Fp8Operands& o = *found;
  return TimedCase{.run =
                       [o, sms, block_m] {
                         gemm_fp8({o.a->data(), o.b->data(), o.a_scale->data(), o.b_scale->data(),
                                   o.d->data(), static_cast<int>(o.m), static_cast<int>(o.n),
                                   static_cast<int>(o.k), sms, block_m});
                       },
                   .error = [o] { return o.error(); },
                   .tolerance = kTolerance};
}

std::optional<TimedCase> of_experts(const CaseOptions& options, int sms) {
  const std::int64_t groups = options.at("groups");
  const std::int64_t m = options.at("m");
  const std::int64_t block_m = options.at("block-m");
  // The kernel's rows of an expert are whole blocks.
  const bool whole = groups > 0 && m % (groups * kBlock) == 0;
  if (!whole || (block_m != 0 && block_m != kBlock)) return std::nullopt;
  const std::optional<Fp8Operands> found = operands_of(options);
  if (!found) return std::nullopt;
  const Fp8Operands& o = *found;
  const std::int64_t blocks_of_group = m / groups / kBlock;
  const auto expert = std::make_shared<Buffer<int>>(static_cast<std::size_t>(m / kBlock));
  for (std::size_t i = 0; i < expert->size(); ++i) {
    (*expert)[i] = static_cast<int>(static_cast<std::int64_t>(i) / blocks_of_group);
  }
  return TimedCase{
      .run =
          [o, expert, sms] {
            grouped_gemm_fp8(ContiguousFp8Gemm{o.a->data(), o.b->data(), o.a_scale->data(),
                                               o.b_scale->data(), expert->data(), o.d->data(),
                                               static_cast<int>(o.groups), static_cast<int>(o.m),
                                               static_cast<int>(o.n), static_cast<int>(o.k), sms});
          },
      .error = [o] { return o.error(); },
      .tolerance = kTolerance};
}

const Register<CaseMaker> kEntries[] = {{"gemm_fp8", {single}}, {"grouped_gemm_fp8", {of_experts}}};

}  // namespace

}  // namespace pipecast::kernels
