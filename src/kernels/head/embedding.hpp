#pragma once

#include <cstdint>

#include "kernels/numbers/bf16.hpp"

namespace pipecast::kernels {

/// Rows of the table by token; a negative token gives zeros. columns is a multiple of 8.
struct EmbeddingLookup {
  const Bf16* table;  // vocabulary x columns
  const int* tokens;  // rows
  Bf16* output;       // rows x columns
  int rows;
  int columns;
  int sms;  // how many SMs the kernel may use; 0 for all
};
/// @throws DeviceError on extents outside of those above, or a failed launch
void embedding_lookup(const EmbeddingLookup& problem);

/// Adds each row's gradient to that of its token. Without atomics, the same bits every time: the
/// rows of a token are summed in FP32 in their order, and the sum is added once. A token that
/// occurs in most rows makes one SM work alone. Negative tokens are left out.
struct EmbeddingGrad {
  const Bf16* output_grad;  // rows x columns
  const int* tokens;        // rows
  float* table_grad;        // vocabulary x columns, added to
  int rows;
  int columns;
  int sms;
};
void embedding_grad(const EmbeddingGrad& problem);

}  // namespace pipecast::kernels
