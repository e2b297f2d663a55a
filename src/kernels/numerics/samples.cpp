#include "kernels/numerics/samples.hpp"

#include "base/random.hpp"

namespace pipecast::kernels {

SampleMatrix sample_matrix(int rows, int columns, const SampleKind& kind, std::uint64_t seed,
                           std::string_view purpose) {
  SampleMatrix out{rows, columns, {}};
  out.values.reserve(static_cast<std::size_t>(rows) * static_cast<std::size_t>(columns));
  for (int row = 0; row < rows; ++row) {
    Random random(seed, purpose, static_cast<std::uint64_t>(row));
    // Outliers are drawn apart, so that the other elements are the same without them.
    Random chosen(seed, "outliers", static_cast<std::uint64_t>(row));
    for (int column = 0; column < columns; ++column) {
      double value =
          kind.distribution == Distribution::kNormal ? random.normal() : random.uniform();
      if (chosen.uniform() < kind.outliers.fraction) value *= kind.outliers.factor;
      out.values.push_back(static_cast<float>(value));
    }
  }
  return out;
}

}  // namespace pipecast::kernels
