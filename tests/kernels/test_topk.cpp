#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <limits>
#include <numeric>
#include <tuple>
#include <vector>

#include "kernels/routing/topk.hpp"
#include "run.hpp"

namespace pipecast::kernels {
namespace {

using namespace testing;

constexpr float kNothing = std::numeric_limits<float>::quiet_NaN();

/// A NaN is behind every number.
bool ahead(float a, float b) { return std::isnan(b) ? !std::isnan(a) : a > b; }

/// Scores with many equals, zeros of both signs, infinities and NaN.
std::vector<float> coarse_scores(int rows, int columns) {
  std::vector<float> scores =
      normal_values(static_cast<std::size_t>(rows) * static_cast<std::size_t>(columns), 1, 4.0F);
  for (std::size_t i = 0; i < scores.size(); ++i) {
    scores[i] = std::round(scores[i]);
    if (i % 37 == 5) scores[i] = kNothing;
    if (i % 41 == 7) scores[i] = i % 2 == 0 ? std::numeric_limits<float>::infinity() : -0.0F;
  }
  return scores;
}

}  // namespace

TEST_CASE("topk takes the largest, the lower index of equals, a NaN last", "[topk]") {
  int rows = 0;
  int columns = 0;
  int chosen = 0;
  std::tie(rows, columns, chosen) =
      GENERATE(std::tuple{1, 256, 8}, std::tuple{0, 32, 1}, std::tuple{37, 64, 6},
               std::tuple{9, 512, 10}, std::tuple{5, 32, 32}, std::tuple{3, 128, 1});
  CAPTURE(rows, columns, chosen);
  const std::vector<float> scores = coarse_scores(rows, columns);
  const Buffer<float> input(scores);
  in_every_order([&] {
    Buffer<int> indices(static_cast<std::size_t>(rows * chosen));
    Buffer<float> values(indices.size());
    topk({input.data(), values.data(), indices.data(), rows, columns, chosen, 0});
    synchronise();
    for (int row = 0; row < rows; ++row) {
      const float* own = scores.data() + row * columns;
      std::vector<int> order(static_cast<std::size_t>(columns));
      std::iota(order.begin(), order.end(), 0);
      std::stable_sort(order.begin(), order.end(),
                       [&](int a, int b) { return ahead(own[a], own[b]); });
      for (int i = 0; i < chosen; ++i) {
        const auto at = static_cast<std::size_t>(row * chosen + i);
        const int index = order[static_cast<std::size_t>(i)];
        REQUIRE(indices[at] == index);
        REQUIRE((values[at] == own[index] || (std::isnan(values[at]) && std::isnan(own[index]))));
      }
    }
  });
}

TEST_CASE("a group's score is the sum of its two best", "[topk]") {
  int rows = 0;
  int columns = 0;
  int groups = 0;
  std::tie(rows, columns, groups) =
      GENERATE(std::tuple{1, 256, 8}, std::tuple{0, 32, 1}, std::tuple{37, 64, 4},
               std::tuple{9, 512, 1}, std::tuple{5, 32, 32}, std::tuple{3, 32, 16});
  CAPTURE(rows, columns, groups);
  const int width = columns / groups;
  const std::vector<float> scores = coarse_scores(rows, columns);
  const Buffer<float> input(scores);
  in_every_order([&] {
    Buffer<float> sums(static_cast<std::size_t>(rows * groups));
    group_topk_sum({input.data(), sums.data(), rows, columns, groups, 0});
    synchronise();
    for (int group = 0; group < rows * groups; ++group) {
      std::vector<float> own(scores.begin() + group * width, scores.begin() + (group + 1) * width);
      std::stable_sort(own.begin(), own.end(), ahead);
      const float expected = width == 1 ? own[0] : own[0] + own[1];  // exact: whole numbers
      const float sum = sums[static_cast<std::size_t>(group)];
      REQUIRE((sum == expected || (std::isnan(sum) && std::isnan(expected))));
    }
  });
}

TEST_CASE("selections refuse rows that a warp cannot hold", "[topk]") {
  REQUIRE_THROWS_WITH(topk({nullptr, nullptr, nullptr, 1, 96, 4, 0}),
                      Catch::Contains("32 to 512 columns"));
  REQUIRE_THROWS_WITH(topk({nullptr, nullptr, nullptr, 1, 64, 33, 0}),
                      Catch::Contains("1 to 32 choices"));
  REQUIRE_THROWS_WITH(group_topk_sum({nullptr, nullptr, 1, 64, 5, 0}),
                      Catch::Contains("groups divide 32"));
}

}  // namespace pipecast::kernels
