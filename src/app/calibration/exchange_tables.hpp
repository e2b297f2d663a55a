/// Dispatches and combines that DeepEP's tables time, with the loads of every one.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "model/collectives/all_to_all.hpp"
#include "model/specs/model.hpp"

namespace pipecast {

/// One dispatch or combine alone, all GPUs of the group beginning together.
struct MeasuredExchange {
  PortLoad load;
  int nodes = 0;
  int sms = 0;
  double time_us = 0;
  double notify_us = 0;  ///< of the exchange of counts before it; 0 where the table has none
  std::string shape;     ///< what stays the same while tokens and SMs vary

  [[nodiscard]] bool dispatch() const { return load.exchange.kind == Exchange::kDispatch; }
};

/// Time in which DeepEP moved a load at a bandwidth that it prints. The numbers are logical: across
/// nodes they count a copy for every (token, node) pair, the sender's own node included, which goes
/// through no NIC; inside a node one for every (token, GPU) pair, the sender's own GPU included.
/// Dispatch copies count FP8 elements and FP32 scales. So 51 GB/s at 64 GPUs are 7/8 of that, 44.6,
/// on the NIC.
/// Source: DeepEP, README and tests/test_internode.py and test_intranode.py (rdma_send_bytes and
/// nvl_recv_bytes).
Duration published_time(const PortLoad& load, Bandwidth logical);

/// traces/deepep/normal.csv, rows of 2025-04-22 (traces/deepep/README.md says why), on the 24 SMs
/// of DeepEP's benchmarks. Groups of the gate are nodes, of which a token may use the best four.
/// @param model  its experts are exchanged
/// @throws Error for a table that cannot be read
std::vector<MeasuredExchange> published_exchanges(const std::filesystem::path& traces,
                                                  const ModelSpec& model, int gpus_per_node);

/// A table of traces/h100/deepep_normal_*.csv: tokens draw their experts evenly from all nodes.
/// @param file  below `traces`
/// @throws Error for a table that cannot be read
std::vector<MeasuredExchange> timed_exchanges(const std::filesystem::path& traces,
                                              const std::string& file, int gpus_per_node);

inline constexpr const char* kPublishedExchanges = "deepep/normal.csv";
inline constexpr const char* kExchangesInNode = "h100/deepep_normal_1node.csv";
inline constexpr const char* kExchangesAcrossNodes = "h100/deepep_normal_multinode.csv";

/// Nodes of the H100 tables up to which their network was not congested (traces/h100/README.md).
inline constexpr int kUncongestedNodes = 4;

}  // namespace pipecast
