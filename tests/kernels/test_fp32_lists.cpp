#include <catch2/catch.hpp>
#include <vector>

#include "kernels/activation/fp32_lists.hpp"
#include "kernels/simt/device_error.hpp"
#include "run.hpp"

namespace pipecast::kernels {
namespace {

using namespace testing;
using Catch::Matchers::Contains;

/// Elements whose bits are not those of the expected number, rounded.
int differing(const Buffer<Bf16>& actual, const std::vector<float>& expected) {
  int count = 0;
  for (std::size_t i = 0; i < expected.size(); ++i) {
    count += actual[i].bits == to_bf16(expected[i]).bits ? 0 : 1;
  }
  return count;
}

}  // namespace

TEST_CASE("FP32 is rounded to the nearest BF16", "[fp32_lists]") {
  const std::size_t elements = GENERATE(0U, 8U, 2048U * 16 + 8 * 300);
  const std::vector<float> values = normal_values(elements, 4);
  const Buffer<float> source(values);
  in_every_order([&] {
    Buffer<Bf16> result(elements);
    round_bf16({source.data(), result.data(), static_cast<std::int64_t>(elements), 0});
    synchronise();
    REQUIRE(differing(result, values) == 0);
  });
}

TEST_CASE("a gather takes each number from its index, and zero from none", "[fp32_lists]") {
  const std::size_t elements = GENERATE(0U, 1U, 4 * 4 * 256U + 77);
  const Buffer<float> source(normal_values(100, 5));
  Buffer<int> index(elements);
  for (std::size_t i = 0; i < elements; ++i) index[i] = static_cast<int>(i * 37 % 101) - 1;
  in_every_order([&] {
    Buffer<float> result(elements);
    gather_fp32(
        {source.data(), index.data(), result.data(), static_cast<std::int64_t>(elements), 0});
    synchronise();
    int wrong = 0;
    for (std::size_t i = 0; i < elements; ++i) {
      const float expected = index[i] < 0 ? 0 : source[static_cast<std::size_t>(index[i])];
      wrong += result[i] == expected ? 0 : 1;
    }
    REQUIRE(wrong == 0);
  });
}

TEST_CASE("rounding to BF16 refuses what it cannot write eight at a time", "[fp32_lists]") {
  Buffer<Bf16> rounded_values(16);
  Buffer<float> values(16);
  REQUIRE_THROWS_WITH(round_bf16({values.data(), rounded_values.data(), 12, 0}),
                      Contains("round_bf16: a multiple of 8 elements"));
}

}  // namespace pipecast::kernels
