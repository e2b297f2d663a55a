#include "model/fabric/fabric_kind.hpp"

namespace pipecast {

FabricCount slim_fly_count(int q) {
  const int w = (q + 1) / 4;
  const int delta = q - 4 * w;
  require(w > 0 && delta >= -1 && delta <= 1,
          "slim-fly: q={}; expected 4 w - 1, 4 w or 4 w + 1 for a whole w > 0", q);
  const std::int64_t switches = 2 * std::int64_t{q} * q;
  const std::int64_t degree = (3 * std::int64_t{q} - delta) / 2;
  return {.endpoints = switches * ceil_div(degree, 2),
          .switches = switches,
          .links = switches * degree / 2};
}

}  // namespace pipecast
