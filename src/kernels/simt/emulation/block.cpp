#include "kernels/simt/emulation/block.hpp"

#include <sys/mman.h>

#include <algorithm>
#include <cstdlib>
#include <mutex>
#include <string>
#include <utility>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#endif

namespace pipecast::kernels::emulation {
namespace {

// A kernel's registers live on its fibre's stack; the sanitizers pad every variable.
#if defined(__SANITIZE_ADDRESS__)
constexpr std::size_t kStackBytes = 512 * 1024;
#else
constexpr std::size_t kStackBytes = 64 * 1024;
#endif
constexpr std::size_t kSharedAlignment = 1024;

/// Stacks of a block's fibres in one mapping, kept for the next block of as many threads.
class StackCache {
 public:
  ~StackCache() {
    for (const auto& [threads, base] : kept_) munmap(base, bytes(threads));
  }
  char* take(int threads) {
    {
      const std::lock_guard lock(mutex_);
      const auto found = std::find_if(kept_.begin(), kept_.end(),
                                      [&](const auto& entry) { return entry.first == threads; });
      if (found != kept_.end()) {
        char* base = found->second;
        kept_.erase(found);
#if defined(__SANITIZE_ADDRESS__)
        __asan_unpoison_memory_region(base, bytes(threads));
#endif
        return base;
      }
    }
    void* base = mmap(nullptr, bytes(threads), PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (base == MAP_FAILED) throw DeviceError("no memory for the stacks of emulated threads");
    return static_cast<char*>(base);
  }
  void give_back(int threads, char* base) {
    const std::lock_guard lock(mutex_);
    kept_.emplace_back(threads, base);
  }

 private:
  static std::size_t bytes(int threads) { return static_cast<std::size_t>(threads) * kStackBytes; }
  std::mutex mutex_;
  std::vector<std::pair<int, char*>> kept_;
};

StackCache& stack_cache() {
  static StackCache cache;
  return cache;
}

/// Boost.Context's allocator for a stack that somebody else owns.
struct BorrowedStack {
  boost::context::stack_context allocate() const { throw DeviceError("stacks are borrowed"); }
  void deallocate(boost::context::stack_context&) const {}
};

thread_local Block* running = nullptr;

/// Thrown in a fibre whose block will not go on.
struct Abandoned {};

}  // namespace

thread_local ThreadPosition position;

Block& current_block() { return *running; }

Block::Block(int index, const LaunchShape& shape, const std::function<void()>& body,
             std::uint64_t seed)
    : body_(body),
      fibres_(static_cast<std::size_t>(shape.block)),
      warps_(static_cast<std::size_t>((shape.block + 31) / 32)),
      random_(seed * 0x9e3779b97f4a7c15ULL + static_cast<std::uint64_t>(index)),
      shuffled_(seed != 0),
      shared_bytes_(shape.shared_bytes),
      live_(shape.block) {
  position_ = {.thread = {},
               .block = {static_cast<unsigned>(index), 0, 0},
               .block_extent = {static_cast<unsigned>(shape.block), 1, 1},
               .grid_extent = {static_cast<unsigned>(shape.grid), 1, 1}};
  if (shared_bytes_ > 0) {
    const std::size_t rounded = (shared_bytes_ + kSharedAlignment - 1) / kSharedAlignment;
    shared_ = static_cast<unsigned char*>(
        std::aligned_alloc(kSharedAlignment, rounded * kSharedAlignment));
    std::memset(shared_, 0xff, shared_bytes_);  // NaN in every format used here
  }
  stacks_ = stack_cache().take(shape.block);
  for (std::size_t warp = 0; warp < warps_.size(); ++warp) {
    warp_order_.push_back(static_cast<int>(warp));
  }
  for (int thread = 0; thread < shape.block; ++thread) start(thread);
}

Block::~Block() {
  // Fibres that a failure left behind leave their functions by an exception.
  abandoned_ = true;
  for (std::size_t thread = 0; thread < fibres_.size(); ++thread) {
    if (!fibres_[thread].done) resume(static_cast<int>(thread));
  }
  stack_cache().give_back(static_cast<int>(position_.block_extent.x), stacks_);
  std::free(shared_);
}

void Block::start(int thread) {
  char* base = stacks_ + static_cast<std::size_t>(thread) * kStackBytes;
  boost::context::stack_context stack;
  stack.size = kStackBytes;
  stack.sp = base + kStackBytes;
  fibres_[static_cast<std::size_t>(thread)].context = boost::context::fiber(
      std::allocator_arg, boost::context::preallocated(stack.sp, stack.size, stack),
      BorrowedStack{}, [this](boost::context::fiber&& scheduler) {
        scheduler_ = std::move(scheduler);
#if defined(__SANITIZE_ADDRESS__)
        __sanitizer_finish_switch_fiber(nullptr, &scheduler_stack_, &scheduler_stack_bytes_);
#endif
        try {
          if (!abandoned_) {
            body_();
            finish_thread();
          }
        } catch (const Abandoned&) {
        } catch (...) {
          if (!failure_) failure_ = std::current_exception();
        }
        fibre().done = true;
        --live_;
#if defined(__SANITIZE_ADDRESS__)
        __sanitizer_start_switch_fiber(nullptr, scheduler_stack_, scheduler_stack_bytes_);
#endif
        return std::move(scheduler_);
      });
}

void Block::resume(int thread) {
  current_ = thread;
  position.thread.x = static_cast<unsigned>(thread);
  Fibre& fibre = fibres_[static_cast<std::size_t>(thread)];
#if defined(__SANITIZE_ADDRESS__)
  void* own = nullptr;
  __sanitizer_start_switch_fiber(&own, stacks_ + static_cast<std::size_t>(thread) * kStackBytes,
                                 kStackBytes);
#endif
  fibre.context = std::move(fibre.context).resume();
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(own, nullptr, nullptr);
#endif
  if (failure_ && !abandoned_) std::rethrow_exception(failure_);
}

void Block::suspend_while(const volatile std::uint32_t* word, std::uint32_t mask,
                          std::uint32_t value) {
  Fibre& self = fibre();
  self.word = word;
  self.mask = mask;
  self.value = value;
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_start_switch_fiber(&self.fake_stack, scheduler_stack_, scheduler_stack_bytes_);
#endif
  scheduler_ = std::move(scheduler_).resume();
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(self.fake_stack, &scheduler_stack_, &scheduler_stack_bytes_);
#endif
  if (abandoned_) throw Abandoned{};
}

bool Block::round() {
  running = this;
  position = position_;
  bool moved = false;
  if (shuffled_) {
    std::shuffle(warp_order_.begin(), warp_order_.end(), random_);
    if (!copies_.empty() && random_() % 2 == 0) moved = land_copies();
  }
  const auto runnable = [&](const Fibre& fibre) {
    return !fibre.done && (fibre.word == nullptr || (*fibre.word & fibre.mask) != fibre.value);
  };
  for (const int warp : warp_order_) {
    const int first = warp * 32;
    const int last = std::min(first + 32, static_cast<int>(fibres_.size()));
    const bool backwards = shuffled_ && random_() % 2 == 0;
    bool again = true;
    while (again) {
      again = false;
      for (int i = first; i < last; ++i) {
        const int thread = backwards ? first + last - 1 - i : i;
        Fibre& fibre = fibres_[static_cast<std::size_t>(thread)];
        if (!runnable(fibre)) continue;
        fibre.word = nullptr;
        resume(thread);
        again = true;
        moved = true;
      }
      // Under a seed a warp may lose its turn at any meeting point, not only where it blocks.
      if (shuffled_ && random_() % 4 == 0) break;
    }
  }
  return moved;
}

bool Block::land_copies() {
  running = this;  // a copy completes at a barrier of this block
  const auto landing = std::exchange(copies_, {});
  for (const auto& copy : landing) copy();
  return !landing.empty();
}

void Block::finish_thread() {
  if (!fibre().stores.empty()) {
    fail("a thread ends while its bulk stores still read shared memory: wait for them");
  }
  Warp& own = warp();
  if (own.issued[static_cast<std::size_t>(current_ % 32)] != 0) {
    fail("a thread ends before waiting for its wgmma");
  }
  if (live_ == 1 && !copies_.empty()) fail("a block ends while a bulk copy is on its way");
}

std::string Block::waiting() const {
  int blocked = 0;
  int first = -1;
  for (std::size_t thread = 0; thread < fibres_.size(); ++thread) {
    if (fibres_[thread].done) continue;
    if (first < 0) first = static_cast<int>(thread);
    ++blocked;
  }
  return "block " + std::to_string(position_.block.x) + ": " + std::to_string(blocked) + " of " +
         std::to_string(fibres_.size()) + " threads wait, thread " + std::to_string(first) +
         " among them";
}

}  // namespace pipecast::kernels::emulation
