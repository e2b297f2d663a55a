#include <catch2/catch.hpp>

#include "kernels/numerics/moments.hpp"

namespace pipecast::kernels {
namespace {

MomentsCheckpoint after(int steps, const SmallFloat& format, double beta2) {
  return moments_error({.format = format,
                        .beta2 = beta2,
                        .learning_rate = 1e-3,
                        .checkpoints = {steps},
                        .seed = 1})
      .front();
}

}  // namespace

TEST_CASE("FP32 moments train as exact ones", "[numerics]") {
  const MomentsCheckpoint end = after(300, kFormatFp32, 0.95);
  REQUIRE(end.divergence < 1e-6);
  REQUIRE(end.loss == Approx(end.exact_loss).epsilon(1e-6));
}

TEST_CASE("BF16 moments follow where a step changes them by more than half a last place",
          "[numerics]") {
  // A step moves the second moment by up to 1 - beta2 of itself: 5 % is many last places of 2^-8,
  // 0.1 % less than half of one, so that it hardly falls and stays too large.
  const MomentsCheckpoint quick = after(1000, kFormatBf16, 0.95);
  REQUIRE(quick.second_moment == Approx(1).epsilon(0.01));
  REQUIRE(quick.loss == Approx(quick.exact_loss).epsilon(0.01));
  const MomentsCheckpoint slow = after(1000, kFormatBf16, 0.999);
  REQUIRE(slow.second_moment > 1.2);
  REQUIRE(slow.divergence > 5 * quick.divergence);
}

TEST_CASE("checkpoints are those of one training", "[numerics]") {
  const auto both = moments_error({.format = kFormatBf16,
                                   .beta2 = 0.95,
                                   .learning_rate = 1e-3,
                                   .checkpoints = {10, 40},
                                   .seed = 3});
  const auto last = moments_error({.format = kFormatBf16,
                                   .beta2 = 0.95,
                                   .learning_rate = 1e-3,
                                   .checkpoints = {40},
                                   .seed = 3});
  REQUIRE(both.size() == 2);
  REQUIRE(both[1].divergence == last[0].divergence);
  REQUIRE(both[1].loss == last[0].loss);
  REQUIRE(both[1].loss < both[0].loss);
}

}  // namespace pipecast::kernels
