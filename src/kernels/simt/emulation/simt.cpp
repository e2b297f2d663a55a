#include "kernels/simt/emulation/simt.hpp"

#include <algorithm>
#include <atomic>
#include <memory>
#include <numeric>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "kernels/simt/emulation/block.hpp"

namespace pipecast::kernels::emulation {
namespace {

std::atomic<std::uint64_t> current_seed{0};

struct Grid {
  LaunchShape shape;
  std::function<void()> body;
};

thread_local std::vector<Grid>* collected = nullptr;
thread_local LaunchShape latest{};

/// Blocks that live at once, on this host thread, until all have ended.
void run_resident(const std::vector<std::unique_ptr<Block>>& blocks) {
  for (;;) {
    bool moved = false;
    bool live = false;
    for (const auto& block : blocks) {
      if (block->finished()) continue;
      live = true;
      moved = block->round() || moved;
    }
    if (!live) return;
    if (moved) continue;
    for (const auto& block : blocks) moved = block->land_copies() || moved;
    if (moved) continue;
    const auto stuck = std::find_if(blocks.begin(), blocks.end(),
                                    [](const auto& block) { return !block->finished(); });
    throw DeviceError("deadlock, a barrier or flag that nobody will satisfy: " +
                      (*stuck)->waiting());
  }
}

}  // namespace

LaunchShape last_launch() { return latest; }

void set_seed(std::uint64_t seed) { current_seed = seed; }

void fail(const char* what) { throw DeviceError(what); }

bool collecting() { return collected != nullptr; }

void run_grid(const LaunchShape& shape, std::function<void()> body) {
  if (shape.grid <= 0 || shape.block <= 0 || shape.block > 1024) {
    fail("a launch needs at least one block of 1 to 1,024 threads");
  }
  latest = shape;
  if (collected != nullptr) {
    collected->push_back({shape, std::move(body)});
    return;
  }
  const std::uint64_t seed = current_seed;
  std::vector<int> order(static_cast<std::size_t>(shape.grid));
  std::iota(order.begin(), order.end(), 0);
  if (seed != 0) std::shuffle(order.begin(), order.end(), std::mt19937_64(seed));
  std::atomic<std::size_t> next{0};
  std::atomic<bool> failed{false};
  std::exception_ptr failure;
  const auto work = [&] {
    try {
      for (std::size_t i = next++; !failed && i < order.size(); i = next++) {
        std::vector<std::unique_ptr<Block>> alone;
        alone.push_back(std::make_unique<Block>(order[i], shape, body, seed));
        run_resident(alone);
      }
    } catch (...) {
      if (!failed.exchange(true)) failure = std::current_exception();
    }
  };
  const std::size_t workers =
      std::min<std::size_t>(order.size(), std::max(1U, std::thread::hardware_concurrency()));
  std::vector<std::thread> others;
  for (std::size_t i = 1; i < workers; ++i) others.emplace_back(work);
  work();
  for (auto& other : others) other.join();
  if (failure) std::rethrow_exception(failure);
}

Together::Together() {
  if (collected != nullptr) fail("launches are already collected");
  collected = new std::vector<Grid>;
}
Together::~Together() {
  delete collected;
  collected = nullptr;
}
void Together::run() {
  const std::uint64_t seed = current_seed;
  std::vector<Grid> grids;
  std::swap(grids, *collected);
  std::vector<std::unique_ptr<Block>> blocks;
  for (std::size_t grid = 0; grid < grids.size(); ++grid) {
    for (int block = 0; block < grids[grid].shape.grid; ++block) {
      blocks.push_back(std::make_unique<Block>(block, grids[grid].shape, grids[grid].body,
                                               seed == 0 ? 0 : seed + 1000 * grid));
    }
  }
  if (seed != 0) std::shuffle(blocks.begin(), blocks.end(), std::mt19937_64(seed));
  run_resident(blocks);
}

void wait_while(const volatile std::uint32_t* word, std::uint32_t mask, std::uint32_t value) {
  current_block().suspend_while(word, mask, value);
}

void block_barrier(int id, int threads, bool wait) {
  if (id < 0 || id > 15) fail("a block has barriers 0 to 15");
  if (threads % 32 != 0 && id != 0) fail("a named barrier takes whole warps");
  Barrier& barrier = current_block().barrier(id);
  if (barrier.arrived == 0) barrier.expected = threads;
  if (barrier.expected != threads) fail("threads disagree on how many a barrier takes");
  const std::uint32_t generation = barrier.generation;
  if (++barrier.arrived == threads) {
    barrier.arrived = 0;
    ++barrier.generation;
  } else if (wait) {
    wait_while(&barrier.generation, ~0U, generation);
  }
}

const std::uint64_t* warp_exchange(unsigned mask, std::uint64_t value) {
  Block& block = current_block();
  const unsigned own = 1U << (block.thread() % 32);
  if ((mask & own) == 0) fail("a lane calls a warp operation whose mask leaves it out");
  auto& exchanges = block.warp().exchanges;
  auto found = std::find_if(exchanges.begin(), exchanges.end(),
                            [&](const WarpExchange& exchange) { return exchange.mask == mask; });
  if (found == exchanges.end()) {
    // Addresses must stay: lanes wait on a generation inside.
    if (exchanges.capacity() == 0) exchanges.reserve(64);
    if (exchanges.size() == exchanges.capacity()) fail("more than 64 masks of lanes in one warp");
    exchanges.push_back({.mask = mask, .arrived = 0, .generation = 0, .values = {}});
    found = exchanges.end() - 1;
  }
  WarpExchange& exchange = *found;
  if ((exchange.arrived & own) != 0) fail("a lane arrives twice at one warp operation");
  const std::uint32_t generation = exchange.generation;
  auto& values = exchange.values[generation % 2];
  values[static_cast<std::size_t>(block.thread() % 32)] = value;
  exchange.arrived |= own;
  if (exchange.arrived == mask) {
    exchange.arrived = 0;
    ++exchange.generation;
  } else {
    wait_while(&exchange.generation, ~0U, generation);
  }
  return values.data();
}

unsigned char* dynamic_shared_memory() { return current_block().shared(); }
std::size_t dynamic_shared_bytes() { return current_block().shared_bytes(); }

}  // namespace pipecast::kernels::emulation
