/// Tells whether a schedule, from wherever it comes, does the work of a training step.
#pragma once

#include <optional>
#include <string>

#include "model/schedules/schedule.hpp"

namespace pipecast {

/// Every rank must run each micro-batch of each lane once forward and once backward (B, or Bi and
/// W), in that order, and the ranks' orders together must not lock when ranks send without waiting
/// for the receiver. A schedule without any backward is one of forwards only.
/// @return the first violation, in words; nothing if there is none
std::optional<std::string> check_schedule(const Schedule& schedule);

/// A schedule that runs may still lock where transfers block. Between two steps a rank then sends
/// what the step before made and receives what the step after needs, all at once (Megatron-LM's
/// batched send and receive), and goes on when the other ends have done their part.
/// @param schedule  without a violation
/// @return what locks, in words; nothing if it runs to its end
std::optional<std::string> find_blocking_deadlock(const Schedule& schedule);

}  // namespace pipecast
