/// Matrices of random numbers that numerical studies round.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

namespace pipecast::kernels {

enum class Distribution { kNormal, kUniform };

/// Some elements are this many times larger: activations have such (Dettmers et al. 2022,
/// arXiv 2208.07339, section 3).
struct Outliers {
  double fraction = 0;  ///< of the elements, each by itself
  double factor = 1;
};

/// What a study's numbers are.
struct SampleKind {
  Distribution distribution{};  ///< N(0, 1) or U(0, 1)
  Outliers outliers{};
};

/// Row-major.
struct SampleMatrix {
  int rows{};
  int columns{};
  std::vector<float> values{};

  [[nodiscard]] std::size_t index(int row, int column) const {
    return static_cast<std::size_t>(row) * static_cast<std::size_t>(columns) +
           static_cast<std::size_t>(column);
  }
  [[nodiscard]] float at(int row, int column) const { return values[index(row, column)]; }
};

/// Every row has a generator of its own, so a matrix with more rows begins with the same ones.
/// @param purpose  tells matrices of one seed apart
SampleMatrix sample_matrix(int rows, int columns, const SampleKind& kind, std::uint64_t seed,
                           std::string_view purpose);

}  // namespace pipecast::kernels
