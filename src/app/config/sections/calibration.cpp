#include <algorithm>

#include "app/config/sections/sections.hpp"
#include "model/operations/operation_kinds.hpp"

namespace pipecast::config {

namespace {

/// A constant with its bounds.
void bounded(Fields& f, std::string_view key, Constant& c, std::string_view doc, double low,
             double high) {
  f.required(key, c, doc);
  f.check(c.low >= low, key, "low {} is below {}, the least that has a meaning", c.low, low);
  f.check(c.high <= high, key, "high {} is above {}, the most that has a meaning", c.high, high);
}

constexpr double kLongest = 1e6;  // microseconds: a second

// A fraction of nothing would make times infinite.
constexpr double kLeastFraction = 0.001;
void fraction(Fields& f, std::string_view key, Constant& c, std::string_view doc) {
  bounded(f, key, c, doc, kLeastFraction, 1);
}

std::vector<Choice<Evidence>> evidence_words() {
  std::vector<Choice<Evidence>> out;
  for (const Evidence evidence : {Evidence::kCalibrated, Evidence::kPublic, Evidence::kModelled}) {
    out.push_back({name_of(evidence), evidence});
  }
  return out;
}

}  // namespace

void describe(Fields& f, DeviceStamp& device) {
  f.maybe("name", device.name, "of the device, as its driver has it");
  f.maybe("driver", device.driver, "version of the driver");
  f.maybe("date", device.date, "day of the measurement");
}

void describe(Fields& f, KernelEvidence& kernel) {
  f.required("operation", kernel.operation, "kind of kernel: pipecast list operations");
  f.choice("kind", kernel.kind, evidence_words(), "what its time rests on");
  f.required("rows", kernel.rows, "times that constants were fitted on", at_least(1));
  f.required("source", kernel.source, "where the times come from");
  const auto& known = operation_kinds();
  const auto named = [&](const OperationKind& kind) { return kind.name == kernel.operation; };
  f.check(std::any_of(known.begin(), known.end(), named), "operation",
          "{} is no operation; `pipecast list operations` names all", in_quotes(kernel.operation));
}

void describe(Fields& f, Constant& c) {
  f.required("value", c.value, "what forecasts use", at_least(0));
  f.required("low", c.low, "lower end of the plausible range", at_least(0));
  f.required("high", c.high, "upper end of the plausible range", at_least(0));
  f.required("source", c.source, "where the number comes from");
  f.optional_choice("kind", c.kind, evidence_words(), "what the number rests on");
  f.maybe("spread", c.spread,
          "middle half of the repetitions of the times behind it over their median; 0: unknown",
          at_least(0));
  f.check(c.low <= c.value, "value", "{} is below low = {}", c.value, c.low);
  f.check(c.value <= c.high, "value", "{} is above high = {}", c.value, c.high);
}

void describe(Fields& f, ClockConstants& clock) {
  bounded(f, "loaded_ghz", clock.loaded_ghz, "SM clock with all tensor cores busy for long", 0.1,
          10);
  bounded(f, "settling_us", clock.settling_us,
          "microseconds in which the clock falls by 63 % of its way under load", 1, kLongest);
  bounded(f, "training_ghz", clock.training_ghz,
          "SM clock that the chip holds through a training step", 0.1, 10);
}

void describe(Fields& f, ProductConstants& p) {
  constexpr double kMost = 1e6;  // cycles
  bounded(f, "drain_cycles", p.drain_cycles,
          "cycles of waiting for the tensor cores before each FP8 promotion", 0, kMost);
  bounded(f, "gradient_drain_cycles", p.gradient_drain_cycles,
          "the same in weight gradients, whose scales differ by column", 0, kMost);
  bounded(f, "uneven_columns", p.uneven_columns,
          "extra share of an FP8 tile's loop where its columns are an odd multiple of 16, at 128",
          0, 10);
  bounded(f, "epilogue_cycles_fp8", p.epilogue_cycles_fp8, "cycles per 128 results of FP8 tiles", 0,
          kMost);
  bounded(f, "epilogue_cycles_bf16", p.epilogue_cycles_bf16, "cycles per 128 results of BF16 tiles",
          0, kMost);
  bounded(f, "issue_bf16", p.issue_bf16,
          "cycles of a BF16 tile's loop over those that its tensor cores need", 1, 10);
  bounded(f, "partial_row_cycles", p.partial_row_cycles,
          "cycles per 128 of K for each row that the last 64 rows lack", 0, kMost);
  fraction(f, "hbm", p.hbm, "operands of products, of the memory's line rate");
  bounded(f, "launch_us", p.launch_us, "microseconds before the first and after the last tile", 0,
          kLongest);
  bounded(f, "one_wave_factor", p.one_wave_factor,
          "FP8 loop of a single wave over that of many, tiles of 20,480 results; 1: no difference",
          1, 100);
  bounded(
      f, "one_wave_cycles", p.one_wave_cycles,
      "cycles per 128 of K of a single full wave of tiles of 24,576 or 32,768 results; 0: as many "
      "waves",
      0, kMost);
  bounded(f, "tallest_tile", p.tallest_tile, "rows of the tallest FP8 tile of the measured version",
          128, 256);
  bounded(f, "widest_tile", p.widest_tile, "columns of the widest FP8 tile of the measured version",
          16, 192);
  bounded(f, "training_tile", p.training_tile,
          "rows and columns of the FP8 tile of training's kernels; 0: chosen by the shape", 0, 128);
  const double tile = p.training_tile.value;
  f.check(tile == 0 || tile == 64 || tile == 128, "training_tile",
          "no kernel has tiles of {}; expected 0, 64 or 128", tile);
  bounded(f, "cast_launch_us", p.cast_launch_us,
          "microseconds of launching the cast that FP8 tables include", 0, kLongest);
  bounded(f, "cast_blocks_per_us", p.cast_blocks_per_us,
          "thread blocks that this cast starts in a microsecond; 0: tables time products alone", 0,
          1e9);
}

void describe(Fields& f, AttentionConstants& a) {
  constexpr double kMostExposed = 20;  // times the softmax
  constexpr double kMostCycles = 1e6;
  bounded(f, "launch_us", a.launch_us, "microseconds of each kernel in a chain of dependent ones",
          0, kLongest);
  bounded(f, "forward_exposed", a.forward_exposed,
          "softmax not hidden behind the tensor cores, in units of its time alone; BF16", 0,
          kMostExposed);
  bounded(f, "forward_exposed_fp8", a.forward_exposed_fp8, "the same with FP8 operands", 0,
          kMostExposed);
  bounded(f, "training_exposed", a.training_exposed,
          "the same of training's forward kernel, BF16 operands", 0, kMostExposed);
  bounded(f, "forward_tile_cycles", a.forward_tile_cycles,
          "SM clocks before and after the main loop of a block of queries or keys", 0, kMostCycles);
  bounded(f, "backward_exposed", a.backward_exposed,
          "the same of the backward pass, with the atomic sums of the query gradient", 0,
          kMostExposed);
  bounded(f, "decode_exposed", a.decode_exposed, "the same of absorbed decoding, BF16 cache", 0,
          kMostExposed);
  bounded(f, "decode_exposed_fp8", a.decode_exposed_fp8, "the same with an FP8 cache", 0,
          kMostExposed);
  bounded(f, "decode_page_cycles", a.decode_page_cycles,
          "SM clocks of turning to the next page of the cache", 0, kMostCycles);
  bounded(f, "decode_sequence_cycles", a.decode_sequence_cycles,
          "SM clocks before and after the pages of a sequence or of its part", 0, kMostCycles);
  bounded(f, "decode_split_us", a.decode_split_us,
          "microseconds of combining a sequence's parts, per part", 0, kLongest);
  fraction(f, "cache_hbm", a.cache_hbm, "pages of the cache, of the memory's line rate");
  fraction(f, "operand_hbm", a.operand_hbm,
           "rotated, quantised or single queries, of the memory's line rate");
}

void describe(Fields& f, LinkEfficiency& link) {
  fraction(f, "hbm", link.hbm, "streaming kernels, of the memory's line rate");
  fraction(f, "nvlink", link.nvlink, "per direction, of NVLink's line rate");
  fraction(f, "nic", link.nic, "per direction, of the NIC's line rate");
}

void describe(Fields& f, LatencyConstants& latency) {
  bounded(f, "kernel_us", latency.kernel_us, "microseconds of an empty kernel", 0, kLongest);
  bounded(f, "launch_gap_us", latency.launch_gap_us,
          "microseconds between a kernel's end and the next one's start on a stream", 0, kLongest);
}

constexpr double kMostCycles = 1e9;  // half a second

void describe(Fields& f, MemoryConstants& memory) {
  bounded(f, "conversion_bytes_per_cycle", memory.conversion_bytes_per_cycle,
          "what one SM moves in casts of rows to and from FP8", 0.1, 1e6);
  bounded(f, "dispatch_bytes_per_cycle", memory.dispatch_bytes_per_cycle,
          "the same to FP8 with scales that are powers of two", 0.1, 1e6);
  bounded(f, "sm_bytes_per_cycle", memory.sm_bytes_per_cycle,
          "what one SM moves with all its loads in flight", 0.1, 1e6);
  const auto cycles = [&](std::string_view key, Constant& c, std::string_view doc) {
    bounded(f, key, c, doc, 0, kMostCycles);
  };
  cycles("tile_cycles", memory.tile_cycles,
         "cycles of a thread block to scale and transpose 128 x 128 elements, two per SM");
  cycles("packing_cycles", memory.packing_cycles, "SM cycles per element to E5M6");
  cycles("unpacking_cycles", memory.unpacking_cycles, "SM cycles per element from E5M6");
  cycles("norm_cycles", memory.norm_cycles,
         "cycles of a full SM per element that a norm reads or writes");
  bounded(f, "norm_alone", memory.norm_alone,
          "share of a norm's time on a full SM that its blocks take however few they are", 0, 1);
  cycles("rotation_cycles", memory.rotation_cycles, "SM cycles per element rotated");
  cycles("repetition_cycles", memory.repetition_cycles,
         "SM cycles per element repeated from a smaller tensor");
  cycles("selection_cycles", memory.selection_cycles,
         "SM cycles of a top-k per row and pass over it");
  cycles("scan_cycles", memory.scan_cycles,
         "cycles of one thread block per index and pass over all indices");
  cycles("scale_cycles", memory.scale_cycles, "cycles of one thread block per scale transposed");
}

void describe(Fields& f, CommunicationConstants& communication) {
  bounded(f, "bytes_per_second_per_sm", communication.bytes_per_second_per_sm,
          "copies through one SM of a dispatch or combine, sending and receiving together", 1e6,
          1e15);
  const auto time = [&](std::string_view key, Constant& c, std::string_view doc) {
    bounded(f, key, c, doc, 0, kLongest);
  };
  time("notify_us", communication.notify_us,
       "microseconds of the exchange of token counts before a transfer, nobody being late");
  time("peers_late_us", communication.peers_late_us,
       "microseconds that a GPU in training waits in it for the last of its peers");
  time("dispatch_us", communication.dispatch_us,
       "microseconds of a dispatch of hardly a token, beyond the links");
  time("combine_us", communication.combine_us, "microseconds of such a combine");
  time("token_us", communication.token_us,
       "SM microseconds of a dispatch for a token beside its copies");
  time("copy_us", communication.copy_us,
       "SM microseconds of a dispatch for a copy beside its bytes");
  constexpr double kMostCopies = 1e3;
  bounded(f, "sum_copy", communication.sum_copy,
          "SM time of a combine's sum for a token, in copies", 0, kMostCopies);
  bounded(f, "node_copy", communication.node_copy,
          "SM time of a copy to another node, in copies to a GPU", 0, kMostCopies);
  bounded(f, "first_tokens", communication.first_tokens,
          "tokens' SM time that the first token takes through a thread block", 0, kMostCopies);
  bounded(f, "chunk_tokens", communication.chunk_tokens,
          "tokens an SM by which those that receive run behind those that send", 0, kMostCopies);
  bounded(f, "layout_cycles", communication.layout_cycles,
          "SM cycles of ep_layout for one of a token's experts", 0, kMostCycles);
}

void describe(Fields& f, ContentionConstants& contention) {
  constexpr double kWorst = 100;
  bounded(f, "dispatch", contention.dispatch,
          "SM time of a forward dispatch beside computation over its time alone", 1, kWorst);
  bounded(f, "cached_dispatch", contention.cached_dispatch,
          "SM time of a backward dispatch beside computation over its time alone", 1, kWorst);
  bounded(f, "combine", contention.combine,
          "SM time of a combine beside computation over its time alone", 1, kWorst);
}

void describe(Fields& f, CalibrationSpec& calibration) {
  f.required("gpu", calibration.gpu, "name of the GPU that it was measured on");
  f.optional("allow_device_mismatch", calibration.allow_device_mismatch,
             "whether a cluster of another GPU may use these constants");
  f.maybe("device", calibration.device, "what `pipecast calibrate` measured, and when");
  f.maybe("kernels", calibration.kernels, "kernels whose times the constants rest on");
  f.required("clock", calibration.clock, "SM clock under load");
  f.required("product", calibration.product, "matrix products");
  f.required("attention", calibration.attention, "attention kernels");
  f.required("link", calibration.link, "fractions of line rates");
  f.required("latency", calibration.latency, "fixed times");
  f.required("memory", calibration.memory, "kernels that move memory");
  f.required("communication", calibration.communication, "dispatch and combine kernels");
  f.required("contention", calibration.contention, "what running at the same time costs");
}

}  // namespace pipecast::config
