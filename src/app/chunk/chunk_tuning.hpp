/// The best division of the SMs between communication and computation, and the best order.
#pragma once

#include <array>
#include <functional>
#include <vector>

#include "model/specs/scenario.hpp"
#include "sim/gpu/chunk_kernels.hpp"

namespace pipecast {

using PhaseOrder = std::array<Phase, kPhases>;

/// Launch orders of an overlapped pair, each phase after those of its own pass that it needs: all
/// orders of the six phases of computation, each exchange launched as soon as its input is there.
/// The given order comes first and stands for those that launch the same on every stream.
std::vector<PhaseOrder> launch_orders(const PhaseOrder& own);

/// Whether every phase stands once, and after those of its own pass that it needs.
bool is_launch_order(const PhaseOrder& order);

/// A chunk with so many communication SMs and that order.
struct TuningPoint {
  int communication_sms = 0;
  PhaseOrder order{};
  Duration time;
};

struct ChunkTuning {
  TuningPoint plan;                ///< as the plan has it
  TuningPoint best;                ///< of the curve: the shortest, among equals fewest SMs
  TuningPoint engine;              ///< no SMs: an engine beside them moves the tokens
  std::vector<TuningPoint> curve;  ///< with the best order for each number of SMs
  std::size_t orders = 0;          ///< tried for each number
};

/// Plays the chunk with every even number of SMs from 2 to 64 that is below half of the GPU's, and,
/// if it is an overlapped pair, in every launch order.
/// @param peers_late  as run_chunk()
/// @param progress  gets the fraction done, from any thread
/// @throws Error where no SM communicates
ChunkTuning tune_chunk(const Scenario& scenario, const ChunkShape& shape, Duration peers_late,
                       const std::function<void(double)>& progress);

}  // namespace pipecast
