#include "kernels/simt/hopper.hpp"

#include <algorithm>
#include <cstring>
#include <vector>

#include "kernels/numbers/tensor_core.hpp"
#include "kernels/simt/emulation/block.hpp"

namespace pipecast::kernels {
namespace {

using emulation::current_block;
using emulation::fail;

// An mbarrier's 64 bits here: in the first word the phase's parity (bit 0), arrivals that a phase
// takes (bits 1 to 14) and those still pending (15 to 28); the second word counts pending bytes.
// The first word's top bit is set in memory that nobody initialised.
constexpr unsigned kCountShift = 1;
constexpr unsigned kPendingShift = 15;
constexpr unsigned kFieldMask = (1U << 14) - 1;
constexpr unsigned kUninitialised = 1U << 31;
constexpr std::int32_t kMostBytes = (1 << 20) - 1;

struct BarrierWords {
  std::uint32_t state;
  std::int32_t bytes;
};
static_assert(sizeof(BarrierWords) == sizeof(Mbarrier));

BarrierWords& words(Mbarrier* bar) {
  static_cast<void>(shared_address(bar));
  auto& both = *reinterpret_cast<BarrierWords*>(bar);
  if ((both.state & kUninitialised) != 0) fail("an mbarrier is used before its initialisation");
  return both;
}

unsigned pending(const BarrierWords& bar) { return bar.state >> kPendingShift & kFieldMask; }

void arrive(BarrierWords& bar) {
  if (pending(bar) == 0) fail("more arrivals at an mbarrier than it was initialised for");
  bar.state -= 1U << kPendingShift;
}

void complete_if_done(BarrierWords& bar) {
  if (pending(bar) != 0 || bar.bytes != 0) return;
  const unsigned count = bar.state >> kCountShift & kFieldMask;
  bar.state = ((bar.state & 1U) ^ 1U) | count << kCountShift | count << kPendingShift;
}

void land(Mbarrier* bar, int bytes) {
  BarrierWords& both = words(bar);
  both.bytes -= bytes;
  complete_if_done(both);
}

/// The 128-byte swizzle: bits 4 to 6 of an address in shared memory are exchanged by bits 7 to 9.
std::uint32_t swizzled(std::uint32_t address) { return address ^ ((address >> 7 & 7U) << 4); }

constexpr std::uint32_t kSharedStart = 1024;

unsigned char* at_shared(std::uint32_t address) {
  emulation::Block& block = current_block();
  if (address < kSharedStart || address - kSharedStart >= block.shared_bytes()) {
    fail("a descriptor or copy leaves shared memory");
  }
  return block.shared() + (address - kSharedStart);
}

/// Calls `move(shared piece, global byte offset or -1 where outside)` for every 16 bytes of the
/// box.
template <class Move>
void for_each_piece(const MatrixWindow& window, std::uint32_t start, int column, int row,
                    const Move& move) {
  const int width = window.box_columns * bytes_of(window.element);
  const std::int64_t columns_bytes = window.columns * bytes_of(window.element);
  for (int r = 0; r < window.box_rows; ++r) {
    for (int offset = 0; offset < width; offset += 16) {
      std::uint32_t address = start + static_cast<std::uint32_t>(r * width + offset);
      if (window.swizzle == Swizzle::k128Bytes) address = swizzled(address);
      const std::int64_t x = static_cast<std::int64_t>(column) * bytes_of(window.element) + offset;
      const std::int64_t y = static_cast<std::int64_t>(row) + r;
      const bool inside = y >= 0 && y < window.rows && x >= 0 && x < columns_bytes;
      const int bytes =
          inside ? static_cast<int>(std::min<std::int64_t>(16, columns_bytes - x)) : 0;
      move(at_shared(address), y * window.row_stride * bytes_of(window.element) + x, bytes);
    }
  }
}

int box_bytes(const MatrixWindow& window) {
  return window.box_rows * window.box_columns * bytes_of(window.element);
}

void check_box_address(const MatrixWindow& window, std::uint32_t address) {
  const std::uint32_t alignment = window.swizzle == Swizzle::k128Bytes ? 1024 : 128;
  if (address % alignment != 0) fail("the box of a tensor copy is not aligned in shared memory");
}

/// An operand in shared memory, read through its descriptor.
class SharedOperand {
 public:
  SharedOperand(std::uint64_t descriptor, bool mn_major, int element_bytes)
      : start_(static_cast<std::uint32_t>(descriptor & 0x3fffU) << 4),
        leading_(static_cast<std::uint32_t>(descriptor >> 16 & 0x3fffU) << 4),
        stride_(static_cast<std::uint32_t>(descriptor >> 32 & 0x3fffU) << 4),
        mn_major_(mn_major),
        element_bytes_(element_bytes) {
    if (descriptor >> 62 != 1) fail("only descriptors of the 128-byte swizzle are emulated");
    if ((descriptor >> 49 & 7U) != 0) fail("a descriptor's base offset is not emulated");
  }
  /// @param row  index along M or N
  const unsigned char* at(int row, int k) const {
    const auto r = static_cast<std::uint32_t>(row);
    const auto depth = static_cast<std::uint32_t>(k);
    const auto bytes = static_cast<std::uint32_t>(element_bytes_);
    const std::uint32_t address =
        mn_major_
            ? start_ + r / 64 * leading_ + depth / 8 * stride_ + depth % 8 * 128 + r % 64 * bytes
            : start_ + r / 8 * stride_ + r % 8 * 128 + depth * bytes;
    return at_shared(swizzled(address));
  }

 private:
  std::uint32_t start_;
  std::uint32_t leading_;
  std::uint32_t stride_;
  bool mn_major_;
  int element_bytes_;
};

constexpr int kWarpRows = 16;
constexpr int kFp8Depth = 32;
constexpr int kBf16Depth = 16;

/// Accumulator of a row and column of the warp's 16 x N part.
float& accumulator(const emulation::PendingProduct& product, int row, int column) {
  const int lane = row % 8 * 4 + column % 8 / 2;
  const int index = column / 8 * 4 + row / 8 * 2 + column % 2;
  return product.accumulators[static_cast<std::size_t>(lane)][index];
}

Fp8Operands fp8_row(const SharedOperand& operand, int row) {
  E4m3 codes[kFp8Depth];
  for (int k = 0; k < kFp8Depth; k += 16) std::memcpy(codes + k, operand.at(row, k), 16);
  return unpack(codes);
}

void execute_fp8(const emulation::PendingProduct& product, int first_row) {
  const SharedOperand a(product.a, false, 1);
  const SharedOperand b(product.b, false, 1);
  static thread_local std::vector<Fp8Operands> columns;
  columns.clear();
  for (int column = 0; column < product.columns; ++column) columns.push_back(fp8_row(b, column));
  for (int row = 0; row < kWarpRows; ++row) {
    const Fp8Operands left = fp8_row(a, first_row + row);
    for (int column = 0; column < product.columns; ++column) {
      float& sum = accumulator(product, row, column);
      sum = accumulate(product.accumulate ? sum : 0.0F, left,
                       columns[static_cast<std::size_t>(column)], kHopperFractionBits);
    }
  }
}

float bf16_at(const SharedOperand& operand, int row, int k) {
  Bf16 value;
  std::memcpy(&value, operand.at(row, k), sizeof value);
  return to_float(value);
}

/// Element (row, k) of a fragment held by the lanes of a warp.
float fragment_at(const emulation::PendingProduct& product, int row, int k) {
  const auto lane = static_cast<std::size_t>(row % 8 * 4 + k % 8 / 2);
  const std::uint32_t word = product.fragments[lane][static_cast<std::size_t>(k / 8 * 2 + row / 8)];
  return to_float(Bf16{static_cast<std::uint16_t>(k % 2 == 0 ? word : word >> 16)});
}

void execute_bf16(const emulation::PendingProduct& product, int first_row) {
  const SharedOperand b(product.b, product.b_transposed, 2);
  static thread_local std::vector<float> right;
  right.assign(static_cast<std::size_t>(product.columns) * kBf16Depth, 0.0F);
  for (int column = 0; column < product.columns; ++column) {
    for (int k = 0; k < kBf16Depth; ++k) {
      right[static_cast<std::size_t>(column * kBf16Depth + k)] = bf16_at(b, column, k);
    }
  }
  for (int row = 0; row < kWarpRows; ++row) {
    float left[kBf16Depth];
    for (int k = 0; k < kBf16Depth; ++k) {
      left[k] = product.a_in_registers ? fragment_at(product, row, k)
                                       : bf16_at(SharedOperand(product.a, product.a_transposed, 2),
                                                 first_row + row, k);
    }
    for (int column = 0; column < product.columns; ++column) {
      float& sum = accumulator(product, row, column);
      double total = product.accumulate ? static_cast<double>(sum) : 0.0;
      const float* values = right.data() + static_cast<std::ptrdiff_t>(column) * kBf16Depth;
      for (int k = 0; k < kBf16Depth; ++k) {
        total += static_cast<double>(left[k]) * static_cast<double>(values[k]);
      }
      sum = static_cast<float>(total);
    }
  }
}

std::size_t own_lane() { return static_cast<std::size_t>(current_block().thread() % 32); }

}  // namespace

TensorMap make_tensor_map(const MatrixWindow& window) {
  const std::int64_t element = bytes_of(window.element);
  if (reinterpret_cast<std::uintptr_t>(window.base) % 16 != 0) {
    fail("the matrix of a tensor map starts at a multiple of 16 bytes");
  }
  if (window.row_stride * element % 16 != 0) fail("rows of a tensor map are 16 bytes apart");
  if (window.rows <= 0 || window.columns <= 0) fail("the matrix of a tensor map is empty");
  if (window.box_rows <= 0 || window.box_rows > 256 || window.box_columns <= 0 ||
      window.box_columns > 256) {
    fail("the box of a tensor map has 1 to 256 elements a side");
  }
  if (window.box_columns * element % 16 != 0) fail("a box is a multiple of 16 bytes wide");
  if (window.swizzle == Swizzle::k128Bytes && window.box_columns * element != 128) {
    fail("a swizzled box is 128 bytes wide");
  }
  return {window};
}

void mbarrier_init(Mbarrier* bar, int arrivals) {
  static_cast<void>(shared_address(bar));
  if (arrivals <= 0 || arrivals > static_cast<int>(kFieldMask)) fail("arrivals of an mbarrier");
  const auto count = static_cast<std::uint32_t>(arrivals);
  *reinterpret_cast<BarrierWords*>(bar) = {count << kCountShift | count << kPendingShift, 0};
}

void mbarrier_arrive(Mbarrier* bar) {
  BarrierWords& both = words(bar);
  arrive(both);
  complete_if_done(both);
}

void mbarrier_expect(Mbarrier* bar, int bytes) {
  BarrierWords& both = words(bar);
  if (bytes < 0 || both.bytes + bytes > kMostBytes) fail("an mbarrier expects below 1 MiB");
  both.bytes += bytes;
  arrive(both);
  complete_if_done(both);
}

void mbarrier_wait(Mbarrier* bar, int parity) {
  const auto expected = static_cast<std::uint32_t>(parity);
  while ((words(bar).state & 1U) == expected) {
    emulation::wait_while(&words(bar).state, 1U, expected);
  }
}

void tma_load(void* destination, const TensorMap& map, int column, int row, Mbarrier* bar) {
  const std::uint32_t start = shared_address(destination);
  check_box_address(map.window, start);
  words(bar);
  current_block().copy_later([window = map.window, start, column, row, bar] {
    for_each_piece(window, start, column, row,
                   [&](unsigned char* piece, std::int64_t offset, int bytes) {
                     std::memset(piece, 0, 16);
                     if (bytes > 0) {
                       std::memcpy(piece, static_cast<const char*>(window.base) + offset,
                                   static_cast<std::size_t>(bytes));
                     }
                   });
    land(bar, box_bytes(window));
  });
}

void bulk_load(void* destination, const void* source, int bytes, Mbarrier* bar) {
  const std::uint32_t start = shared_address(destination);
  if (bytes % 16 != 0 || start % 16 != 0 || reinterpret_cast<std::uintptr_t>(source) % 16 != 0) {
    fail("a bulk copy moves multiples of 16 bytes between multiples of 16");
  }
  words(bar);
  static_cast<void>(at_shared(start + static_cast<std::uint32_t>(bytes) - 1));
  current_block().copy_later([destination, source, bytes, bar] {
    std::memcpy(destination, source, static_cast<std::size_t>(bytes));
    land(bar, bytes);
  });
}

namespace {

/// Takes a box to the matrix when the thread waits for its stores; `put(place, piece, bytes)` does
/// so for at most 16 bytes of it.
template <class Put>
void store_later(const TensorMap& map, const void* source, int column, int row, const Put& put) {
  const std::uint32_t start = shared_address(source);
  check_box_address(map.window, start);
  emulation::Fibre& self = current_block().fibre();
  self.stores.push_back({self.store_group, [window = map.window, start, column, row, put] {
                           for_each_piece(
                               window, start, column, row,
                               [&](unsigned char* piece, std::int64_t offset, int bytes) {
                                 if (bytes == 0) return;
                                 auto* base = static_cast<char*>(const_cast<void*>(window.base));
                                 put(base + offset, piece, static_cast<std::size_t>(bytes));
                               });
                         }});
}

}  // namespace

void tma_store(const TensorMap& map, const void* source, int column, int row) {
  store_later(map, source, column, row,
              [](char* place, const unsigned char* piece, std::size_t bytes) {
                std::memcpy(place, piece, bytes);
              });
}

void tma_reduce_add(const TensorMap& map, const void* source, int column, int row) {
  if (map.window.element != Element::kFp32) fail("only FP32 is added on the way to memory");
  store_later(map, source, column, row,
              [](char* place, const unsigned char* piece, std::size_t bytes) {
                for (std::size_t at = 0; at < bytes; at += sizeof(float)) {
                  float addend = 0;
                  std::memcpy(&addend, piece + at, sizeof addend);
                  atomicAdd(reinterpret_cast<float*>(place + at), addend);
                }
              });
}

void bulk_store(void* destination, const void* source, int bytes) {
  const std::uint32_t start = shared_address(source);
  if (bytes % 16 != 0 || start % 16 != 0 ||
      reinterpret_cast<std::uintptr_t>(destination) % 16 != 0) {
    fail("a bulk copy moves multiples of 16 bytes between multiples of 16");
  }
  emulation::Fibre& self = current_block().fibre();
  self.stores.push_back({self.store_group, [destination, source, bytes] {
                           std::memcpy(destination, source, static_cast<std::size_t>(bytes));
                         }});
}

void bulk_add(float* destination, const float* source, int bytes) {
  const std::uint32_t start = shared_address(source);
  if (bytes % 16 != 0 || start % 16 != 0 ||
      reinterpret_cast<std::uintptr_t>(destination) % 16 != 0) {
    fail("a bulk copy moves multiples of 16 bytes between multiples of 16");
  }
  emulation::Fibre& self = current_block().fibre();
  self.stores.push_back({self.store_group, [destination, source, bytes] {
                           const int count = bytes / static_cast<int>(sizeof(float));
                           for (int i = 0; i < count; ++i) atomicAdd(destination + i, source[i]);
                         }});
}

void bulk_commit() { ++current_block().fibre().store_group; }

namespace emulation {

void wait_for_stores(int groups_left) {
  Fibre& self = current_block().fibre();
  const int done = self.store_group - groups_left;
  auto& stores = self.stores;
  const auto end = std::find_if(stores.begin(), stores.end(),
                                [&](const PendingStore& store) { return store.group >= done; });
  for (auto store = stores.begin(); store != end; ++store) store->write();
  stores.erase(stores.begin(), end);
}

void fence_products() { current_block().warp().fenced[own_lane()] = true; }

void commit_products() { ++current_block().warp().groups[own_lane()]; }

void issue_product(float* accumulators, const ProductOperands& operands) {
  Warp& warp = current_block().warp();
  const std::size_t lane = own_lane();
  if (!warp.fenced[lane]) fail("a wgmma without a wgmma_fence since the last wait");
  const auto index = static_cast<std::size_t>(warp.issued[lane]++);
  if (index == warp.products.size()) {
    PendingProduct product;
    product.kind = operands.fp8 ? PendingProduct::Kind::kE4m3 : PendingProduct::Kind::kBf16;
    product.columns = operands.columns;
    product.a = operands.a;
    product.b = operands.b;
    product.a_in_registers = operands.fragment != nullptr;
    product.a_transposed = operands.a_transposed;
    product.b_transposed = operands.b_transposed;
    product.accumulate = operands.accumulate;
    product.group = warp.groups[lane];
    warp.products.push_back(product);
  }
  PendingProduct& product = warp.products[index];
  if (product.a != operands.a || product.b != operands.b ||
      product.accumulate != operands.accumulate || product.columns != operands.columns) {
    fail("lanes of a warp issue wgmma with different operands");
  }
  product.accumulators[lane] = accumulators;
  if (operands.fragment != nullptr) {
    std::copy_n(operands.fragment, 4, product.fragments[lane].begin());
  }
}

void wait_for_products(int groups_left) {
  Block& block = current_block();
  Warp& warp = block.warp();
  const std::size_t lane = own_lane();
  warp.fenced[lane] = false;
  warp_exchange(kAllLanes, 0);
  const int done = warp.groups[lane] - groups_left;
  const int first_row = block.thread() / 32 % 4 * kWarpRows;
  if (!warp.products.empty() && warp.products.front().group < done) {
    // All lanes are past the exchange: whoever comes first executes.
    const auto end =
        std::find_if(warp.products.begin(), warp.products.end(),
                     [&](const PendingProduct& product) { return product.group >= done; });
    const auto count = static_cast<int>(end - warp.products.begin());
    for (auto product = warp.products.begin(); product != end; ++product) {
      if (product->kind == PendingProduct::Kind::kE4m3) {
        execute_fp8(*product, first_row);
      } else {
        execute_bf16(*product, first_row);
      }
    }
    warp.products.erase(warp.products.begin(), end);
    for (int& issued : warp.issued) issued -= count;
  }
}

}  // namespace emulation
}  // namespace pipecast::kernels
