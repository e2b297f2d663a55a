/// Rotary position embedding (Su et al. 2021) as DeepSeek-V3's inference code applies it: elements
/// 2i and 2i + 1 of the rotary part are one pair, and stay where they are. Not modelled: YaRN,
/// which only the extension of the context switches on.
#pragma once

#include "kernels/reference/matrix.hpp"

namespace pipecast::kernels::reference {

/// Which elements of a row turn: of every head, rope_width elements from rope_offset.
struct RopeLayout {
  Index head_width{};   // 192 for queries, 64 for the shared key
  Index rope_offset{};  // 128 for queries, 0 for the shared key
  Index rope_width{};   // 64
  double base = 10000;  // DeepSeek-V3's rope_theta
};

/// Pair i turns by position * base^(-2i / rope_width).
/// @param input      rows x heads * head_width
/// @param positions  of every row in its sequence
Matrix rope_forward(const Matrix& input, const Indices& positions, const RopeLayout& layout);

/// The opposite turn of the gradient.
Matrix rope_backward(const Matrix& output_gradient, const Indices& positions,
                     const RopeLayout& layout);

/// Positions of the rows of sequences that lie one behind the other.
Indices positions_in_sequences(const Indices& cumulative_lengths);

}  // namespace pipecast::kernels::reference
