#include "app/config/sections/sections.hpp"

namespace pipecast::config {

void describe(Fields& f, VariationSpec& variation) {
  f.optional("speed_deviation", variation.speed_deviation,
             "relative standard deviation of the GPUs' speeds, drawn once for each",
             {.low = 0, .high = 0.5});
  f.optional("jitter", variation.jitter,
             "relative deviation of every stretch of kernels, drawn each time",
             {.low = 0, .high = 1});
  f.optional("stragglers", variation.stragglers, "GPUs that are slower throughout, drawn from all",
             at_least(0));
  f.optional("straggler_slowness", variation.straggler_slowness, "times that they take longer",
             {.low = 1, .high = 100});
  f.optional("late_arrivals", variation.late_arrivals,
             "delay with which GPUs enter an exchange, times the measured one; 0: none",
             {.low = 0, .high = 100});
}

}  // namespace pipecast::config
