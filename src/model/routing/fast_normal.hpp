/// Normal numbers by the hundred.
#pragma once

#include "base/random.hpp"

namespace pipecast {

/// Normal with mean 0 and variance 1, several times as fast as Random::normal: the ziggurat of
/// Marsaglia and Tsang 2000 in the form of Doornik 2005 ("An improved ziggurat method to generate
/// normal random samples"), 128 layers.
double fast_normal(Random& random);

}  // namespace pipecast
