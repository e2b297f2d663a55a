#include "sim/network/collectives/collective.hpp"

namespace pipecast {
namespace {

std::vector<Transfer> make(const CollectiveShape& shape) {
  require(shape.members == 2, "point-to-point: {} GPUs; expected a sender and a receiver",
          shape.members);
  return {{.from = 0, .to = 1, .bytes = shape.bytes}};
}

const Register<CollectiveKind> kEntry{
    "point-to-point",
    {.make = make, .description = "one message from the first GPU to the second"}};

}  // namespace
}  // namespace pipecast
