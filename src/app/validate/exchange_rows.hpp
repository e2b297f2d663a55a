/// Predicted dispatches and combines beside DeepEP's tables.
#pragma once

#include <filesystem>
#include <vector>

#include "app/validate/predictions.hpp"

namespace pipecast {

/// A cluster whose GPUs were measured.
struct CalibratedCluster {
  ClusterSpec cluster;
  CalibrationSpec calibration;
};

/// Dispatch and combine apart: all published H800 rows; those of H100 inside a node by number of
/// SMs, across nodes all of 1 to 4, from one token per GPU on. Notification is not in them.
/// @param h800    its model's experts are exchanged in the published table
/// @param traces  the folder traces/
/// @throws Error for a table that cannot be read
std::vector<ValidationRow> exchange_rows(const Scenario& h800, const CalibratedCluster& h100,
                                         const std::filesystem::path& traces);

}  // namespace pipecast
