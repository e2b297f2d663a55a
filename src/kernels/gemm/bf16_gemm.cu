#include "kernels/gemm/bf16_gemm.hpp"
#include "kernels/gemm/result_boxes.hpp"
#include "kernels/gemm/ring.hpp"
#include "kernels/gemm/tiles.hpp"
#include "kernels/simt/hopper.hpp"

namespace pipecast::kernels {
namespace {

constexpr int kConsumers = 2;
constexpr int kRows = kConsumers * kWarpgroupRows;
constexpr int kThreads = (kConsumers + 1) * kWarpgroupSize;
constexpr int kDepth = 64;  // of a step along K: 128 bytes
constexpr int kInstructionDepth = 16;
constexpr int kAtom = 64;  // of M or N, that 128 bytes of a transposed operand hold

/// What a kernel is compiled for: how its operands lie, its result, the columns of its tiles.
template <Major kAIs, Major kBIs, class ResultIs, int kColumnsAre>
struct Form {
  static constexpr Major kA = kAIs;
  static constexpr Major kB = kBIs;
  using Result = ResultIs;
  static constexpr int kColumns = kColumnsAre;
};

template <int kColumns>
struct Shared {
  static constexpr int kStageBytes = (kRows + kColumns) * kDepth * static_cast<int>(sizeof(Bf16));
  static constexpr int kStages =
      stages_that_fit(kStageBytes, kConsumers* static_cast<int>(sizeof(ResultBoxes)));
  Bf16 a[kStages][kRows * kDepth];
  Bf16 b[kStages][kColumns * kDepth];
  ResultBoxes results[kConsumers];
  Ring<kStages> ring;
};

/// Operands and result as bulk copies see them.
struct Maps {
  TensorMap a;
  TensorMap b;
  TensorMap d;
};

/// One step's part of an operand of `kExtent` rows or columns from `first`. Transposed it comes as
/// boxes of 64 of them by all of the depth, one after the other.
template <Major kMajor, int kExtent>
__device__ __forceinline__ void load_operand(Bf16* destination, const TensorMap& map, int first,
                                             int k, Mbarrier* full) {
  if constexpr (kMajor == Major::kK) {
    tma_load(destination, map, k, first, full);
  } else {
    for (int i = 0; i < kExtent; i += kAtom) {
      tma_load(destination + i * kDepth, map, first + i, k, full);
    }
  }
}

/// Descriptor of an operand in shared memory from element `k` of its depth.
template <Major kMajor>
__device__ __forceinline__ std::uint64_t operand_at(const Bf16* operand, int k) {
  if constexpr (kMajor == Major::kK) return k_major(operand + k);
  return mn_major(operand + k * kAtom, kAtom * kDepth * static_cast<int>(sizeof(Bf16)));
}

template <class Kind, class Tiles>
__device__ __forceinline__ void produce(Shared<Kind::kColumns>& shared, const Maps& maps, int n,
                                        int depth, Tiles tiles) {
  using Memory = Shared<Kind::kColumns>;
  RingPosition<Memory::kStages> position;
  Tile tile;
  for (int index = block_index(); tiles.find(index, &tile); index += grid_size()) {
    // Groups of B follow each other along its rows, which are K where it lies transposed.
    const int b_first = tile.column + (Kind::kB == Major::kK ? tile.group * n : 0);
    const int b_k = Kind::kB == Major::kK ? 0 : tile.group * depth;
    for (int k = 0; k < depth; k += kDepth) {
      Mbarrier* full = position.claim(shared.ring, Memory::kStageBytes);
      load_operand<Kind::kA, kRows>(shared.a[position.stage], maps.a, tile.row, k, full);
      load_operand<Kind::kB, Kind::kColumns>(shared.b[position.stage], maps.b, b_first, b_k + k,
                                             full);
      position.step();
    }
  }
}

template <class Kind, class Tiles>
__device__ __forceinline__ void consume(Shared<Kind::kColumns>& shared, const Maps& maps, int depth,
                                        bool add, Tiles tiles) {
  constexpr int kColumns = Kind::kColumns;
  const int group = warpgroup_index();
  RingPosition<Shared<kColumns>::kStages> position;
  Tile tile;
  for (int index = block_index(); tiles.find(index, &tile); index += grid_size()) {
    float sums[kColumns / 2];
    int before = 0;  // the stage that the products still in flight read, beside the newest
    for (int k = 0; k < depth; k += kDepth) {
      position.wait_full(shared.ring);
      const Bf16* a = shared.a[position.stage] + group * kWarpgroupRows * kDepth;
      wgmma_fence();
#pragma unroll
      for (int inner = 0; inner < kDepth; inner += kInstructionDepth) {
        wgmma_bf16<kColumns, Kind::kA, Kind::kB>(
            sums, operand_at<Kind::kA>(a, inner),
            operand_at<Kind::kB>(shared.b[position.stage], inner), k + inner != 0);
      }
      wgmma_commit();
      wgmma_wait<1>();
      if (k != 0 && lane_index() == 0) mbarrier_arrive(&shared.ring.empty[before]);
      before = position.stage;
      position.step();
    }
    wgmma_wait<0>();
    if (lane_index() == 0) mbarrier_arrive(&shared.ring.empty[before]);
    if (group * kWarpgroupRows < tile.rows) {
      store_rows<typename Kind::Result, kColumns>(
          shared.results[group], maps.d, sums, tile.row + group * kWarpgroupRows, tile.column, add);
    }
  }
  finish_stores();
}

template <class Kind, class Tiles>
__global__ void __launch_bounds__(kThreads, 1)
    gemm_bf16_kernel(const __grid_constant__ Maps maps, int n, int depth, bool add, Tiles tiles) {
  auto& shared = shared_memory<Shared<Kind::kColumns>>();
  if (thread_index() == 0) shared.ring.initialise(kConsumers * kWarpgroupSize / kWarpSize);
  __syncthreads();
  if (warpgroup_index() == kConsumers) {
    fewer_registers<40>();
    if (thread_index() % kWarpgroupSize == 0) produce<Kind>(shared, maps, n, depth, tiles);
  } else {
    more_registers<232>();
    consume<Kind>(shared, maps, depth, add, tiles);
  }
}

/// Operands and extents of every form.
template <class Result>
struct Operands {
  const Bf16* a;
  const Bf16* b;
  Result* d;
  bool add;
  int m;
  int n;
  int k;
  int groups;
  int sms;
};

/// Boxes of `extent` by the depth of a step; a transposed operand has k rows for each group.
template <Major kMajor>
TensorMap operand_map(const Bf16* base, std::int64_t extent, int groups, int k, int box_rows) {
  if constexpr (kMajor == Major::kK) {
    return make_tensor_map(
        {base, Element::kBf16, groups * extent, k, k, box_rows, kDepth, Swizzle::k128Bytes});
  }
  return make_tensor_map({base, Element::kBf16, static_cast<std::int64_t>(groups) * k, extent,
                          extent, kDepth, kAtom, Swizzle::k128Bytes});
}

template <class Kind, class Tiles>
void launch_over(const Operands<typename Kind::Result>& p, int tile_count, const Tiles& tiles) {
  const Maps maps{operand_map<Kind::kA>(p.a, p.m, 1, p.k, kRows),
                  operand_map<Kind::kB>(p.b, p.n, p.groups, p.k, Kind::kColumns),
                  make_tensor_map(result_window(p.d, p.m, p.n))};
  launch(gemm_bf16_kernel<Kind, Tiles>,
         {persistent_blocks(tile_count, p.sms), kThreads, sizeof(Shared<Kind::kColumns>)}, maps,
         p.n, p.k, p.add, tiles);
}

constexpr int kNarrow = 128;
constexpr int kWide = 256;

/// The width with which the busiest SM computes fewest columns; of equals the wider, which reads
/// less shared memory per product.
int chosen_columns(int m, int n, int sms, int block_n) {
  if (block_n != 0) return block_n;
  const int available = sms > 0 ? sms : device_sms();
  const auto columns = [&](int width) {
    return blocks_of(DenseTiles{m, n, kRows, width}.count(), available) * width;
  };
  return columns(kWide) <= columns(kNarrow) ? kWide : kNarrow;
}

template <Major kA, Major kB, class Result>
void launch_dense(const Operands<Result>& p, int columns) {
  const DenseTiles tiles{p.m, p.n, kRows, columns};
  if (columns == kWide) {
    launch_over<Form<kA, kB, Result, kWide>>(p, tiles.count(), tiles);
  } else {
    launch_over<Form<kA, kB, Result, kNarrow>>(p, tiles.count(), tiles);
  }
}

template <Major kB>
void launch_contiguous(const Operands<Bf16>& p, int columns, const int* offsets) {
  const ContiguousTiles tiles{{p.m, p.n, kRows, columns}, p.groups, offsets};
  if (columns == kWide) {
    launch_over<Form<Major::kK, kB, Bf16, kWide>>(p, tiles.room.count(), tiles);
  } else {
    launch_over<Form<Major::kK, kB, Bf16, kNarrow>>(p, tiles.room.count(), tiles);
  }
}

template <class Result>
void launch_majors(const Bf16Gemm& p, Result* d) {
  const Operands<Result> operands{p.a, p.b, d, p.add, p.m, p.n, p.k, 1, p.sms};
  const int columns = chosen_columns(p.m, p.n, p.sms, p.block_n);
  if (p.a_transposed) {
    launch_dense<Major::kMN, Major::kMN>(operands, columns);
  } else if (p.b_transposed) {
    launch_dense<Major::kK, Major::kMN>(operands, columns);
  } else {
    launch_dense<Major::kK, Major::kK>(operands, columns);
  }
}

void check_columns(int block_n) {
  if (block_n != 0 && block_n != kNarrow && block_n != kWide) {
    throw DeviceError("tiles of a BF16 product have 128 or 256 columns");
  }
}

/// Whether rows of so many elements start at multiples of 16 bytes.
bool aligned(int elements, std::size_t element_bytes) {
  return static_cast<std::size_t>(elements) * element_bytes % 16 == 0;
}

}  // namespace

void gemm_bf16(const Bf16Gemm& p) {
  check_columns(p.block_n);
  if (p.m < 0 || p.n <= 0 || p.k < 0) throw DeviceError("a BF16 product of negative extents");
  if ((p.d == nullptr) == (p.d_fp32 == nullptr)) {
    throw DeviceError("a BF16 product has one result, BF16 or FP32");
  }
  if (p.a_transposed && !p.b_transposed) {
    throw DeviceError("a BF16 product with only its left operand transposed");
  }
  if (p.add && p.d_fp32 == nullptr) throw DeviceError("only FP32 results are added to");
  if (!aligned(p.a_transposed ? p.m : p.k, sizeof(Bf16)) ||
      !aligned(p.b_transposed ? p.n : p.k, sizeof(Bf16)) ||
      !aligned(p.n, p.d != nullptr ? sizeof(Bf16) : sizeof(float))) {
    throw DeviceError("rows of a BF16 product's operands are multiples of 16 bytes");
  }
  if (p.m == 0) return;
  if (p.k == 0) {
    if (p.add) return;
    throw DeviceError("a BF16 product of no depth only adds");
  }
  if (p.d != nullptr) {
    launch_majors(p, p.d);
  } else {
    launch_majors(p, p.d_fp32);
  }
}

void gemm_bf16_wgrad(const Bf16WeightGradient& p) {
  gemm_bf16({p.a, p.b, true, true, nullptr, p.d, true, p.m, p.n, p.k, p.sms, 0});
}

void gate_gemm_fwd(const GateGemm& gate, const Bf16* x, const Bf16* w, float* scores) {
  gemm_bf16({x, w, false, false, nullptr, scores, false, gate.tokens, gate.experts, gate.hidden,
             gate.sms, 0});
}

void gate_gemm_dgrad(const GateGemm& gate, const Bf16* dscores, const Bf16* w, Bf16* dx) {
  gemm_bf16({dscores, w, false, true, dx, nullptr, false, gate.tokens, gate.hidden, gate.experts,
             gate.sms, 0});
}

void gate_gemm_wgrad(const GateGemm& gate, const Bf16* dscores, const Bf16* x, float* dw) {
  gemm_bf16_wgrad({dscores, x, dw, gate.experts, gate.hidden, gate.tokens, gate.sms});
}

void grouped_gemm_bf16(const ContiguousBf16Gemm& p) {
  check_columns(p.block_n);
  if (p.experts <= 0 || p.m < 0 || p.m % ContiguousTiles::kGroupRows != 0 || p.n <= 0 || p.k <= 0 ||
      p.n % 8 != 0 || p.k % (p.b_transposed ? kDepth : 8) != 0) {
    throw DeviceError(
        "a grouped BF16 product needs rows padded to 128 per expert, n in multiples of 8, and k of "
        "8 or, transposed, 64");
  }
  if (p.m == 0) return;
  const Operands<Bf16> operands{p.a, p.b, p.d, false, p.m, p.n, p.k, p.experts, p.sms};
  const int columns = chosen_columns(p.m, p.n, p.sms, p.block_n);
  if (p.b_transposed) {
    launch_contiguous<Major::kMN>(operands, columns, p.offsets);
  } else {
    launch_contiguous<Major::kK>(operands, columns, p.offsets);
  }
}

}  // namespace pipecast::kernels
