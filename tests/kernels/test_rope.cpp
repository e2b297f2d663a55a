#include <catch2/catch.hpp>
#include <vector>

#include "kernels/activation/rope.hpp"
#include "kernels/reference/rope.hpp"
#include "kernels/simt/device_error.hpp"
#include "rows.hpp"

namespace pipecast::kernels {
namespace {

using namespace testing;
using reference::Matrix;

constexpr double kBase = 10000;

struct Heads {
  int rows;
  int heads;
  int head_width;
  int offset;  // of the rotary part
  int width;   // of the rotary part

  int columns() const { return heads * head_width; }
  reference::RopeLayout layout() const { return {head_width, offset, width, kBase}; }
};

/// Positions of two sequences, the second from the start again.
reference::Indices positions_of(int rows) {
  return reference::positions_in_sequences({0, (rows + 1) / 2, rows});
}

Buffer<int> on_device(const reference::Indices& positions) {
  Buffer<int> result(positions.size());
  for (std::size_t i = 0; i < positions.size(); ++i) result[i] = static_cast<int>(positions[i]);
  return result;
}

/// A copy of `values`, turned.
Buffer<Bf16> turned(const Buffer<Bf16>& values, const Heads& h, const Buffer<int>& positions,
                    bool backward, int sms = 0) {
  Buffer<Bf16> result(values.size());
  std::copy(values.begin(), values.end(), result.begin());
  const int table_positions = h.rows + 1;
  const Buffer<float> table(rope_table(table_positions, h.width, kBase));
  rope({result.data() + h.offset, positions.data(), table.data(), table_positions, h.rows, h.heads,
        h.width, h.columns(), h.head_width, backward, sms});
  synchronise();
  return result;
}

}  // namespace

TEST_CASE("RoPE turns the rotary part of every head, and back", "[rope]") {
  // Queries, the shared key, heads that are no multiple of four, the narrowest part.
  const Heads h = GENERATE(Heads{5, 8, 192, 128, 64}, Heads{130, 1, 64, 0, 64},
                           Heads{3, 5, 24, 8, 16}, Heads{1, 1, 8, 0, 8}, Heads{300, 2, 72, 64, 8});
  CAPTURE(h.rows, h.heads, h.head_width);
  const auto values = as_bf16(normal_values(extent(h.rows, h.columns()), 1));
  const Matrix x = as_matrix(values, h.rows, h.columns());
  const reference::Indices positions = positions_of(h.rows);
  const Buffer<int> device_positions = on_device(positions);
  const Matrix forward = reference::rope_forward(x, positions, h.layout());
  const Matrix backward = reference::rope_backward(x, positions, h.layout());
  in_every_order([&] {
    REQUIRE(bf16_distance(turned(values, h, device_positions, false), forward) <= 1);
    REQUIRE(bf16_distance(turned(values, h, device_positions, true), backward) <= 1);
  });
  REQUIRE(bf16_distance(turned(values, h, device_positions, false, 1), forward) <= 1);
}

TEST_CASE("RoPE's backward pass is the slope of its forward pass", "[rope]") {
  const Heads h{4, 2, 16, 8, 8};
  const auto gradient = as_bf16(normal_values(extent(h.rows, h.columns()), 2));
  const Matrix dy = as_matrix(gradient, h.rows, h.columns());
  const reference::Indices positions = positions_of(h.rows);
  Matrix slope(h.rows, h.columns());
  for (reference::Index i = 0; i < slope.size(); ++i) {
    // The turn is linear: one step of 1 from zero is exact.
    Matrix unit = Matrix::Zero(h.rows, h.columns());
    unit.data()[i] = 1;
    slope.data()[i] = reference::rope_forward(unit, positions, h.layout()).cwiseProduct(dy).sum();
  }
  REQUIRE(bf16_distance(turned(gradient, h, on_device(positions), true), slope) <= 1);
}

TEST_CASE("RoPE keeps a NaN in its pair and makes one of a position outside of its table",
          "[rope]") {
  const Heads h{3, 1, 8, 0, 8};
  auto values = as_bf16(normal_values(extent(h.rows, h.columns()), 3));
  values[2] = Bf16{0x7fff};
  Buffer<int> positions(3);
  positions[0] = 1;
  positions[1] = 4;  // the table ends at 3
  positions[2] = -1;
  in_every_order([&] {
    const Buffer<Bf16> result = turned(values, h, positions, false);
    for (std::size_t i = 0; i < result.size(); ++i) {
      REQUIRE(std::isnan(to_float(result[i])) == (i >= 8 || i == 2 || i == 3));
    }
  });
}

TEST_CASE("RoPE takes no rows and refuses parts that are no multiple of 8", "[rope]") {
  Buffer<Bf16> values(8);
  Buffer<int> positions(1);
  Buffer<float> table(8);
  Rope problem{values.data(), positions.data(), table.data(), 1, 0, 1, 8, 8, 8, false, 0};
  rope(problem);
  synchronise();
  REQUIRE(values[0].bits == 0xffff);
  problem.rows = 1;
  problem.width = 12;
  REQUIRE_THROWS_WITH(rope(problem), Catch::Contains("multiple of 8"));
  problem.width = 8;
  problem.row_stride = 12;
  REQUIRE_THROWS_WITH(rope(problem), Catch::Contains("strides are multiples of 8"));
}

}  // namespace pipecast::kernels
