/// Phases of a layer as stretches of kernels between points of synchronisation, whose times are
/// functions of the tokens that a GPU received and of the communication beside them.
#pragma once

#include <map>
#include <memory>
#include <tuple>
#include <vector>

#include "sim/gpu/chunk_kernels.hpp"
#include "sim/gpu/chunk_play.hpp"

namespace pipecast {

/// A task before it has its place in a chunk.
struct Segment {
  TaskTimes times{};
  bool communication = false;
  bool collective = false;
  Beside beside{};
  double nic_bytes = 0;
  double nvlink_bytes = 0;
  std::vector<WorkShare> work{};  ///< of times.time[0]
};

/// Segments of one plan's layers. Not for use by several threads at once.
///
/// A computation's time beside something is the sum of its kernels' times beside it, each as
/// share_gpu() has it. For other loads than the balanced one times are interpolated between
/// kernel-by-kernel sums, linearly in routed rows and in received tokens.
/// Not modelled: kernels that are beside several things in turn (a segment as a whole speeds up and
/// slows down); casts on the communication stream that hold up others.
class Segments {
 public:
  /// @param scenario, plan  must outlive this and not change
  Segments(const Scenario& scenario, const PlanSpec& plan, const RoutingStatistics& routing);

  /// At balanced routing.
  const std::vector<Segment>& balanced(LayerKind kind, Phase phase, bool split);

  /// Kernel by kernel at one load.
  const std::vector<Segment>& at(LayerKind kind, Phase phase, bool split, const LayerLoad& load);

  /// At any load, one for each segment; none for segments whose times do not depend on it.
  const std::vector<std::shared_ptr<const LoadCurve>>& curves(LayerKind kind, Phase phase,
                                                              bool split);

  /// Rows of a GPU's experts as a curve counts them: over the balanced load's, less what rounding
  /// up to blocks adds on average.
  [[nodiscard]] double rows_share(double routed_tokens) const;

  [[nodiscard]] ChunkKernels& kernels() { return kernels_; }

 private:
  using Key = std::tuple<LayerKind, Phase, bool>;

  void meet(LayerKind kind, const PlanSpec& plan);
  std::vector<Segment> sums(const std::vector<Launch>& launches);
  Segment computation(const std::vector<Launch>& launches, std::size_t first, std::size_t last);
  Segment exchange(const std::vector<Launch>& launches, std::size_t first, std::size_t last);
  Segment transfer(const Launch& launch);
  Duration time_beside(std::int32_t kernel, Beside beside);
  Duration cast_beside(std::int32_t kernel, Phase phase);
  Duration transfer_beside(const GpuKernelCost& cost, Phase phase);

  ChunkKernels kernels_;
  Duration gap_;
  std::array<std::int32_t, kBesides> neighbour_;  // kernel that stands for what is beside; -1: none
  /// A kernel that an exchange runs beside, and its time beside nothing.
  struct Met {
    std::int32_t kernel = 0;
    Duration time;
  };
  std::array<std::vector<Met>, kPhases> computing_;
  std::map<Key, std::vector<Segment>> balanced_;
  std::map<std::tuple<LayerKind, Phase, bool, std::int64_t, std::int64_t>, std::vector<Segment>>
      at_load_;  // ... routed, received
  std::map<Key, std::vector<std::shared_ptr<const LoadCurve>>> curves_;
};

}  // namespace pipecast
