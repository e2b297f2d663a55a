#include "app/config/sections/sections.hpp"

namespace pipecast::config {

void describe(Fields& f, RoutingSpec& routing) {
  f.choice("distribution", routing.distribution, words({"balanced"}),
           "how tokens spread over the experts");
}

}  // namespace pipecast::config
