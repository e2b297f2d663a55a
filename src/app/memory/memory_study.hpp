/// Memory of one scenario's training step, as `pipecast memory` tells it.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "app/forecast/forecast.hpp"

namespace pipecast {

struct MemoryRequest {
  SimulationMode mode = SimulationMode::kFolded;
  std::uint64_t seed = 1;
  int threads = 1;  ///< for drawing loads, and of a full simulation
};

struct MemoryStudy {
  StepForecast step;  ///< of the main phase, at its last batch size
  StepMemory memory;
  Bytes capacity;  ///< of a GPU, for tensors

  [[nodiscard]] Bytes peak() const { return memory.peak(memory.fullest()).totals.total(); }
  [[nodiscard]] bool fits() const { return peak() <= capacity; }
};

/// Simulates one step of the main phase. Whether it fits is for the caller to ask.
/// @throws Error if no phase has tokens or the routing does not fit the model
/// @throws ImpossiblePlan if no schedule of the plan can run
MemoryStudy study_memory(const Scenario& scenario, const MemoryRequest& request);

/// What a rank does at its peak: "F12.3&B4.1", or "gather".
std::string doing_at_peak(const MemoryStudy& study, int rank);

/// Tensors of one name in layers of one kind and stage, in all live chunks.
struct TensorGroup {
  MemoryTensor tensor;  ///< the first of them; position -1: of several layers
  bool live = false;    ///< whether they come and go with chunks
  std::int64_t copies = 1;
  Bytes bytes;
};

/// By bytes, largest first.
/// @param alike  groups only what has the same extents and bytes a copy
std::vector<TensorGroup> tensor_groups(const std::vector<MemoryTensor>& tensors, bool alike);

/// What a user's word means of what a rank holds at its peak.
struct NamedMemory {
  std::vector<MemoryTensor> tensors;
  std::vector<MemoryTensor> on_host;
};

/// @param name  a category, a tensor, or "total"
/// @throws Error that names the nearest, or the ranks that hold it
NamedMemory memory_named(const StepMemory& memory, int rank, const std::string& name);

}  // namespace pipecast
