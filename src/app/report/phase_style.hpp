/// How pictures and terminals show the phases of a layer.
#pragma once

#include <array>
#include <string_view>

#include "model/specs/phase.hpp"

namespace pipecast {

/// Colours are of Okabe and Ito 2008, which colour-blind people tell apart: cold for the forward,
/// warm for the input's gradient, green and yellow for the weights'. An exchange has the colour of
/// the computation that it belongs to: it stands in another row, with another letter.
struct PhaseStyle {
  char letter = ' ';       ///< upper case: forward
  std::size_t colour = 0;  ///< as painted() counts
  std::string_view rgb;    ///< of pictures
};

constexpr PhaseStyle style_of(Phase phase) {
  constexpr std::array<PhaseStyle, kPhases> kStyles = {{
      {'A', 0, "#0072B2"},  // attn(F): blue
      {'D', 0, "#0072B2"},  // dispatch(F)
      {'M', 4, "#56B4E9"},  // mlp(F): sky blue
      {'C', 4, "#56B4E9"},  // combine(F)
      {'c', 1, "#E69F00"},  // combine(B)
      {'m', 1, "#E69F00"},  // mlp(B): orange
      {'d', 5, "#D55E00"},  // dispatch(B)
      {'a', 5, "#D55E00"},  // attn(B): vermilion
      {'w', 2, "#009E73"},  // mlp(W): green
      {'v', 3, "#F0E442"},  // attn(W): yellow
  }};
  return kStyles[static_cast<std::size_t>(phase)];
}

}  // namespace pipecast
