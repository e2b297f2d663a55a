#pragma once

#include <cstdint>

namespace pipecast::kernels {

/// A kernel of one warp that does nothing: what a launch costs.
void launch_nothing();

/// Copies `bytes`, a multiple of 16, with 16-byte accesses on at most `sms` SMs (0: all).
void copy_bytes(const void* from, void* to, std::int64_t bytes, int sms);

/// Reads `words` 16-byte words `passes` times over on `sms` SMs (0: all): from the L2, if they fit
/// there. Every block reads every word, beginning at another one.
/// @param sums  one per block of read_blocks(sms): the XOR of all 32-bit parts it read, so that no
///              read can be left out
void read_repeatedly(const void* data, std::int64_t words, int passes, std::uint32_t* sums,
                     int sms);
int read_blocks(int sms);

}  // namespace pipecast::kernels
