/// Files with a fabric and collectives on it: `pipecast-fabric/1`.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "app/network/case.hpp"
#include "model/fabric/fabric_kind.hpp"
#include "model/specs/cluster.hpp"

namespace pipecast {

struct FabricCase {
  NetworkCase network;  ///< its plan has the links that are used
  ClusterSpec cluster;
  FabricCount count;
  Usd cost;  ///< of switches and cables, without NICs and NVSwitches
};

/// Whether the file says that it has this format; false, too, for one that cannot be read.
bool is_fabric_case(const std::filesystem::path& path,
                    const config::ReadFile& read = config::read_file);

/// Reads YAML or JSON: `cluster` (which may `extends` a shipped one), `collectives` (each a kind,
/// its GPUs and its bytes or tokens), and `price`.
/// @param sets  arguments of `--set`
/// @throws Error "file:line:column: key: what is wrong and what was expected", ImpossiblePlan where
///         failures leave no way between two GPUs
FabricCase load_fabric_case(const std::filesystem::path& path,
                            const std::vector<std::string>& sets = {},
                            const config::ReadFile& read = config::read_file);

}  // namespace pipecast
