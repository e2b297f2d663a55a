#pragma once

#include <cstdint>

#include "kernels/numbers/bf16.hpp"

namespace pipecast::kernels {

/// Per row log(sum(exp(logits))), in one pass over the logits, and its distance to the logit of the
/// target. A negative target: no loss. A NaN or +infinity among the logits makes both NaN; a row of
/// nothing but -infinity has the log-sum -infinity and the loss NaN. vocabulary is a multiple of 8.
struct CrossEntropyForward {
  const Bf16* logits;  // rows x vocabulary
  const int* targets;  // rows
  float* log_sum_exp;  // rows
  float* loss;         // rows
  int rows;
  int vocabulary;
  int sms;  // how many SMs the kernel may use; 0 for all
};
/// @throws DeviceError on extents outside of those above, or a failed launch
void cross_entropy_fwd(const CrossEntropyForward& problem);

/// weight * (exp(logit - log_sum_exp) - 1 at the target); zero in rows with a negative target.
struct CrossEntropyBackward {
  const Bf16* logits;  // rows x vocabulary
  const int* targets;
  const float* log_sum_exp;
  Bf16* logits_grad;  // rows x vocabulary; may be `logits`
  float weight;       // 1 / rows for the mean
  int rows;
  int vocabulary;
  int sms;
};
void cross_entropy_bwd(const CrossEntropyBackward& problem);

}  // namespace pipecast::kernels
