/// How GPUs of one kind differ from one another and from moment to moment.
#pragma once

namespace pipecast {

struct VariationSpec {
  double speed_deviation = 0;  ///< relative standard deviation of the GPUs' speeds (normal)
  double jitter = 0;           ///< relative deviation of a stretch of kernels (log-normal, mean 1)
  int stragglers = 0;          ///< GPUs that are slower throughout, drawn from all
  double straggler_slowness = 1;  ///< times that they take longer
  /// Times the delay with which GPUs enter an exchange in the measured trace
  /// (calibration.communication.peers_late_us); 0: they enter when they are ready.
  double late_arrivals = 1;
};

}  // namespace pipecast
