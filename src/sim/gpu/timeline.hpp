/// Kernels of one GPU in time: streams of launches that wait for one another and share SMs, HBM, L2
/// and links.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "sim/gpu/kernel_table.hpp"

namespace pipecast {

/// One kernel launch of a chunk. Launches of a stream run in their order.
struct Launch {
  std::int32_t kernel = 0;  ///< in the KernelTable
  Stream stream{};
  Phase phase{};
  LayerKind kind{};
  std::int16_t layer = 0;  ///< in the order in which its pass goes through them, from 0
  /// Launches before this one that must have ended, besides the stream's previous one; -1: none.
  std::array<std::int32_t, 2> after = {-1, -1};
};

/// When a launch ran, since the start of its chunk.
struct Span {
  Duration start;
  Duration end;
};

/// Kernels that run at the same time, at most one per stream; -1: none.
using Running = std::array<std::int32_t, 3>;

/// What each of them has of the GPU while the others run, and how long it takes like that from
/// beginning to end.
struct Shares {
  std::array<int, 3> sms{};
  std::array<Duration, 3> time{};
};

/// How kernels share a GPU.
///
/// SMs: kernels of the communication stream hold those of their grid. Of the rest, grids of matrix
/// products hold theirs, and kernels of many thread blocks share what is free; where nothing is
/// free, or grids ask for more than there is, all take turns in proportion to what they ask for.
/// HBM, L2 (bytes to the SMs), NVLink and NIC: max-min fair in bytes. A kernel alone never exceeds
/// a link; together they get no more than it carries, whoever asks for less than a fair share gets
/// it, and a kernel slows by its scarcest share. Transfers besides slow by their measured
/// contention while anything computes.
/// Not modelled: thread blocks that drain before others start; caches that neighbours evict.
Shares share_gpu(const Running& running, KernelTable& kernels);

/// Plays launches: each starts a launch gap after the last of those it waits for has ended, or at
/// once if it waits for none; whenever a kernel starts or ends, the others go on at what is left to
/// them. Kernels that nobody disturbs take their time to the picosecond.
/// @param launches  each waits for earlier ones only
std::vector<Span> play(const std::vector<Launch>& launches, KernelTable& kernels);

}  // namespace pipecast
