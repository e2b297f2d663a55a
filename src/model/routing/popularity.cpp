#include "model/routing/popularity.hpp"

namespace pipecast {

Random draw_generator(std::uint64_t seed, std::string_view purpose, int group, int layer,
                      int micro_batch) {
  // 24 bits for the group, 12 for the layer, 28 for the micro-batch: no two of a step collide.
  const auto index = (static_cast<std::uint64_t>(group) << 40) ^
                     (static_cast<std::uint64_t>(layer) << 28) ^
                     static_cast<std::uint64_t>(micro_batch);
  return Random(seed, purpose, index);
}

void normalise(std::vector<double>& weights) {
  double sum = 0;
  for (const double w : weights) sum += w;
  const double scale = static_cast<double>(weights.size()) / sum;
  for (double& w : weights) w *= scale;
}

}  // namespace pipecast
