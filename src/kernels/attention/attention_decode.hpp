#pragma once

#include <cstddef>

#include "kernels/numbers/bf16.hpp"

namespace pipecast::kernels {

constexpr int kLatentWidth = 512;               // values, and the first part of a key
constexpr int kCacheWidth = kLatentWidth + 64;  // with the rotary part of the key
constexpr int kPageRows = 64;

/// One query per sequence over a paged cache of latents that all heads share (absorbed MLA,
/// DeepSeek-V2, arXiv 2405.04434, section 2.1.2): O = softmax(scale Q C^T) C[:, 0:512]. The pages
/// of all sequences are dealt out evenly to parts, one for each SM and 64 heads, and sequences that
/// were cut are combined by a second kernel, as FlashMLA does. All arrays are the device's,
/// row-major and 16-byte aligned.
///
/// What comes out: an empty sequence gives zeros and a log-sum-exp of minus infinity; what lies in
/// the last page behind the end of a sequence has no effect, whatever it is. A NaN in a cached row
/// makes NaN of its sequence and no other.
struct AttentionDecode {
  const Bf16* query;      // sequences x heads x 576
  const Bf16* cache;      // pages x 64 x 576
  const int* page_table;  // sequences x table_width: position p lies in page [p / 64], row p % 64
  const int* lengths;     // sequences: cached positions
  Bf16* output;           // sequences x heads x 512
  float* log_sum_exp;     // sequences x heads, natural logarithm, of the scaled logits
  // Between the kernels; of attention_decode_workspace's sizes.
  int* first_pages;
  float* part_outputs;
  float* part_log_sum_exps;
  int sequences;
  int heads;
  int pages;  // of the cache
  int table_width;
  float scale;  // of the logits, above 0; 1 / sqrt(192), of the widths before absorption
  int sms;      // how many SMs the kernel may use; 0 for all
};

/// Elements of the arrays between the kernels.
struct AttentionDecodeWorkspace {
  std::size_t first_pages;
  std::size_t part_outputs;
  std::size_t part_log_sum_exps;
};
/// @param sms  as in AttentionDecode
AttentionDecodeWorkspace attention_decode_workspace(int sequences, int heads, int sms);

/// @throws DeviceError on a scale or extents outside of those above, or a failed launch
void attention_decode(const AttentionDecode& problem);

}  // namespace pipecast::kernels
