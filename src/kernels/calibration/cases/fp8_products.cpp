/// FP8 products, single, of experts and for weight gradients: src/kernels/gemm/fp8_*.hpp.
#include "base/registry.hpp"
#include "kernels/calibration/cases/operands.hpp"
#include "kernels/calibration/timed_case.hpp"
#include "kernels/gemm/fp8_gemm.hpp"
#include "kernels/gemm/fp8_wgrad_gemm.hpp"

namespace pipecast::kernels {

namespace {

constexpr std::int64_t kBlock = 128;  // of K, and columns of B, that share a scale
constexpr std::int64_t kStep = 16;    // codes of a 16-byte access

std::int64_t blocks(std::int64_t extent) { return (extent + kBlock - 1) / kBlock; }

std::shared_ptr<Buffer<E4m3>> codes(std::int64_t count, const char* name) {
  constexpr double kDeviation = 100;  // of codes, which reach 448
  return normal_operand<E4m3>(count, name, kDeviation, to_e4m3);
}
std::shared_ptr<Buffer<float>> scales(std::int64_t count, const char* name) {
  const auto scale = [](float drawn) { return 0.01F * (1.0F + std::abs(drawn)); };
  return normal_operand<float>(count, name, 1, scale);
}

/// Our kernels have Hopper's accumulators, promotion, one width of tiles, and cast nothing.
bool ours(const CaseOptions& options) {
  const std::int64_t columns = options.at("block-n");
  return options.at("promotion") == 1 && options.at("full-accumulation") == 0 &&
         options.at("native-scaling") == 0 && options.at("cast") == 0 &&
         options.at("masked") == 0 && (columns == 0 || columns == kBlock);
}

/// Accumulation with 14 bits over 128 products, and BF16's 2^-9 of values up to 5 deviations.
constexpr double kTolerance = 0.02;

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
    const std::int64_t group = row / (m / groups);
    const std::int64_t b_row = group * n + column;
    const std::int64_t b_tile = group * blocks(n) + column / kBlock;
    double sum = 0;
    for (std::int64_t x = 0; x < k; ++x) {
      sum += number((*a)[at(row * k + x)]) * number((*b)[at(b_row * k + x)]) *
             number((*a_scale)[at(x / kBlock * m + row)]) *
             number((*b_scale)[at(b_tile * blocks(k) + x / kBlock)]);
    }
    return sum;
  }

  [[nodiscard]] double error() const {
    WorstError worst;
    for (const std::int64_t element : sampled(m * n)) {
      worst.add(number((*d)[at(element)]), expected(element / n, element % n));
    }
    return worst.value();
  }
};

/// Nothing for what our kernels are not.
std::optional<Fp8Operands> operands_of(const CaseOptions& options) {
  Fp8Operands out{.m = options.at("m"),
                  .n = options.at("n"),
                  .k = options.at("k"),
                  .groups = options.at("groups")};
  if (!ours(options) || out.n % kStep != 0 || out.k % kStep != 0) return std::nullopt;
  out.a = codes(out.m * out.k, "A");
  out.b = codes(out.groups * out.n * out.k, "B");
  out.a_scale = scales(blocks(out.k) * out.m, "scales of A");
  out.b_scale = scales(out.groups * blocks(out.n) * blocks(out.k), "scales of B");
  out.d = result_of<Bf16>(out.m * out.n);
  return out;
}

std::optional<TimedCase> single(const CaseOptions& options, int sms) {
  const auto block_m = static_cast<int>(options.at("block-m"));
  const bool offered = block_m == 0 || block_m == 64 || block_m == kBlock;
  if (options.at("groups") != 1 || !offered) return std::nullopt;
  const std::optional<Fp8Operands> found = operands_of(options);
  if (!found) return std::nullopt;
  const Fp8Operands o = *found;
  const auto run = [=] {
    gemm_fp8({o.a->data(), o.b->data(), o.a_scale->data(), o.b_scale->data(), o.d->data(),
              static_cast<int>(o.m), static_cast<int>(o.n), static_cast<int>(o.k), sms, block_m});
  };
  return TimedCase{.run = run, .error = [=] { return o.error(); }, .tolerance = kTolerance};
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
  const Fp8Operands o = *found;
  const auto offsets = result_of<int>(groups + 1);
  for (std::int64_t i = 0; i <= groups; ++i) (*offsets)[at(i)] = static_cast<int>(i * (m / groups));
  const auto run = [=] {
    grouped_gemm_fp8(ContiguousFp8Gemm{o.a->data(), o.b->data(), o.a_scale->data(),
                                       o.b_scale->data(), offsets->data(), o.d->data(),
                                       static_cast<int>(o.groups), static_cast<int>(o.m),
                                       static_cast<int>(o.n), static_cast<int>(o.k), sms});
  };
  return TimedCase{.run = run, .error = [=] { return o.error(); }, .tolerance = kTolerance};
}

/// Adds to D: a check begins with an empty one, whatever ran before.
std::optional<TimedCase> weight_gradient(const CaseOptions& options, int sms) {
  const std::int64_t m = options.at("m");
  const std::int64_t n = options.at("n");
  const std::int64_t k = options.at("k");
  constexpr std::int64_t kResultStep = 4;
  const bool fits = k % kStep == 0 && m % kResultStep == 0 && n % kResultStep == 0;
  if (!ours(options) || options.at("groups") != 1 || !fits) return std::nullopt;
  const auto a = codes(m * k, "gradients");
  const auto b = codes(n * k, "inputs");
  const auto a_scale = scales(blocks(k) * m, "scales of gradients");
  const auto b_scale = scales(blocks(k) * n, "scales of inputs");
  const auto d = result_of<float>(m * n);
  const auto run = [=] {
    gemm_fp8_wgrad({a->data(), b->data(), a_scale->data(), b_scale->data(), d->data(),
                    static_cast<int>(m), static_cast<int>(n), static_cast<int>(k), sms});
  };
  const auto error = [=] {
    std::fill(d->begin(), d->end(), 0.0F);
    run();
    synchronise();
    WorstError worst;
    for (const std::int64_t element : sampled(m * n)) {
      const std::int64_t row = element / n;
      const std::int64_t column = element % n;
      double sum = 0;
      for (std::int64_t x = 0; x < k; ++x) {
        sum += number((*a)[at(row * k + x)]) * number((*b)[at(column * k + x)]) *
               number((*a_scale)[at(x / kBlock * m + row)]) *
               number((*b_scale)[at(x / kBlock * n + column)]);
      }
      worst.add(number((*d)[at(element)]), sum);
    }
    return worst.value();
  };
  return TimedCase{.run = run, .error = error, .tolerance = kTolerance};
}

const Register<CaseMaker> kEntries[] = {{"gemm_fp8", {single}},
                                        {"gemm_fp8_wgrad", {weight_gradient}},
                                        {"grouped_gemm_fp8", {of_experts}}};

}  // namespace

}  // namespace pipecast::kernels
