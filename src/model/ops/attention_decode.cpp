/// Absorbed latent attention of one query per sequence over a paged cache, as FlashMLA does it: the
/// pages of all sequences are dealt out evenly to as many parts as SMs can hold beside each other
/// for every 64 heads; a second kernel combines sequences that were cut.
///
/// A part takes, page by page, what the tensor cores need for 64 rows of heads and the softmax that
/// stays exposed; all parts together not less than the pages through HBM. Heads in excess of 64
/// read the same pages from L2.
///
/// Not modelled: a cache that is still in L2 from the call before, as in a benchmark of up to 40
/// MB; zeroing of the rows of a partly filled page; several queries of a sequence in one call.
///
/// Source: FlashMLA (docs/20250422; get_mla_metadata for the cutting of sequences), 34 cycles of
/// tensor cores per key and 64 heads (docs/20250929).
#include <algorithm>

#include "base/error.hpp"
#include "model/operations/attention_shapes.hpp"
#include "model/ops/attention_machine.hpp"

namespace pipecast {

namespace {

constexpr std::int64_t kRows = 64;  // heads of a thread block: a warpgroup's tensor-core rows
constexpr std::int64_t kPage = 64;  // keys of a page of the cache
/// What FlashMLA counts a sequence's start for when it deals out pages:
/// `fixed_overhead_num_blocks`.
constexpr std::int64_t kStartInPages = 5;
/// Attend, combine. The latter is launched always.
constexpr int kLaunches = 2;

/// The part with most to do, and how often sequences were cut.
struct Split {
  std::int64_t pages = 0;
  std::int64_t sequences = 0;  ///< whole or in part
  std::int64_t cuts = 0;       ///< of all parts
};

/// FlashMLA's get_mla_metadata for sequences of equal length.
Split split(std::int64_t batch, std::int64_t pages, std::int64_t parts) {
  const std::int64_t weight = pages + kStartInPages;
  const std::int64_t share = ceil_div(batch * weight, parts) + kStartInPages;
  Split heaviest;
  std::int64_t cuts = 0;
  std::int64_t sequence = 0;  // the first that is not dealt out
  std::int64_t done = 0;      // its pages that are
  while (sequence < batch) {
    Split part;
    std::int64_t room = share;
    if (done > 0 && room >= pages - done + kStartInPages) {
      part = {.pages = pages - done, .sequences = 1};
      room -= part.pages + kStartInPages;
      ++sequence;
      done = 0;
    }
    if (done == 0) {
      const std::int64_t whole = std::min(batch - sequence, room / weight);
      part.pages += whole * pages;
      part.sequences += whole;
      room -= whole * weight;
      sequence += whole;
    }
    if (sequence < batch && room > kStartInPages) {
      const std::int64_t begun = room - kStartInPages;
      part.pages += begun;
      ++part.sequences;
      done += begun;
      ++cuts;
    }
    if (part.pages + kStartInPages * part.sequences >
        heaviest.pages + kStartInPages * heaviest.sequences) {
      heaviest = part;
    }
  }
  heaviest.cuts = cuts;
  return heaviest;
}

KernelCost decode(const Operation& op, const GpuSpec& gpu, const CalibrationSpec& calibration,
                  int sms) {
  check_attention(op, sms);
  const AttentionShape& s = op.attention;
  require(
      s.batch > 0 && s.queries == 1 && s.kv_heads == 1,
      "{}: sequences have one query each and one head of latents: batch={} queries={} kv_heads={}",
      op.op, s.batch, s.queries, s.kv_heads);
  const AttentionConstants& constants = calibration.attention;
  const bool fp8 = op.precision == Precision::kFp8;

  // 1. The heaviest part.
  const std::int64_t blocks_of_heads = ceil_div(s.heads, kRows);
  const std::int64_t parts = std::max<std::int64_t>(1, sms / blocks_of_heads);
  const std::int64_t rounds = ceil_div(blocks_of_heads, sms);
  const std::int64_t pages_each = ceil_div(s.keys, kPage);
  const Split part = split(s.batch, pages_each, parts);
  const auto pages = static_cast<double>(rounds * part.pages);
  const auto sequences = static_cast<double>(rounds * part.sequences);

  // 2. Its cycles.
  constexpr double kScores = static_cast<double>(kRows * kPage);
  const double page =
      2 * kScores * static_cast<double>(s.qk_dim + s.v_dim) / tensor_flop_per_clock(op, gpu);
  const double tensor = pages * page;
  const Constant& exposed_constant = fp8 ? constants.decode_exposed_fp8 : constants.decode_exposed;
  const double exposed =
      pages * exposed_constant.value * softmax_cycles(kScores, kForwardInstructions);
  const double turning = pages * constants.decode_page_cycles.value;
  const double starting = sequences * constants.decode_sequence_cycles.value;

  // 3. Bytes. Pages come whole; the rest is loaded and stored beside no computation.
  KernelCost cost;
  cost.flops = op.flops;
  cost.hbm_bytes = op.read + op.written;
  const double element = bytes_per_element(op.precision);
  const double row = static_cast<double>(s.qk_dim) * element;
  const double cache = static_cast<double>(s.batch * pages_each * kPage) * row;
  const double paging_seconds = cache / (gpu.hbm_bandwidth.count() * constants.cache_hbm.value);
  const Frequency clock = attention_clock(
      gpu, calibration, sms,
      static_cast<double>(s.batch * pages_each * blocks_of_heads) / sms * page,
      std::max(tensor + exposed, paging_seconds * gpu.max_clock.count()) + turning + starting);
  const double paging = paging_seconds * clock.count();
  const double cycles_per_byte = clock.count() / gpu.hbm_bandwidth.count();
  const double key_bytes = static_cast<double>(s.batch * s.keys) * row;
  const double operands = (static_cast<double>(cost.hbm_bytes.count()) - key_bytes) *
                          cycles_per_byte / constants.operand_hbm.value;
  cost.l2_bytes = Bytes(static_cast<std::int64_t>(cache * static_cast<double>(blocks_of_heads)));

  // 4. Combining reads the FP32 outputs of every part of a sequence.
  const double cut_bytes =
      static_cast<double>(part.cuts * s.heads * s.v_dim) * bytes_per_element(Precision::kFp32);
  const double cuts =
      part.cuts == 0 ? 0 : static_cast<double>(part.cuts) / static_cast<double>(s.batch) + 1;
  const double microsecond = 1e-6 * clock.count();
  const double combining = cuts * constants.decode_split_us.value * microsecond +
                           cut_bytes * cycles_per_byte / constants.cache_hbm.value;

  cost.tiling = {
      .block_m = kRows, .block_n = kPage, .blocks = parts * blocks_of_heads, .waves = rounds};
  const bool hbm_bound = paging > tensor + exposed;
  const auto limit = [&](Limit l) { return hbm_bound ? Limit::kHbm : l; };
  set_parts(cost, clock,
            {{"launch", kLaunches * constants.launch_us.value * microsecond, Limit::kLatency},
             {"operands", operands, Limit::kHbm},
             {"tensor", tensor, limit(Limit::kTensor)},
             {"softmax", exposed, limit(Limit::kIssue)},
             {"hbm", paging - tensor - exposed, Limit::kHbm},
             {"pages", turning, Limit::kLatency},
             {"prologue and epilogue", starting, Limit::kLatency},
             {"combine", combining, Limit::kLatency}});
  return cost;
}

const Constant& constant(const CalibrationSpec& calibration) {
  return calibration.attention.decode_exposed;
}

constexpr KernelOption kOptions[] = {
    {"heads", "query heads"},
    {"batch", "sequences, with one query each", 1},
    {"sequence", "keys of a sequence, with the query's own"},
    {"step", "keys more", 0},
    {"qk_dim", "width of a row of the cache", 576},
    {"v_dim", "its first elements, which serve as values", 512},
    {"kv_dtype",
     "format of the KV cache, where the call also rotates the queries; none: BF16, "
     "queries as given",
     0, kCacheFormats},
};

Operation make(std::string_view op, std::span<const std::int64_t> values) {
  const AttentionShape shape{.batch = values[1],
                             .heads = values[0],
                             .kv_heads = 1,
                             .queries = 1,
                             .keys = values[2] + values[3],
                             .qk_dim = values[4],
                             .v_dim = values[5],
                             .cache = cache_format(values[6])};
  require(shape.heads > 0 && shape.batch > 0 && values[2] > 0 && values[3] >= 0 &&
              shape.v_dim > 0 && shape.qk_dim >= shape.v_dim,
          "{}: extents must be positive and the values a part of the keys: heads={} batch={} "
          "sequence={} step={} qk_dim={} v_dim={}",
          op, shape.heads, shape.batch, values[2], values[3], shape.qk_dim, shape.v_dim);
  return attention_decode_operation(shape);
}

const Register<KernelKind> kEntries[] = {
    {"attention_decode", {decode, constant, kOptions, make}},
};

}  // namespace

}  // namespace pipecast
