#include "model/routing/fast_normal.hpp"

#include <cmath>
#include <cstddef>

namespace pipecast {

namespace {

constexpr std::size_t kLayers = 128;
constexpr double kTail = 3.442619855899;       // where the tail begins; Doornik 2005, table 1
constexpr double kArea = 9.91256303526217e-3;  // of each layer

/// Right ends of the layers, from the widest, and where each is sure to lie below the curve.
struct Layers {
  double end[kLayers + 1];
  double sure[kLayers];

  Layers() {
    double f = std::exp(-0.5 * kTail * kTail);
    end[0] = kArea / f;
    end[1] = kTail;
    end[kLayers] = 0;
    for (std::size_t i = 2; i < kLayers; ++i) {
      end[i] = std::sqrt(-2 * std::log(kArea / end[i - 1] + f));
      f = std::exp(-0.5 * end[i] * end[i]);
    }
    for (std::size_t i = 0; i < kLayers; ++i) sure[i] = end[i + 1] / end[i];
  }
};

/// Marsaglia's method beyond kTail.
double tail(Random& random) {
  while (true) {
    const double x = -std::log1p(-random.uniform()) / kTail;
    const double y = -std::log1p(-random.uniform());
    if (y + y >= x * x) return kTail + x;
  }
}

const Layers kZiggurat;

}  // namespace

double fast_normal(Random& random) {
  while (true) {
    const std::uint64_t bits = random.bits();
    const std::size_t layer = bits % kLayers;  // the position uses the other bits
    const double position = static_cast<double>(bits >> 11) * 0x1p-52 - 1;
    const double x = position * kZiggurat.end[layer];
    if (std::abs(position) < kZiggurat.sure[layer]) return x;
    if (layer == 0) return std::copysign(tail(random), position);
    const double outer = kZiggurat.end[layer];
    const double inner = kZiggurat.end[layer + 1];
    const double low = std::exp(-0.5 * (outer * outer - x * x));
    const double high = std::exp(-0.5 * (inner * inner - x * x));
    if (high + random.uniform() * (low - high) < 1) return x;
  }
}

}  // namespace pipecast
