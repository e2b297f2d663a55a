/// Kernels of one GPU in time: streams of launches that wait for one another and share SMs, HBM, L2
/// and links.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
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
  bool again = false;      ///< of a forward phase that a backward pass runs once more
  /// Launches before this one that must have ended, besides the stream's previous one; -1: none.
  std::array<std::int32_t, 2> after = {-1, -1};
};

/// When a launch ran, since the start of its chunk.
struct KernelSpan {
  Duration start;
  Duration end;
};

inline constexpr std::size_t kStreams = 3;

/// What has been started and has not ended, at most one kernel per stream.
struct Running {
  std::array<std::int32_t, kStreams> kernel = {-1, -1, -1};  ///< -1: none
  std::array<std::int32_t, kStreams> order{};                ///< lower: started earlier
};

/// What each kernel has of the GPU while the others run.
struct GpuShares {
  /// Those that its thread blocks are on: of a grid that waits for room, those free so far.
  std::array<int, kStreams> sms{};
  /// How long it takes like that from beginning to end; none while it waits for SMs.
  std::array<std::optional<Duration>, kStreams> time{};
};

/// How kernels share a GPU.
///
/// SMs: kernels of the communication stream that have a grid hold it. The others are served in the
/// order in which they started: a grid of thread blocks that stay waits until it finds room (the
/// first of them takes what there is), blocks that come and go take all that is left.
/// HBM, L2 (bytes to the SMs), NVLink and NIC: max-min fair in bytes. A kernel alone is as fast as
/// its own model says; together they get no more than a link carries, whoever asks for less than a
/// fair share gets it, and a kernel slows by its scarcest share. The SMs of a transfer besides slow
/// by their measured contention while anything computes. Not modelled: thread blocks that drain
/// before others start; caches that neighbours evict.
GpuShares share_gpu(const Running& running, KernelTable& kernels);

/// Plays launches: each starts a launch gap after the last of those it waits for has ended, or at
/// once if it waits for none; whenever a kernel starts or ends, the others go on at what is left to
/// them. Kernels that nobody disturbs take their time to the picosecond.
/// @param launches  each waits for earlier ones only
std::vector<KernelSpan> play(const std::vector<Launch>& launches, KernelTable& kernels);

}  // namespace pipecast
