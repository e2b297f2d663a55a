/// Files with a set of flows to complete: `network-case/1` and `network-packet-case/1`.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "app/config/files.hpp"
#include "sim/network/transfer_plan.hpp"

namespace pipecast {

struct NetworkCase {
  std::string name;
  std::string description;  ///< empty: none
  TransferPlan plan;
};

/// Reads YAML or, where the name ends in .json, JSON.
///
/// network-case/1: `links` (id, bandwidth_Bps) and `flows` (id, links, bytes; optional start_s,
/// latency_s, after, group, weight).
/// network-packet-case/1: one switch with a number of `nics`; flows (src, dst, bytes) cross the
/// sender's `nicN.up` and the receiver's `nicM.down`, both at the rate of payload, after a latency
/// that all share.
/// Results of other simulators in the file (`expected`, `ns3_s`, `fluid_s`) are not read.
/// @param sets  arguments of `--set`
/// @throws Error "file:line:column: key: what is wrong and what was expected"
NetworkCase load_network_case(const std::filesystem::path& path,
                              const std::vector<std::string>& sets = {});

/// The same with files from elsewhere, for tests and fuzzers.
NetworkCase load_network_case(const std::filesystem::path& path,
                              const std::vector<std::string>& sets, const config::ReadFile& read);

}  // namespace pipecast
