#pragma once

/// Inside of the emulation: one block of CUDA threads as fibres. Not for kernels.
#include <array>
#include <boost/context/fiber.hpp>
#include <cstdint>
#include <exception>
#include <functional>
#include <random>
#include <vector>

#include "kernels/simt/emulation/simt.hpp"

namespace pipecast::kernels::emulation {

/// Threads that arrive, count or mask, and a generation that steps when all have.
struct Barrier {
  std::uint32_t generation = 0;
  int arrived = 0;
  int expected = 0;
};

/// A warp's meeting point for one mask of lanes. Two buffers: a lane that runs ahead to the next
/// exchange does not overwrite what others still read.
struct WarpExchange {
  unsigned mask = 0;
  unsigned arrived = 0;
  std::uint32_t generation = 0;
  std::array<std::array<std::uint64_t, 32>, 2> values{};
};

/// A wgmma issued and not yet executed: it runs when the warp waits for its group.
struct PendingProduct {
  enum class Kind : std::uint8_t { kE4m3, kBf16 };
  Kind kind{};
  int columns = 0;
  std::uint64_t a = 0;  // descriptor; unused where the left operand is in registers
  std::uint64_t b = 0;
  bool a_in_registers = false;
  bool a_transposed = false;
  bool b_transposed = false;
  bool accumulate = false;
  int group = 0;
  std::array<float*, 32> accumulators{};
  std::array<std::array<std::uint32_t, 4>, 32> fragments{};
};

struct Warp {
  std::vector<WarpExchange> exchanges;
  std::vector<PendingProduct> products;
  std::array<int, 32> issued{};  // products that each lane has issued and that still wait
  std::array<int, 32> groups{};
  std::array<bool, 32> fenced{};
};

/// Bulk stores of one thread, which read shared memory as late as their wait allows.
struct PendingStore {
  int group = 0;
  std::function<void()> write;
};

struct Fibre {
  boost::context::fiber context;
  const volatile std::uint32_t* word = nullptr;  // blocked while (*word & mask) == value
  std::uint32_t mask = 0;
  std::uint32_t value = 0;
  bool done = false;
  int store_group = 0;
  std::vector<PendingStore> stores;
  void* fake_stack = nullptr;  // AddressSanitizer's
};

class Stacks;

class Block {
 public:
  Block(int index, const LaunchShape& shape, const std::function<void()>& body, std::uint64_t seed);
  ~Block();
  Block(const Block&) = delete;
  Block& operator=(const Block&) = delete;

  /// Runs every fibre that can run, once over all warps. Returns whether anything moved.
  bool round();
  /// Lands all bulk copies. Returns whether there were any.
  bool land_copies();
  bool finished() const { return live_ == 0; }
  /// What its threads wait for, for the message of a deadlock.
  std::string waiting() const;

  // For the fibre that runs now.
  void suspend_while(const volatile std::uint32_t* word, std::uint32_t mask, std::uint32_t value);
  Warp& warp() { return warps_[static_cast<std::size_t>(current_ / 32)]; }
  Fibre& fibre() { return fibres_[static_cast<std::size_t>(current_)]; }
  int thread() const { return current_; }
  Barrier& barrier(int id) { return barriers_[static_cast<std::size_t>(id)]; }
  void copy_later(std::function<void()> copy) { copies_.push_back(std::move(copy)); }
  unsigned char* shared() { return shared_; }
  std::size_t shared_bytes() const { return shared_bytes_; }

 private:
  void start(int thread);
  void resume(int thread);
  void finish_thread();

  const std::function<void()>& body_;
  ThreadPosition position_;
  std::vector<Fibre> fibres_;
  std::vector<Warp> warps_;
  std::array<Barrier, 16> barriers_{};
  std::vector<std::function<void()>> copies_;
  std::vector<int> warp_order_;
  std::mt19937_64 random_;
  bool shuffled_ = false;
  unsigned char* shared_ = nullptr;
  std::size_t shared_bytes_ = 0;
  char* stacks_ = nullptr;
  boost::context::fiber scheduler_;
  int current_ = 0;
  int live_ = 0;
  std::exception_ptr failure_;
  bool abandoned_ = false;
  const void* scheduler_stack_ = nullptr;  // AddressSanitizer's
  std::size_t scheduler_stack_bytes_ = 0;
};

/// The block whose fibre runs on this host thread.
Block& current_block();

}  // namespace pipecast::kernels::emulation
