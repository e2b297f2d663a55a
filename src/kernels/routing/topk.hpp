#pragma once

namespace pipecast::kernels {

/// The largest scores of every row, largest first; of equals the one of lower index, and a NaN
/// after every number. columns is 32, 64, 128, 256 or 512; chosen is at most 32.
struct TopK {
  const float* scores;  // rows x columns
  float* values;        // rows x chosen
  int* indices;         // rows x chosen
  int rows;
  int columns;
  int chosen;
  int sms;  // how many SMs the kernel may use; 0 for all
};
/// @throws DeviceError on extents outside of those above, or a failed launch
void topk(const TopK& problem);

/// Score of every group of neighbouring columns: the sum of its two best, NaN where these hold a
/// NaN; its only score where it has one. groups divides 32.
struct GroupTopkSum {
  const float* scores;  // rows x columns
  float* sums;          // rows x groups
  int rows;
  int columns;
  int groups;
  int sms;
};
void group_topk_sum(const GroupTopkSum& problem);

}  // namespace pipecast::kernels
