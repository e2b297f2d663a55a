#pragma once

#include "kernels/numbers/bf16.hpp"

namespace pipecast::kernels {

/// y = w x / sqrt(mean(x^2) + epsilon) of every row, computed in FP32. Source: Zhang and Sennrich
/// 2019, "Root Mean Square Layer Normalization". `columns` is a multiple of 8, at most 8,192. A NaN
/// makes its whole row NaN, an infinity itself. All arrays are the device's, row-major.
/// Not modelled: numbers past 2^62, whose squares no FP32 holds; their row becomes 0, as in other
/// implementations.
struct RmsNorm {
  const Bf16* input;   // rows x columns
  const Bf16* weight;  // columns
  Bf16* output;        // rows x columns
  float epsilon;
  int rows;
  int columns;
  int sms;  // how many SMs the kernel may use; 0 for all
};

/// The input's gradient, and of the weight's a sum per block of threads: with r = 1 /
/// sqrt(mean(x^2)
/// + epsilon), which is computed again, and n = r x: dx = r (w dy - n mean(w dy n)), dw = sum over
/// rows of dy n. A block takes its rows in a fixed order: equal `sms` give equal bits.
struct RmsNormBackward {
  const Bf16* input;
  const Bf16* weight;
  const Bf16* output_gradient;  // rows x columns
  Bf16* input_gradient;         // rows x columns
  float* partial;               // rms_norm_partial_rows(rows, columns, sms) x columns
  float epsilon;
  int rows;
  int columns;
  int sms;
};

/// Rows of partial sums that rmsnorm_bwd leaves. @throws DeviceError on columns as above
int rms_norm_partial_rows(int rows, int columns, int sms);

/// The weight's gradient: sums of the partial rows, in a fixed order.
struct RmsNormFinalize {
  const float* partial;    // partial_rows x columns
  float* weight_gradient;  // columns
  int partial_rows;        // 0 gives zeros
  int columns;
  int sms;
};

/// @throws DeviceError on extents outside of those above, or a failed launch
void rmsnorm_fwd(const RmsNorm& problem);
void rmsnorm_bwd(const RmsNormBackward& problem);
void rmsnorm_bwd_finalize(const RmsNormFinalize& problem);

}  // namespace pipecast::kernels
