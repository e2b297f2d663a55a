/// Counts calls of operator new in the whole program to prove that a running engine makes none.
#include <atomic>
#include <catch2/catch.hpp>
#include <cstdint>
#include <cstdlib>
#include <new>

#include "base/random.hpp"
#include "sim/engine/engine.hpp"

namespace {

std::atomic<std::uint64_t> g_allocations{0};

void* allocate(std::size_t size) {
  g_allocations.fetch_add(1, std::memory_order_relaxed);
  if (void* memory = std::malloc(size == 0 ? 1 : size)) return memory;
  throw std::bad_alloc();
}

void* allocate(std::size_t size, std::align_val_t alignment) {
  g_allocations.fetch_add(1, std::memory_order_relaxed);
  const auto align = static_cast<std::size_t>(alignment);
  if (void* memory = std::aligned_alloc(align, (size + align - 1) / align * align)) return memory;
  throw std::bad_alloc();
}

}  // namespace

void* operator new(std::size_t size) { return allocate(size); }
void* operator new[](std::size_t size) { return allocate(size); }
void* operator new(std::size_t size, std::align_val_t align) { return allocate(size, align); }
void* operator new[](std::size_t size, std::align_val_t align) { return allocate(size, align); }
void* operator new(std::size_t size, const std::nothrow_t&) noexcept {
  g_allocations.fetch_add(1, std::memory_order_relaxed);
  return std::malloc(size == 0 ? 1 : size);
}
void operator delete(void* memory, const std::nothrow_t&) noexcept { std::free(memory); }
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete[](void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }
void operator delete[](void* memory, std::size_t) noexcept { std::free(memory); }
void operator delete(void* memory, std::align_val_t) noexcept { std::free(memory); }
void operator delete[](void* memory, std::align_val_t) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t, std::align_val_t) noexcept { std::free(memory); }
void operator delete[](void* memory, std::size_t, std::align_val_t) noexcept { std::free(memory); }

using namespace pipecast;

TEST_CASE("once warm, an engine that holds its load allocates nothing", "[engine]") {
  const auto pending = GENERATE(as<std::size_t>{}, 10, 1000, 16'384);
  const bool bimodal = GENERATE(false, true);
  CAPTURE(pending, bimodal);
  Random random(5, "allocation");
  const auto delay = [&] {
    const bool far = bimodal && random.below(10) == 0;
    return Duration(static_cast<std::int64_t>(random.below(far ? 1'000'000'000'000 : 1'000'000)));
  };
  Engine engine;
  engine.reserve(pending);
  for (std::size_t i = 0; i < pending; ++i) {
    engine.schedule(Time{} + delay(), EventPhase::kStart, 0, 0);
  }
  const std::uint64_t warm = 40 * pending + 10'000;
  const std::uint64_t last = 2 * warm;
  std::uint64_t before = 0;
  engine.run([&](const Event& event) {
    if (engine.processed() == warm) before = g_allocations.load();
    if (engine.processed() <= last) {
      engine.schedule(event.when + delay(), event.phase, event.kind, event.actor);
    }
  });
  REQUIRE(g_allocations.load() - before == 0);
  engine.assert_drained();
}
