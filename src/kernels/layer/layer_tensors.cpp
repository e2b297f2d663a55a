#include "kernels/layer/layer_tensors.hpp"

#include <algorithm>

#include "kernels/activation/rope.hpp"

namespace pipecast::kernels {

TokenSequences token_sequences(const std::vector<int>& lengths, double rope_base) {
  std::vector<int> first_row{0};
  std::vector<int> positions;
  for (const int length : lengths) {
    first_row.push_back(first_row.back() + length);
    for (int position = 0; position < length; ++position) positions.push_back(position);
  }
  const int longest = lengths.empty() ? 0 : *std::max_element(lengths.begin(), lengths.end());
  return {Buffer<int>(first_row),
          Buffer<int>(positions),
          Buffer<float>(rope_table(longest, kRotaryWidth, rope_base)),
          static_cast<int>(lengths.size()),
          first_row.back(),
          longest};
}

}  // namespace pipecast::kernels
