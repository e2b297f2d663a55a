#include "kernels/reference/rope.hpp"

#include <cmath>

#include "base/error.hpp"

namespace pipecast::kernels::reference {
namespace {

Matrix turn(const Matrix& input, const Indices& positions, const RopeLayout& layout,
            double direction) {
  require(layout.rope_width > 0 && layout.rope_width % 2 == 0 && layout.rope_offset >= 0 &&
              layout.rope_offset + layout.rope_width <= layout.head_width,
          "RoPE of {} elements from {} in heads of {}", layout.rope_width, layout.rope_offset,
          layout.head_width);
  require(input.cols() % layout.head_width == 0, "{} columns are no whole heads of {}",
          input.cols(), layout.head_width);
  require(static_cast<Index>(positions.size()) == input.rows(), "{} positions of {} rows",
          positions.size(), input.rows());
  Matrix out = input;
  for (Index row = 0; row < input.rows(); ++row) {
    const auto position = static_cast<double>(positions[static_cast<std::size_t>(row)]);
    for (Index pair = 0; pair < layout.rope_width / 2; ++pair) {
      const double exponent =
          -2 * static_cast<double>(pair) / static_cast<double>(layout.rope_width);
      const double angle = direction * position * std::pow(layout.base, exponent);
      for (Index head = 0; head < input.cols(); head += layout.head_width) {
        const Index at = head + layout.rope_offset + 2 * pair;
        out(row, at) = input(row, at) * std::cos(angle) - input(row, at + 1) * std::sin(angle);
        out(row, at + 1) = input(row, at) * std::sin(angle) + input(row, at + 1) * std::cos(angle);
      }
    }
  }
  return out;
}

}  // namespace

Matrix rope_forward(const Matrix& input, const Indices& positions, const RopeLayout& layout) {
  return turn(input, positions, layout, 1);
}

Matrix rope_backward(const Matrix& output_gradient, const Indices& positions,
                     const RopeLayout& layout) {
  return turn(output_gradient, positions, layout, -1);
}

Indices positions_in_sequences(const Indices& cumulative_lengths) {
  Indices positions;
  for (std::size_t i = 0; i + 1 < cumulative_lengths.size(); ++i) {
    const Index length = cumulative_lengths[i + 1] - cumulative_lengths[i];
    for (Index position = 0; position < length; ++position) positions.push_back(position);
  }
  return positions;
}

}  // namespace pipecast::kernels::reference
