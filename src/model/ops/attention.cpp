/// Attention over whole sequences, forward and backward, as FlashAttention does it: a thread block
/// owns a block of queries (backward: of keys) of one head and loops over blocks of keys (queries).
///
/// A turn of the main loop takes what the tensor cores need for the products, and the part of the
/// softmax on the CUDA cores that the other warpgroup's products do not hide; at least the time of
/// its bytes from L2. Blocks on the diagonal of a causal mask are computed whole. Thread blocks
/// start in the order of their queries; under a causal mask they are unequal, and the last ones
/// decide. The whole cannot be faster than its operands through HBM.
///
/// Not modelled: keys and values that fall out of L2 between blocks of queries; packing of the
/// queries that share a key head into one block; other block sizes than 128 x 64; the order of
/// thread blocks that starts with the longest; kernels of more than 40 ms, which run up to 10 %
/// slower than shorter ones of the same shape.
///
/// Source: FlashAttention-3 (arXiv 2407.08608); block sizes from the times of
/// traces/h100/mla_prefill_attention.csv (one block of queries on each SM) and the grids of
/// traces/h800_dualpipe_chunk/kernels.csv.
#include <algorithm>
#include <vector>

#include "base/error.hpp"
#include "model/operations/attention_shapes.hpp"
#include "model/ops/attention_machine.hpp"
#include "model/ops/thread_blocks.hpp"

namespace pipecast {

namespace {

constexpr std::int64_t kBlock = 128;  // queries (backward: keys) of a thread block
constexpr std::int64_t kTurn = 64;    // keys (backward: queries) of a turn of its loop

/// Turns of the thread blocks of one head, in their order.
std::vector<std::int64_t> forward_turns(const AttentionShape& s) {
  std::vector<std::int64_t> out;
  for (std::int64_t first = 0; first < s.queries; first += kBlock) {
    const std::int64_t seen = s.keys - s.queries + std::min(first + kBlock, s.queries);
    out.push_back(ceil_div(s.causal ? seen : s.keys, kTurn));
  }
  return out;
}

std::vector<std::int64_t> backward_turns(const AttentionShape& s) {
  std::vector<std::int64_t> out;
  for (std::int64_t first = 0; first < s.keys; first += kBlock) {
    // The first query that sees the block's first key.
    const std::int64_t blind =
        s.causal ? std::max<std::int64_t>(0, first - (s.keys - s.queries)) : 0;
    out.push_back(ceil_div(s.queries, kTurn) - blind / kTurn);
  }
  return out;
}

/// Cycles of one SM in a turn of the main loop.
struct Turn {
  double tensor = 0;
  double exposed = 0;  ///< what the tensor cores wait for on the CUDA cores
  double l2 = 0;       ///< what the operands take longer than both
  double l2_bytes = 0;

  [[nodiscard]] double cycles() const { return tensor + exposed + l2; }
};

void wait_for_l2(Turn& turn, const GpuSpec& gpu) {
  const double loading = turn.l2_bytes * gpu.sm_count / kL2BytesPerClock;
  turn.l2 = std::max(0.0, loading - turn.cycles());
}

constexpr double kScores = static_cast<double>(kBlock * kTurn);

Turn forward_turn(const Operation& op, const GpuSpec& gpu, const AttentionConstants& constants) {
  const auto widths = static_cast<double>(op.attention.qk_dim + op.attention.v_dim);
  const Constant& exposed =
      op.precision == Precision::kFp8 ? constants.forward_exposed_fp8 : constants.forward_exposed;
  Turn turn{.tensor = 2 * kScores * widths / tensor_flop_per_clock(op, gpu),
            .exposed = exposed.value * softmax_cycles(kScores, kForwardInstructions),
            .l2_bytes = static_cast<double>(kTurn) * widths * bytes_per_element(op.precision)};
  wait_for_l2(turn, gpu);
  return turn;
}

Turn backward_turn(const Operation& op, const GpuSpec& gpu, const AttentionConstants& constants) {
  const auto qk = static_cast<double>(op.attention.qk_dim);
  const auto v = static_cast<double>(op.attention.v_dim);
  const auto queries = static_cast<double>(kTurn);
  const double summed = queries * qk * bytes_per_element(Precision::kFp32);
  const double sums = summed * gpu.sm_count / kL2BytesPerClock;
  Turn turn{.tensor = 2 * kScores * (3 * qk + 2 * v) / tensor_flop_per_clock(op, gpu),
            .exposed = constants.backward_exposed.value *
                       (softmax_cycles(kScores, kBackwardInstructions) + sums),
            .l2_bytes = queries * (qk + v) * bytes_per_element(op.precision) + summed};
  wait_for_l2(turn, gpu);
  return turn;
}

/// A kernel of `heads` groups of thread blocks with so many turns.
KernelCost attention(const Operation& op, const GpuSpec& gpu, const CalibrationSpec& calibration,
                     int sms, const std::vector<std::int64_t>& turns, const Turn& turn,
                     Bytes preparation, int launches) {
  const AttentionShape& s = op.attention;
  const AttentionConstants& constants = calibration.attention;
  const std::int64_t heads = s.batch * s.heads;
  const double fixed = constants.forward_tile_cycles.value;

  std::vector<double> blocks;
  double group_turns = 0;
  for (const std::int64_t count : turns) {
    blocks.push_back(static_cast<double>(count) * turn.cycles() + fixed);
    group_turns += static_cast<double>(count);
  }
  const double end = last_block_end(blocks, heads, sms);
  // Of the mean SM; the rest until the end it waits for the one that is busy longest.
  const double groups_per_sm = static_cast<double>(heads) / sms;
  const double turns_per_sm = groups_per_sm * group_turns;
  const double blocks_per_sm = groups_per_sm * static_cast<double>(blocks.size());
  const double busy = turns_per_sm * turn.cycles() + blocks_per_sm * fixed;
  const double tensor = turns_per_sm * turn.tensor;

  KernelCost cost;
  cost.flops = op.flops;
  cost.hbm_bytes = op.read + op.written;
  const auto operands = static_cast<double>((cost.hbm_bytes - preparation).count());
  const double loading = operands / (gpu.hbm_bandwidth.count() * constants.cache_hbm.value);
  const Frequency clock = attention_clock(gpu, calibration, sms, tensor,
                                          std::max(end, loading * gpu.max_clock.count()));
  const double hbm_cycles_per_byte = clock.count() / gpu.hbm_bandwidth.count();
  const double memory = loading * clock.count();
  const double before =
      static_cast<double>(preparation.count()) * hbm_cycles_per_byte / constants.operand_hbm.value;
  const double launch = launches * constants.launch_us.value * 1e-6 * clock.count();

  const std::int64_t count = heads * static_cast<std::int64_t>(blocks.size());
  cost.l2_bytes = Bytes(static_cast<std::int64_t>(turns_per_sm * sms * turn.l2_bytes));
  cost.tiling = {
      .block_m = kBlock, .block_n = kTurn, .blocks = count, .waves = ceil_div(count, sms)};
  // A kernel that waits for HBM does all else meanwhile.
  const bool hbm_bound = memory > end;
  const auto limit = [&](Limit l) { return hbm_bound ? Limit::kHbm : l; };
  set_parts(cost, clock,
            {{"launch", launch, Limit::kLatency},
             {"preparation", before, Limit::kHbm},
             {"tensor", tensor, limit(Limit::kTensor)},
             {"softmax", turns_per_sm * turn.exposed, limit(Limit::kIssue)},
             {"l2", turns_per_sm * turn.l2, limit(Limit::kL2)},
             {"prologue and epilogue", blocks_per_sm * fixed, limit(Limit::kLatency)},
             {"idle", end - busy, limit(Limit::kOccupancy)},
             {"hbm", memory - end, Limit::kHbm}});
  return cost;
}

/// Kernels in the chain that a library launches: it rotates, fills the cache, and for FP8 rewrites
/// the operands before it attends.
int forward_launches(const AttentionShape& s) {
  if (!s.cache) return 1;
  return *s.cache == Precision::kFp8 ? 4 : 3;
}

KernelCost forward(const Operation& op, const GpuSpec& gpu, const CalibrationSpec& calibration,
                   int sms) {
  check_attention(op, sms);
  return attention(op, gpu, calibration, sms, forward_turns(op.attention),
                   forward_turn(op, gpu, calibration.attention), prefill_preparation(op.attention),
                   forward_launches(op.attention));
}

KernelCost backward(const Operation& op, const GpuSpec& gpu, const CalibrationSpec& calibration,
                    int sms) {
  check_attention(op, sms);
  return attention(op, gpu, calibration, sms, backward_turns(op.attention),
                   backward_turn(op, gpu, calibration.attention), Bytes{}, 1);
}

const Constant& forward_constant(const CalibrationSpec& calibration) {
  return calibration.attention.forward_exposed;
}
const Constant& backward_constant(const CalibrationSpec& calibration) {
  return calibration.attention.backward_exposed;
}

constexpr KernelOption kForwardOptions[] = {
    {"heads", "query heads"},
    {"batch", "sequences", 1},
    {"sequence", "queries of a sequence"},
    {"kv_heads", "heads of keys and values; 0: as many as query heads", 0},
    {"step", "keys of a sequence before its first query", 0},
    {"qk_dim", "dimension of queries and keys", 192},
    {"v_dim", "dimension of values", 128},
    {"causal", "1: a query sees no later key; 0: it sees all", 1},
    {"kv_dtype", "format of the KV cache that the same call fills; none in training", 0,
     kCacheFormats},
};
constexpr std::span<const KernelOption> kBackwardOptions{kForwardOptions, 8};

Operation make(std::string_view op, std::span<const std::int64_t> values) {
  const std::int64_t heads = values[0];
  const std::int64_t sequence = values[2];
  const std::int64_t step = values[4];
  const AttentionShape shape{.batch = values[1],
                             .heads = heads,
                             .kv_heads = values[3] == 0 ? heads : values[3],
                             .queries = sequence,
                             .keys = sequence + step,
                             .qk_dim = values[5],
                             .v_dim = values[6],
                             .causal = values[7] != 0,
                             .cache = values.size() > 8 ? cache_format(values[8]) : std::nullopt};
  require(heads > 0 && shape.batch > 0 && sequence > 0 && step >= 0 && shape.qk_dim > 0 &&
              shape.v_dim > 0 && shape.kv_heads > 0 && heads % shape.kv_heads == 0,
          "{}: extents must be positive and kv_heads divide heads: heads={} batch={} sequence={} "
          "kv_heads={} step={} qk_dim={} v_dim={}",
          op, heads, shape.batch, sequence, shape.kv_heads, step, shape.qk_dim, shape.v_dim);
  return op == "attention_bwd" ? attention_backward_operation(shape)
                               : attention_forward_operation(shape);
}

const Register<KernelKind> kEntries[] = {
    {"attention_fwd", {forward, forward_constant, kForwardOptions, make}},
    {"attention_bwd", {backward, backward_constant, kBackwardOptions, make}},
};

}  // namespace

}  // namespace pipecast
