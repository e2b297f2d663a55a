/// The emulation's own laws: each of CUDA's promises that kernels rely on, and each misuse that it
/// finds.
#include <array>
#include <catch2/catch.hpp>
#include <cmath>
#include <cstring>
#include <set>
#include <vector>

#include "kernels/simt/hopper.hpp"
#include "run.hpp"

namespace pipecast::kernels {
namespace {

using namespace testing;
using Catch::Matchers::Contains;

constexpr int kThreads = 128;

struct Words {
  int word[1024];
};

void reverse(int* out) {
  auto& shared = shared_memory<Words>();
  shared.word[thread_index()] = thread_index();
  __syncthreads();
  out[thread_index()] = shared.word[block_size() - 1 - thread_index()];
}

// As above with the barrier forgotten: right or wrong by the order of warps.
void reverse_without_barrier(int* out) {
  auto& shared = shared_memory<Words>();
  shared.word[thread_index()] = thread_index();
  out[thread_index()] = shared.word[block_size() - 1 - thread_index()];
}

void half_of_the_block_syncs() {
  if (thread_index() < block_size() / 2) __syncthreads();
}

void read_unwritten_shared(float* out) {
  struct Floats {
    float value[kThreads];
  };
  out[thread_index()] = shared_memory<Floats>().value[thread_index()];
}

void shuffles(int* out) {
  const int lane = lane_index();
  out[0 * 32 + lane] = __shfl_xor_sync(kAllLanes, lane, 5);
  out[1 * 32 + lane] = __shfl_sync(kAllLanes, lane * 10, 7);
  out[2 * 32 + lane] = __shfl_down_sync(kAllLanes, lane, 3);
  out[3 * 32 + lane] = __shfl_up_sync(kAllLanes, lane, 3);
  out[4 * 32 + lane] = static_cast<int>(__ballot_sync(kAllLanes, lane % 3 == 0));
  // Halves of a warp with masks of their own, the upper with one exchange more.
  const unsigned half = lane < 16 ? 0x0000ffffU : 0xffff0000U;
  int value = lane;
  if (lane >= 16) value = __shfl_xor_sync(half, value, 1);
  out[5 * 32 + lane] = __shfl_xor_sync(half, value, 8);
  out[6 * 32 + lane] = warp_sum(lane);
}

void shuffle_outside_its_mask(int*) { __shfl_sync(lane_index() < 16 ? 0xffffU : ~0xffffU, 1, 31); }

// Warps 0 and 1 hand a value to warps 2 and 3 through barrier 1, which the writers only arrive at.
void hand_over(int* out) {
  auto& shared = shared_memory<Words>();
  if (warp_index() < 2) {
    shared.word[thread_index()] = 7 * thread_index();
    named_barrier_arrive(1, kThreads);
  } else {
    named_barrier_sync(1, kThreads);
    out[thread_index() - 64] = shared.word[thread_index() - 64];
  }
}

void disagree_on_a_barrier() { named_barrier_sync(2, warp_index() == 0 ? 64 : 128); }

struct OneCopy {
  alignas(1024) std::uint8_t box[8][128];
  Mbarrier full;
};

// A box by bulk tensor copy, awaited or not.
void load_box(TensorMap map, std::uint8_t* out, int column, int row, bool wait) {
  auto& shared = shared_memory<OneCopy>();
  if (thread_index() == 0) {
    mbarrier_init(&shared.full, 1);
    mbarrier_expect(&shared.full, sizeof shared.box);
    tma_load(shared.box, map, column, row, &shared.full);
  }
  __syncthreads();
  if (wait) mbarrier_wait(&shared.full, 0);
  for (int i = thread_index(); i < 1024; i += block_size()) out[i] = (&shared.box[0][0])[i];
  __syncthreads();
  mbarrier_wait(&shared.full, 0);
}

void store_box(TensorMap map, int column, int row, bool overwrite_before_wait) {
  auto& shared = shared_memory<OneCopy>();
  for (int i = thread_index(); i < 1024; i += block_size()) {
    (&shared.box[0][0])[i] = static_cast<std::uint8_t>(i % 251);
  }
  fence_async_proxy();
  __syncthreads();
  if (thread_index() != 0) return;
  tma_store(map, shared.box, column, row);
  bulk_commit();
  if (overwrite_before_wait) std::memset(shared.box, 255, sizeof shared.box);
  bulk_wait<0>();
}

void leave_a_store_behind(TensorMap map) {
  auto& shared = shared_memory<OneCopy>();
  tma_store(map, shared.box, 0, 0);
}

void use_an_uninitialised_mbarrier() { mbarrier_arrive(&shared_memory<OneCopy>().full); }

void arrive_too_often() {
  auto& shared = shared_memory<OneCopy>();
  if (thread_index() == 0) {
    mbarrier_init(&shared.full, 2);
    mbarrier_expect(&shared.full, 16);
    mbarrier_arrive(&shared.full);
    mbarrier_arrive(&shared.full);
  }
}

void expect_bytes_that_never_come() {
  auto& shared = shared_memory<OneCopy>();
  mbarrier_init(&shared.full, 1);
  mbarrier_expect(&shared.full, 16);
  mbarrier_wait(&shared.full, 0);
}

// One producer thread, one consumer, a ring of two words: `rounds` values arrive in order.
void ring(int* out, int rounds) {
  struct Ring {
    int value[2];
    Mbarrier full[2];
    Mbarrier empty[2];
  };
  auto& shared = shared_memory<Ring>();
  if (thread_index() == 0) {
    for (int stage = 0; stage < 2; ++stage) {
      mbarrier_init(&shared.full[stage], 1);
      mbarrier_init(&shared.empty[stage], 1);
    }
  }
  __syncthreads();
  for (int i = 0; i < rounds; ++i) {
    const int stage = i % 2;
    const int parity = i / 2 % 2;
    if (thread_index() == 32) {
      mbarrier_wait(&shared.empty[stage], parity ^ 1);
      shared.value[stage] = 3 * i;
      mbarrier_arrive(&shared.full[stage]);
    } else if (thread_index() == 0) {
      mbarrier_wait(&shared.full[stage], parity);
      out[i] = shared.value[stage];
      mbarrier_arrive(&shared.empty[stage]);
    }
  }
}

enum class Misuse { kNone, kNoFence, kNoWait, kUneven, kEarlyRead };

struct Operands {
  alignas(1024) std::uint8_t a[64][128];
  alignas(1024) std::uint8_t b[64][128];
};

// All ones: every accumulator becomes 32.
void one_wgmma(float* out, Misuse misuse) {
  auto& shared = shared_memory<Operands>();
  for (int i = thread_index(); i < 64 * 128; i += block_size()) {
    (&shared.a[0][0])[i] = to_e4m3(1.0F).bits;
    (&shared.b[0][0])[i] = to_e4m3(1.0F).bits;
  }
  fence_async_proxy();
  __syncthreads();
  float d[32];
  for (float& value : d) value = -1.0F;
  if (misuse != Misuse::kNoFence) wgmma_fence();
  const int uneven = misuse == Misuse::kUneven && lane_index() == 3 ? 32 : 0;
  wgmma_e4m3<64>(d, k_major(shared.a), k_major(&shared.b[0][uneven]), false);
  wgmma_commit();
  if (misuse == Misuse::kEarlyRead) out[thread_index()] = d[0];
  if (misuse != Misuse::kNoWait) wgmma_wait<0>();
  if (misuse != Misuse::kEarlyRead) out[thread_index()] = d[31];
}

// Each of two grids of one block raises its own flag and waits for the other's.
void meet(std::uint32_t* mine, const std::uint32_t* other, int* met) {
  if (thread_index() == 0) {
    store_release_system(mine, 1);
    wait_until_system(other, 1);
    *met = 1;
  }
}

void each_block_once(int* counts) {
  if (thread_index() == 0) atomicAdd(counts + block_index(), 1);
}

void write_past_the_launch() { shared_memory<Words>(); }

Buffer<std::uint8_t> matrix(int rows, int columns) {
  Buffer<std::uint8_t> values(static_cast<std::size_t>(rows * columns));
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = static_cast<std::uint8_t>(i % 253);
  return values;
}
TensorMap swizzled_map(const Buffer<std::uint8_t>& values, int rows, int columns) {
  return make_tensor_map(
      {values.data(), Element::kByte, rows, columns, columns, 8, 128, Swizzle::k128Bytes});
}

}  // namespace

TEST_CASE("a barrier of the block separates writes from reads in every order", "[emulation]") {
  in_every_order([] {
    Buffer<int> out(kThreads);
    launch(reverse, {1, kThreads, sizeof(Words)}, out.data());
    for (int i = 0; i < kThreads; ++i) {
      REQUIRE(out[static_cast<std::size_t>(i)] == kThreads - 1 - i);
    }
  });
}

TEST_CASE("a forgotten barrier shows as results that depend on the order", "[emulation]") {
  std::set<std::vector<int>> results;
  in_every_order([&] {
    Buffer<int> out(kThreads);
    launch(reverse_without_barrier, {1, kThreads, sizeof(Words)}, out.data());
    results.emplace(out.begin(), out.end());
  });
  REQUIRE(results.size() > 1);
}

TEST_CASE("a barrier that half of the block reaches is a deadlock", "[emulation]") {
  in_every_order([] {
    REQUIRE_THROWS_WITH(launch(half_of_the_block_syncs, {1, kThreads, 0}),
                        Contains("deadlock") && Contains("64 of 128 threads wait"));
  });
}

TEST_CASE("shared memory starts as NaN in every block", "[emulation]") {
  Buffer<float> out(kThreads);
  launch(read_unwritten_shared, {1, kThreads, kThreads * sizeof(float)}, out.data());
  for (const float value : out) REQUIRE(std::isnan(value));
}

TEST_CASE("shared memory past the launch's is refused", "[emulation]") {
  REQUIRE_THROWS_WITH(launch(write_past_the_launch, {1, 32, 64}),
                      Contains("less dynamic shared memory"));
}

TEST_CASE("shuffles and ballots exchange as CUDA defines them", "[emulation]") {
  in_every_order([] {
    Buffer<int> out(7 * 32);
    launch(shuffles, {1, 32, 0}, out.data());
    unsigned thirds = 0;
    for (unsigned lane = 0; lane < 32; lane += 3) thirds |= 1U << lane;
    for (int lane = 0; lane < 32; ++lane) {
      CAPTURE(lane);
      const auto row = [&](int i) { return out[static_cast<std::size_t>(i * 32 + lane)]; };
      REQUIRE(row(0) == (lane ^ 5));
      REQUIRE(row(1) == 70);
      REQUIRE(row(2) == (lane + 3 < 32 ? lane + 3 : lane));
      REQUIRE(row(3) == (lane >= 3 ? lane - 3 : lane));
      REQUIRE(row(4) == static_cast<int>(thirds));
      REQUIRE(row(5) == (lane < 16 ? lane ^ 8 : lane ^ 9));
      REQUIRE(row(6) == 31 * 32 / 2);
    }
  });
}

TEST_CASE("a shuffle from a lane outside the mask is refused", "[emulation]") {
  Buffer<int> out(32);
  REQUIRE_THROWS_WITH(launch(shuffle_outside_its_mask, {1, 32, 0}, out.data()),
                      Contains("outside the mask"));
}

TEST_CASE("a named barrier hands over from those that arrive to those that wait", "[emulation]") {
  in_every_order([] {
    Buffer<int> out(64);
    launch(hand_over, {1, kThreads, sizeof(Words)}, out.data());
    for (int i = 0; i < 64; ++i) REQUIRE(out[static_cast<std::size_t>(i)] == 7 * i);
  });
}

TEST_CASE("threads must agree on how many a barrier takes", "[emulation]") {
  REQUIRE_THROWS_WITH(launch(disagree_on_a_barrier, {1, kThreads, 0}), Contains("disagree"));
}

TEST_CASE("every block of a grid runs once, in every order", "[emulation]") {
  in_every_order([] {
    const int blocks = 37;
    Buffer<int> counts(std::vector<int>(static_cast<std::size_t>(blocks), 0));
    launch(each_block_once, {blocks, 32, 0}, counts.data());
    for (const int count : counts) REQUIRE(count == 1);
  });
}

TEST_CASE("a tensor copy swizzles 128-byte rows and fills with zeros outside", "[emulation]") {
  const int rows = 13;
  const int columns = 144;
  const auto values = matrix(rows, columns);
  const auto [column, row] = GENERATE(std::pair{0, 0}, std::pair{128, 8}, std::pair{16, 5});
  CAPTURE(column, row);
  in_every_order([&, column = column, row = row] {
    Buffer<std::uint8_t> out(1024);
    launch(load_box, {1, kThreads, sizeof(OneCopy)}, swizzled_map(values, rows, columns),
           out.data(), column, row, true);
    for (int r = 0; r < 8; ++r) {
      for (int c = 0; c < 128; ++c) {
        // 16-byte piece p of row r lies where piece p ^ (r mod 8) would.
        const int at = r * 128 + ((c / 16) ^ (r % 8)) * 16 + c % 16;
        const bool inside = row + r < rows && column + c < columns;
        const int expected = inside ? ((row + r) * columns + column + c) % 253 : 0;
        REQUIRE(out[static_cast<std::size_t>(at)] == expected);
      }
    }
  });
}

TEST_CASE("a copy that nobody waits for has not landed in the plain order", "[emulation]") {
  const auto values = matrix(8, 128);
  Buffer<std::uint8_t> out(1024);
  choose_order(0);
  launch(load_box, {1, kThreads, sizeof(OneCopy)}, swizzled_map(values, 8, 128), out.data(), 0, 0,
         false);
  for (const std::uint8_t value : out) REQUIRE(value == 0xff);
}

TEST_CASE("a tensor store writes inside the matrix only", "[emulation]") {
  const int rows = 10;
  const int columns = 144;
  Buffer<std::uint8_t> values(static_cast<std::size_t>(rows * columns));
  launch(store_box, {1, kThreads, sizeof(OneCopy)}, swizzled_map(values, rows, columns), 128, 6,
         false);
  for (int r = 0; r < rows; ++r) {
    for (int c = 0; c < columns; ++c) {
      const int box_row = r - 6;
      const int box_column = c - 128;
      const int at = box_row * 128 + ((box_column / 16) ^ (box_row % 8)) * 16 + box_column % 16;
      const int expected = box_row >= 0 && box_column >= 0 ? at % 251 : 0xff;
      REQUIRE(values[static_cast<std::size_t>(r * columns + c)] == expected);
    }
  }
}

TEST_CASE("a store's source overwritten before its wait is seen", "[emulation]") {
  Buffer<std::uint8_t> values(1024);
  launch(store_box, {1, kThreads, sizeof(OneCopy)}, swizzled_map(values, 8, 128), 0, 0, true);
  for (const std::uint8_t value : values) REQUIRE(value == 255);
}

TEST_CASE("a thread may not end while its stores read shared memory", "[emulation]") {
  Buffer<std::uint8_t> values(1024);
  REQUIRE_THROWS_WITH(
      launch(leave_a_store_behind, {1, 32, sizeof(OneCopy)}, swizzled_map(values, 8, 128)),
      Contains("bulk stores"));
}

TEST_CASE("tensor maps that the hardware refuses are refused", "[emulation]") {
  const auto values = matrix(8, 128);
  const auto map = [&](int stride, int box_columns, int offset) {
    return make_tensor_map({values.data() + offset, Element::kByte, 8, 128, stride, 8, box_columns,
                            Swizzle::k128Bytes});
  };
  REQUIRE_THROWS_WITH(map(120, 128, 0), Contains("16 bytes apart"));
  REQUIRE_THROWS_WITH(map(128, 64, 0), Contains("128 bytes wide"));
  REQUIRE_THROWS_WITH(map(128, 128, 8), Contains("starts at a multiple of 16"));
  REQUIRE_THROWS_WITH(map(128, 512, 0), Contains("1 to 256"));
}

TEST_CASE("an mbarrier counts arrivals and bytes, and refuses misuse", "[emulation]") {
  REQUIRE_THROWS_WITH(launch(use_an_uninitialised_mbarrier, {1, 1, sizeof(OneCopy)}),
                      Contains("before its initialisation"));
  REQUIRE_THROWS_WITH(launch(arrive_too_often, {1, 32, sizeof(OneCopy)}),
                      Contains("more arrivals"));
  REQUIRE_THROWS_WITH(launch(expect_bytes_that_never_come, {1, 1, sizeof(OneCopy)}),
                      Contains("deadlock"));
}

TEST_CASE("a ring of mbarriers keeps its phases over many rounds", "[emulation]") {
  in_every_order([] {
    const int rounds = 23;
    Buffer<int> out(static_cast<std::size_t>(rounds));
    launch(ring, {1, 64, 64}, out.data(), rounds);
    for (int i = 0; i < rounds; ++i) REQUIRE(out[static_cast<std::size_t>(i)] == 3 * i);
  });
}

TEST_CASE("a wgmma happens at its wait, and misuse is refused", "[emulation]") {
  const auto run = [](Misuse misuse) {
    Buffer<float> out(kThreads);
    launch(one_wgmma, {1, kThreads, sizeof(Operands)}, out.data(), misuse);
    return std::vector<float>(out.begin(), out.end());
  };
  in_every_order([&] {
    REQUIRE(run(Misuse::kNone) == std::vector<float>(kThreads, 32.0F));
    REQUIRE(run(Misuse::kEarlyRead) == std::vector<float>(kThreads, -1.0F));
    REQUIRE_THROWS_WITH(run(Misuse::kNoFence), Contains("without a wgmma_fence"));
    REQUIRE_THROWS_WITH(run(Misuse::kNoWait), Contains("before waiting for its wgmma"));
    REQUIRE_THROWS_WITH(run(Misuse::kUneven), Contains("different operands"));
  });
}

TEST_CASE("grids that run together may wait for each other, one alone may not", "[emulation]") {
  in_every_order([] {
    Buffer<std::uint32_t> flags(std::vector<std::uint32_t>(2, 0));
    Buffer<int> met(std::vector<int>(2, 0));
    emulation::Together together;
    launch(meet, {1, 32, 0}, &flags[0], &flags[1], &met[0]);
    launch(meet, {1, 32, 0}, &flags[1], &flags[0], &met[1]);
    together.run();
    REQUIRE(met[0] + met[1] == 2);
  });
  Buffer<std::uint32_t> flags(std::vector<std::uint32_t>(2, 0));
  Buffer<int> met(1);
  REQUIRE_THROWS_WITH(launch(meet, {1, 32, 0}, &flags[0], &flags[1], met.data()),
                      Contains("deadlock"));
}

TEST_CASE("a launch's shape is checked", "[emulation]") {
  REQUIRE_THROWS_WITH(launch(half_of_the_block_syncs, {0, 32, 0}), Contains("at least one block"));
  REQUIRE_THROWS_WITH(launch(half_of_the_block_syncs, {1, 2048, 0}), Contains("1,024 threads"));
}

}  // namespace pipecast::kernels
