/// Rows of a trace by hand.
#pragma once

#include <string>

#include "app/tables/launch_table.hpp"

namespace pipecast::testing {

inline TraceRow launch(int layer, const std::string& phase, const std::string& stream,
                       const std::string& op, double start_us, double duration_us) {
  return {.layer = layer,
          .phase = phase,
          .stream = stream,
          .op = op,
          .start_us = start_us,
          .duration_us = duration_us};
}

}  // namespace pipecast::testing
