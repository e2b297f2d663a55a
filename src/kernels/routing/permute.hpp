#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/numbers/bf16.hpp"
#include "kernels/numbers/fp8.hpp"

namespace pipecast::kernels {

/// Places of tokens among the rows of a grouped product. The rows of an expert follow the order of
/// tokens, then of choices; every expert's rows start at a multiple of `alignment`, and what that
/// leaves open is padding. The same every time: no atomics.
struct PermuteMap {
  const int* chosen;   // tokens x top_k: local expert, or negative for one of another rank
  int* row_of_choice;  // tokens x top_k: -1 where the choice is negative or finds no room
  int* choice_of_row;  // capacity: token * top_k + choice; -1 for padding and behind the last row
  int* first_row;      // experts + 1: of each expert, then the number of rows with padding
  int* counts;         // experts: rows without padding
  int* workspace;      // permute_map_workspace() numbers
  int tokens;
  int top_k;
  int experts;    // at most 256
  int alignment;  // 128 for grouped products
  int capacity;   // rows that there is room for; later ones are dropped
  int sms;        // how many SMs the kernel may use; 0 for all
};
std::size_t permute_map_workspace(int tokens, int top_k, int experts);
/// @throws DeviceError on extents outside of those above, or a failed launch
void permute_map(const PermuteMap& problem);

/// The map as the kernels below read it.
struct RowPlaces {
  const int* row_of_choice;
  const int* choice_of_row;
  const int* rows;  // one number: first_row + experts of the map
  int tokens;
  int top_k;  // at most 32
  int capacity;
};

/// Each token's row to all its places; padding becomes zero. columns is a multiple of 8. Its
/// gradient is unpermute_reduce without weights.
struct Permute {
  const Bf16* tokens;  // tokens x columns
  Bf16* rows;          // rows x columns
  RowPlaces places;
  int columns;
  int sms;
};
void permute(const Permute& problem);

/// The same for FP8 rows with one scale per 128 elements. columns is a multiple of 128. The scale
/// of block b of row r goes to row_scales[r * row_step + b * block_step]: (columns / 128, 1) keeps
/// them row by row, (1, rows) lays them out as the FP8 products read them.
struct PermuteWithScales {
  const E4m3* tokens;         // tokens x columns
  const float* token_scales;  // tokens x (columns / 128)
  E4m3* rows;
  float* row_scales;
  std::int64_t row_step;
  std::int64_t block_step;
  RowPlaces places;
  int columns;
  int sms;
};
void permute_with_scales(const PermuteWithScales& problem);

/// Per token the sum of its rows, each times the weight of its choice, in FP32 in the order of
/// choices; a token without rows becomes zero. columns is a multiple of 8.
struct UnpermuteReduce {
  const Bf16* rows;      // rows x columns
  const float* weights;  // tokens x top_k, or null: the plain sum
  Bf16* tokens;          // tokens x columns
  RowPlaces places;
  int columns;
  int sms;
};
void unpermute_reduce(const UnpermuteReduce& problem);

/// Gradients of unpermute_reduce: of a row, weight * token gradient (padding: zero); of a weight,
/// the product of token gradient and row, zero for choices without a row.
struct UnpermuteReduceBackward {
  const Bf16* tokens_grad;  // tokens x columns
  const Bf16* rows;         // rows x columns, as they were summed
  const float* weights;     // tokens x top_k
  Bf16* rows_grad;          // rows x columns
  float* weights_grad;      // tokens x top_k
  RowPlaces places;
  int columns;
  int sms;
};
void unpermute_reduce_bwd(const UnpermuteReduceBackward& problem);

}  // namespace pipecast::kernels
