/// Kernels that move more than they compute, by what holds them back:
/// - streaming: HBM, at the share of its line rate that streaming kernels reach;
/// - conversion between BF16 and FP8 rows: bytes per clock and SM, since a thread block loads a
///   row, finds its scales and stores it in turns; fewer where scales are powers of two;
/// - tiles of 128 x 128 that are scaled down columns and transposed in shared memory: two thread
///   blocks per SM, wave after wave;
/// - E5M6 and rotation: instructions per element; norms: instructions per element in a fixed number
///   of thread blocks per SM of the whole GPU, so that taking SMs away leaves a part-filled last
///   wave;
/// - selection: radix passes over a row; scans: one thread block reads all indices.
/// Every kernel takes the time of an empty one on top, and an SM moves what it has in flight.
/// Pointwise kernels find in L2 what the kernel before them wrote.
/// Not modelled: L2 between others. A kernel that leaves its writes in L2 for the next to evict is
/// faster than here by up to the L2's capacity over the HBM's rate; over a chain of kernels the
/// writes are paid once, as here.
#include <algorithm>
#include <array>
#include <cmath>

#include "base/error.hpp"
#include "model/operations/memory_shapes.hpp"
#include "model/ops/kernel_cost.hpp"

namespace pipecast {

namespace {

/// Work of the SMs beside the moving of bytes, in cycles of the critical SM.
struct SmWork {
  double cycles = 0;    ///< of the SM with most work
  double balanced = 0;  ///< if all SMs had equal shares
  KernelTiling tiling{};
};

double divided(std::int64_t work, int sms) {
  return static_cast<double>(work) / static_cast<double>(sms);
}

/// Of a pointwise kernel's operands one was written by the kernel before it, and L2 still holds as
/// much of that as fits.
Bytes found_in_l2(const Operation& op, const GpuSpec& gpu) {
  if (op.op != "elementwise") return Bytes();
  const Bytes tensor(static_cast<std::int64_t>(static_cast<double>(op.m * op.n) *
                                               bytes_per_element(op.precision)));
  return std::min({tensor, op.read, gpu.l2_capacity});
}

/// Launch, then the slowest of HBM, bytes in flight and SM work.
KernelCost memory_cost(const Operation& op, double hbm_share, const SmWork& work,
                       const GpuSpec& gpu, const CalibrationSpec& calibration, int sms) {
  const Bytes bytes = op.read + op.written;
  const Bytes from_hbm = bytes - found_in_l2(op, gpu);
  const double clock = gpu.tensor_clock.count();
  const Bandwidth reached(gpu.hbm_bandwidth.count() * hbm_share);
  const double launch = calibration.latency.kernel_us.value * 1e-6 * clock;
  const double hbm = static_cast<double>(from_hbm.count()) / reached.count() * clock;
  const double in_flight =
      static_cast<double>(bytes.count()) / (calibration.memory.sm_bytes_per_cycle.value * sms);

  KernelCost cost{.time = {},
                  .clock = gpu.tensor_clock,
                  .flops = op.flops,
                  .hbm_bytes = from_hbm,
                  .l2_bytes = bytes,
                  .limited_by = Limit::kLatency,
                  .tiling = work.tiling,
                  .parts = {KernelPart{"launch", launch}}};
  double longest = launch;
  std::size_t parts = 1;
  const auto add = [&](std::string_view name, double cycles, Limit limit) {
    if (cycles <= 0) return;
    cost.parts[parts++] = {name, cycles};
    if (cycles > longest) cost.limited_by = limit;
    longest = std::max(longest, cycles);
  };
  if (work.cycles > std::max(hbm, in_flight)) {
    add("issue", work.balanced, Limit::kIssue);
    add("idle", work.cycles - work.balanced, Limit::kOccupancy);
  } else if (in_flight > hbm) {
    add("in_flight", in_flight, Limit::kLatency);
  } else {
    add("hbm", hbm, Limit::kHbm);
  }
  cost.cycles = launch + std::max({hbm, in_flight, work.cycles});
  // Rounded up alone as well, so that no rounding beats the HBM.
  cost.time = std::max(duration_from_seconds(cost.cycles / clock), from_hbm / reached);
  return cost;
}

using MemoryConstant = Constant MemoryConstants::*;

template <MemoryConstant kConstant>
const Constant& constant(const CalibrationSpec& calibration) {
  return calibration.memory.*kConstant;
}
const Constant& hbm(const CalibrationSpec& calibration) { return calibration.link.hbm; }

KernelCost stream(const Operation& op, const GpuSpec& gpu, const CalibrationSpec& calibration,
                  int sms) {
  return memory_cost(op, calibration.link.hbm.value, {}, gpu, calibration, sms);
}

using WorkFunction = SmWork (*)(const Operation&, const GpuSpec&, const MemoryConstants&, int sms);

/// SM work with streaming beside it.
template <WorkFunction kWork>
KernelCost issue(const Operation& op, const GpuSpec& gpu, const CalibrationSpec& calibration,
                 int sms) {
  return memory_cost(op, calibration.link.hbm.value, kWork(op, gpu, calibration.memory, sms), gpu,
                     calibration, sms);
}

KernelCost convert(const Operation& op, const GpuSpec& gpu, const CalibrationSpec& calibration,
                   int sms) {
  const Constant& rate = op.power_of_two ? calibration.memory.dispatch_bytes_per_cycle
                                         : calibration.memory.conversion_bytes_per_cycle;
  const double cycles = static_cast<double>((op.read + op.written).count()) / (rate.value * sms);
  return memory_cost(op, calibration.link.hbm.value, {.cycles = cycles, .balanced = cycles}, gpu,
                     calibration, sms);
}

constexpr std::int64_t kTile = 128;  // rows and columns

/// @tparam kInputs  tiles that a thread block reads for one that it writes
template <int kInputs>
SmWork tiles(const Operation& op, const GpuSpec&, const MemoryConstants& memory, int sms) {
  constexpr std::int64_t kPerSm = 2;  // thread blocks whose 128 x 128 tiles fit an SM
  const std::int64_t blocks = ceil_div(op.m, kTile) * ceil_div(op.n, kTile);
  const std::int64_t waves = ceil_div(blocks, kPerSm * sms);
  const double tile = memory.tile_cycles.value * kInputs;
  return {.cycles = static_cast<double>(waves) * tile,
          .balanced = divided(blocks, sms) / kPerSm * tile,
          .tiling = {.block_m = kTile, .block_n = kTile, .blocks = blocks, .waves = waves}};
}

/// @tparam kCycles  of an SM for one element
template <MemoryConstant kCycles>
SmWork elements(const Operation& op, const GpuSpec&, const MemoryConstants& memory, int sms) {
  const double cycles = divided(op.m * op.n, sms) * (memory.*kCycles).value;
  return {.cycles = cycles, .balanced = cycles};
}

/// Elements that are written beyond those read: repeated by index arithmetic.
SmWork repeated(const Operation& op, const GpuSpec&, const MemoryConstants& memory, int sms) {
  const std::int64_t bytes = std::max<std::int64_t>(0, op.written.count() - op.read.count());
  const double cycles =
      divided(bytes, sms) / bytes_per_element(op.precision) * memory.repetition_cycles.value;
  return {.cycles = cycles, .balanced = cycles};
}

/// Rows in turn in `per_sm` thread blocks per SM of the whole GPU: with all SMs free they run in
/// one wave, with fewer the rest makes another. Fewer blocks on an SM are done sooner, but for the
/// share of their time in which each waits for its own loads.
/// @param cycles_per_row  of an SM with `per_sm` blocks
SmWork rows_in_turn(const Operation& op, std::int64_t per_sm, double cycles_per_row, double alone,
                    const GpuSpec& gpu, int sms) {
  const std::int64_t blocks = std::min(op.m, per_sm * gpu.sm_count);
  if (blocks == 0) return {};
  const double block = static_cast<double>(op.m) / static_cast<double>(blocks) * cycles_per_row;
  const double full = block * static_cast<double>(per_sm);
  const std::int64_t full_waves = blocks / (per_sm * sms);
  const std::int64_t last = ceil_div(blocks - full_waves * per_sm * sms, sms);  // blocks on an SM
  const double last_wave =
      last == 0 ? 0 : alone * full + (1 - alone) * static_cast<double>(last) * block;
  return {.cycles = static_cast<double>(full_waves) * full + last_wave,
          .balanced = divided(blocks, sms) * block,
          .tiling = {.block_m = ceil_div(op.m, blocks),
                     .block_n = op.n,
                     .blocks = blocks,
                     .waves = ceil_div(blocks, per_sm * sms)}};
}

SmWork norm(const Operation& op, const GpuSpec& gpu, const MemoryConstants& memory, int sms) {
  constexpr std::int64_t kPerSm = 3;  // grid of the trace: 396 on 132 SMs
  constexpr double kTensors = 2;      // one read, one written
  const double row = static_cast<double>(op.n) * kTensors * memory.norm_cycles.value;
  return rows_in_turn(op, kPerSm, row, memory.norm_alone.value, gpu, sms);
}

SmWork norm_backward(const Operation& op, const GpuSpec& gpu, const MemoryConstants& memory,
                     int sms) {
  constexpr double kTensors = 3;  // input and gradient read, gradient written
  const double row = static_cast<double>(op.n) * kTensors * memory.norm_cycles.value;
  // As many blocks as keep their rows in registers: grids of the trace are 1, 5 and 4 per SM for
  // 7,168, 1,536 and 512 columns. The fewer, the more SMs may idle in the last wave; wide rows
  // never idle less than narrow ones here.
  constexpr std::int64_t kRowElementsPerSm = 8192;
  constexpr std::int64_t kMostPerSm = 5;
  const std::int64_t columns = std::max<std::int64_t>(op.n, 1);
  const std::int64_t per_sm = std::clamp<std::int64_t>(kRowElementsPerSm / columns, 1, kMostPerSm);
  const double alone = memory.norm_alone.value;
  SmWork worst = rows_in_turn(op, per_sm, row, alone, gpu, sms);
  for (std::int64_t narrower = per_sm + 1; narrower <= kMostPerSm; ++narrower) {
    worst.cycles = std::max(worst.cycles, rows_in_turn(op, narrower, row, alone, gpu, sms).cycles);
  }
  return worst;
}

/// @tparam kPasses  over every row
template <int kPasses>
SmWork selection(const Operation& op, const GpuSpec&, const MemoryConstants& memory, int sms) {
  constexpr std::int64_t kThreads = 1024;  // columns that a thread block sees at a time
  const double row =
      static_cast<double>(ceil_div(op.n, kThreads)) * kPasses * memory.selection_cycles.value;
  return {.cycles = static_cast<double>(ceil_div(op.m, sms)) * row,
          .balanced = divided(op.m, sms) * row,
          .tiling = {.block_m = 1, .block_n = op.n, .blocks = op.m, .waves = ceil_div(op.m, sms)}};
}

// torch.topk settles 2 of FP32's 32 bits in a pass. Source: PyTorch, SortingRadixSelect.cuh,
// RADIX_BITS.
constexpr int kRadixPasses = 16;

/// One thread block reads every index, however many blocks there are.
/// @tparam kPasses  over all indices
template <int kPasses>
SmWork scan(const Operation& op, const GpuSpec&, const MemoryConstants& memory, int) {
  const double cycles = static_cast<double>(op.m) * kPasses * memory.scan_cycles.value;
  return {.cycles = cycles, .balanced = cycles};
}

/// 128 rows of scales at a time, the scales of at most 128 x 128 elements' columns. A thread block
/// takes no longer for 128 columns than for 64: full tiles need no bounds, so that a thread moves
/// two scales at once (trace: 10 us for 56 columns, 9 us for 128 and for 256).
SmWork scales(const Operation& op, const GpuSpec&, const MemoryConstants& memory, int sms) {
  constexpr std::int64_t kSteps = kTile / 2;
  const std::int64_t columns = ceil_div(op.n, kTile);  // one scale per 128 elements
  const std::int64_t tiles = ceil_div(columns, kTile);
  const std::int64_t blocks = ceil_div(op.m, kTile) * tiles;
  const std::int64_t waves = ceil_div(blocks, sms);
  const std::int64_t steps = std::min(columns, tiles * kSteps);
  const double cycles = static_cast<double>(std::min(op.m, kTile)) * memory.scale_cycles.value;
  return {.cycles = static_cast<double>(waves * std::min(columns, kSteps)) * cycles,
          .balanced = divided(ceil_div(op.m, kTile) * steps, sms) * cycles,
          .tiling = {.block_m = kTile, .block_n = kTile, .blocks = blocks, .waves = waves}};
}

// ---- shapes ----

constexpr KernelOption kRows{"rows", "rows"};
constexpr KernelOption kColumns{"columns", "elements of a row"};
constexpr KernelOption kExpertRows{"rows", "rows of all local experts together"};
constexpr KernelOption kReceived{"received", "distinct tokens received"};
constexpr KernelOption kChoices{"choices", "received tokens times experts per token"};
constexpr KernelOption kElements{"elements", "elements, or parameters"};

constexpr std::array kElementsOnly = {kElements};
constexpr std::array kRowsColumns = {kRows, kColumns};
constexpr std::array kPermutation = {kExpertRows, kColumns, kReceived};
constexpr std::array kPermutationMap = {kChoices, kExpertRows};
constexpr std::array kCounts = {kChoices, KernelOption{"experts", "local experts"}};
constexpr std::array kTopk = {kRows, kColumns, KernelOption{"chosen", "columns chosen per row"}};
constexpr std::array kGroups = {kRows, kColumns, KernelOption{"groups", "groups of columns"}};
constexpr std::array kRowsChoices = {kExpertRows, kColumns, kChoices};
constexpr std::array kPointwise = {
    kRows, kColumns, KernelOption{"tensors_read", "tensors of that extent read", 1},
    KernelOption{"tensors_written", "tensors of that extent written", 1},
    KernelOption{"element_bytes", "bytes of an element", 4}};
constexpr std::array kPreprocess = {
    KernelOption{"tokens", "queries of all sequences"}, KernelOption{"heads", "query heads"},
    KernelOption{"qk_dim", "dimension of queries and keys"}, KernelOption{"v_dim", "of values"}};
constexpr std::array kDescriptors = {KernelOption{"descriptors", "one per operand and expert"}};

constexpr std::array kRowCast = {
    kRows, kColumns, KernelOption{"power_of_two", "1: scales are powers of two, for dispatch", 0}};

Operation make(std::string_view op, std::span<const std::int64_t> values) {
  return memory_operation(op, values);
}

/// A cast of rows to FP8.
Operation make_row_cast(std::string_view op, std::span<const std::int64_t> values) {
  require(values[2] == 0 || values[2] == 1, "{}: power_of_two must be 0 or 1, not {}", op,
          values[2]);
  Operation out = memory_operation(op, values.first(2));
  out.power_of_two = values[2] == 1;
  return out;
}

/// A pointwise kernel of BF16 or FP32 elements.
Operation make_pointwise(std::string_view op, std::span<const std::int64_t> values) {
  Operation out = memory_operation(op, values);
  const std::int64_t bytes = values[4];
  require(bytes == 2 || bytes == 4, "{}: element_bytes must be 2 or 4, not {}", op, bytes);
  out.precision = bytes == 2 ? Precision::kBf16 : Precision::kFp32;
  return out;
}

using Options = std::span<const KernelOption>;

constexpr KernelKind streaming_kind(Options options) { return {stream, hbm, options, make}; }

template <WorkFunction kWork, MemoryConstant kConstant>
constexpr KernelKind issue_kind(Options options) {
  return {issue<kWork>, constant<kConstant>, options, make};
}

constexpr KernelKind kStreaming = streaming_kind(kRowsColumns);
/// @tparam kCycles  of an SM for one element
template <MemoryConstant kCycles>
constexpr KernelKind elements_kind() {
  return issue_kind<elements<kCycles>, kCycles>(kRowsColumns);
}

const Register<KernelKind> kEntries[] = {
    {"adamw", streaming_kind(kElementsOnly)},
    {"attention_bwd_convert_dq", kStreaming},
    {"attention_bwd_preprocess", streaming_kind(kPreprocess)},
    {"cast_e5m6", elements_kind<&MemoryConstants::packing_cycles>()},
    {"cast_fp8_128x128",
     {convert, constant<&MemoryConstants::conversion_bytes_per_cycle>, kElementsOnly, make}},
    {"cast_fp8_1x128",
     {convert, constant<&MemoryConstants::conversion_bytes_per_cycle>, kRowCast, make_row_cast}},
    {"cast_transpose_fp8_128x1", issue_kind<tiles<1>, &MemoryConstants::tile_cycles>(kRowsColumns)},
    {"copy_strided", kStreaming},
    {"cross_entropy_bwd", kStreaming},
    {"cross_entropy_fwd", kStreaming},
    {"elementwise", {issue<repeated>, hbm, kPointwise, make_pointwise}},
    {"embedding_grad", kStreaming},
    {"embedding_lookup", kStreaming},
    {"expert_count", issue_kind<scan<1>, &MemoryConstants::scan_cycles>(kCounts)},
    {"fill_tensormaps", streaming_kind(kDescriptors)},
    {"grad_norm", streaming_kind(kElementsOnly)},
    {"group_topk_sum", issue_kind<selection<1>, &MemoryConstants::selection_cycles>(kGroups)},
    {"memcpy", streaming_kind(kElementsOnly)},
    {"memset", streaming_kind(kElementsOnly)},
    {"permute", streaming_kind(kPermutation)},
    {"permute_map", issue_kind<scan<2>, &MemoryConstants::scan_cycles>(kPermutationMap)},
    {"permute_with_scales", streaming_kind(kPermutation)},
    {"rmsnorm_bwd", issue_kind<norm_backward, &MemoryConstants::norm_cycles>(kRowsColumns)},
    {"rmsnorm_bwd_finalize", kStreaming},
    {"rmsnorm_fwd", issue_kind<norm, &MemoryConstants::norm_cycles>(kRowsColumns)},
    {"rope", elements_kind<&MemoryConstants::rotation_cycles>()},
    {"swiglu_bwd", kStreaming},
    {"swiglu_bwd_shared", kStreaming},
    {"swiglu_fwd", kStreaming},
    {"swiglu_fwd_and_cast_fp8", kStreaming},
    {"swiglu_fwd_bwd_routed", kStreaming},
    {"swiglu_recompute_and_cast_transpose",
     issue_kind<tiles<2>, &MemoryConstants::tile_cycles>(kRowsColumns)},
    {"swiglu_weight_bwd", streaming_kind(kRowsChoices)},
    {"topk", issue_kind<selection<kRadixPasses>, &MemoryConstants::selection_cycles>(kTopk)},
    {"transpose_fp8", kStreaming},
    {"transpose_scales", issue_kind<scales, &MemoryConstants::scale_cycles>(kRowsColumns)},
    {"uncast_e5m6", elements_kind<&MemoryConstants::unpacking_cycles>()},
    {"uncast_fp8",
     {convert, constant<&MemoryConstants::conversion_bytes_per_cycle>, kRowsColumns, make}},
    {"unpermute_reduce", streaming_kind(kPermutation)},
};

}  // namespace

}  // namespace pipecast
