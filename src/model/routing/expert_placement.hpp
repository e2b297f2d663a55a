/// Where experts and the copies of busy ones lie in an expert-parallel group.
#pragma once

#include <cstddef>
#include <vector>

namespace pipecast {

struct ExpertPlacement {
  /// An expert, or one of its copies, on a GPU.
  struct Copy {
    std::size_t expert = 0;  ///< counted in the new order of groups
    double share = 1;        ///< of the expert's tokens
  };
  std::vector<std::size_t> group_order;  ///< [place] group of experts that lies there
  std::vector<std::vector<Copy>> gpus;   ///< [GPU] all of one group
};

/// Balances in three levels, each greedily, the heaviest first:
///   1. groups to nodes, so that node-limited routing still meets few nodes;
///   2. in every group the same number of copies, each of the expert with the most tokens per copy;
///   3. copies to the group's GPUs, the least loaded that has room and does not hold the expert.
/// Source: the description of the hierarchical policy of DeepSeek's expert-parallel load balancer
/// (deepseek-ai/EPLB, README) and the DeepSeek-V3 report, section 3.4.1.
/// @param loads      [expert] >= 0
/// @param groups     of the gate, 1 if it has none
/// @param redundant  further copies; as many for each group and each GPU
/// @throws Error if copies do not divide over groups and GPUs, or a GPU would hold several groups
/// Not modelled: the time and memory of moving experts.
ExpertPlacement place_experts(const std::vector<double>& loads, int groups, int gpus, int nodes,
                              int redundant);

}  // namespace pipecast
