/// How far a scenario's main step may grow before a rank's memory does not hold it.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include "app/memory/fullest_rank.hpp"

namespace pipecast {

/// Why one step more does not fit.
struct HeadroomStop {
  double at = 0;              ///< the value that does not fit
  int rank = 0;               ///< fullest there
  Bytes missing{};            ///< on that rank
  MemoryCategory category{};  ///< that grew most on that rank's peak since the smallest value
  Bytes grown{};              ///< by how much; what it holds, where even the smallest is too much
};

/// The largest value that fits on every rank.
struct HeadroomLimit {
  double present = 0;                        ///< of the scenario, whether it fits or not
  std::optional<double> largest{};           ///< none: not even the smallest fits
  std::optional<FullestRank> fullest{};      ///< at the largest
  std::optional<HeadroomStop> stopped_by{};  ///< none: it is the largest that there is
};

struct Headroom {
  std::string phase;  ///< the main one
  std::string schedule;
  int microbatches = 0;
  Bytes capacity{};             ///< of a GPU, for tensors
  HeadroomLimit sequence{};     ///< tokens, in steps of 128
  HeadroomLimit micro_batch{};  ///< sequences, with as many micro-batches as there are
  HeadroomLimit imbalance{};    ///< rows of every rank's fullest GPU over the balanced number, the
                                ///< same in every layer, in steps of 0.01
};

struct HeadroomOptions {
  SimulationMode mode = SimulationMode::kFull;  ///< how many groups the routing is drawn for
  std::uint64_t seed = 1;
  int threads = 1;  ///< for drawing loads; the result does not depend on it
  std::function<void(std::string_view stage, double fraction)> progress{};  ///< may be empty
};

/// Searches by doubling and bisection over planned steps; nothing is simulated, because peaks do
/// not depend on times. Sequence and micro-batch with the scenario's routing.
/// @throws ImpossiblePlan if the main step's schedule cannot run
Headroom find_headroom(const Scenario& scenario, const HeadroomOptions& options);

}  // namespace pipecast
