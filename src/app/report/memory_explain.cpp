#include <fmt/format.h>

#include <cmath>

#include "app/report/memory_report.hpp"
#include "app/report/table.hpp"
#include "model/operations/operation.hpp"

namespace pipecast {

namespace {

std::string number(std::int64_t value) { return grouped(static_cast<double>(value)); }
std::string number(Bytes bytes) { return number(bytes.count()) + " B"; }

/// "4,096 tokens", "576 [kv_lora_rank + qk_rope_head_dim]": brackets keep apart what is a formula
/// itself.
std::string counted(std::int64_t count, std::string_view are) {
  if (are.empty()) return number(count);
  const bool formula =
      are.find(" x ") != std::string_view::npos || are.find('+') != std::string_view::npos;
  return formula ? fmt::format("{} [{}]", number(count), are)
                 : fmt::format("{} {}", number(count), are);
}

/// Of one element.
std::string width_of(Precision p) { return fmt::format("{:g} B", bytes_per_element(p)); }

std::string extents(const MemoryTensor& t) {
  const std::string rows = counted(t.rows, t.rows_are);
  return t.columns == 1 ? rows : rows + " x " + counted(t.columns, t.columns_are);
}

/// Of one copy, as stored_bytes counts it.
std::string with_scales(const MemoryTensor& t) {
  const double elements = static_cast<double>(t.rows) * static_cast<double>(t.columns);
  std::string out = extents(t) + " x " + width_of(t.precision);
  if (std::fmod(elements * bytes_per_element(t.precision), 1) != 0) out = "ceil(" + out + ")";
  if (t.precision == Precision::kFp8 || t.precision == Precision::kE5m6) {
    constexpr std::int64_t kScaleTile = 128;  // elements of a row that share a scale of 4 bytes
    out += fmt::format(" + {} rows x {} scales x 4 B", number(t.rows),
                       number(ceil_div(t.columns, kScaleTile)));
  }
  return out;
}

std::string parameters(const MemoryTensor& t) {
  std::string out = extents(t);
  if (t.copies > 1) out += " x " + counted(t.copies, t.copies_are);
  if (t.shards > 1) out = fmt::format("ceil({} / {} GPUs)", out, number(t.shards));
  return fmt::format("{} x {}", out, width_of(t.precision));
}

std::string arithmetic(const TensorGroup& group) {
  const MemoryTensor& t = group.tensor;
  const bool working_set = t.operands + t.results > Bytes();
  std::string out;
  std::string factors;
  if (working_set) {
    out = number(t.operands) + " read + " + number(t.results) + " written";
  } else if (t.scaled) {
    out = with_scales(t);
  } else if (!group.live) {
    return fmt::format("{} = {}", parameters(t), number(group.bytes));
  } else {
    out = extents(t) + " x " + width_of(t.precision);
  }
  if (group.copies > 1) factors += " x " + counted(group.copies, t.copies_are);
  const bool sum = out.find(" + ") != std::string::npos;
  if (sum && !factors.empty()) out = "(" + out + ")";
  return fmt::format("{}{} = {}", out, factors, number(group.bytes));
}

std::string place_of(const TensorGroup& group) {
  const MemoryTensor& t = group.tensor;
  std::string out{name_of(t.category)};
  if (t.layer) out += fmt::format(", {}", name_of(*t.layer));
  if (t.stage >= 0) out += fmt::format(", stage {}", t.stage);
  if (t.position >= 0) out += fmt::format(", layer {} of it", t.position);
  return fmt::format("{}, {}", out, name_of(t.precision));
}

std::string lines(const std::vector<MemoryTensor>& tensors) {
  std::string out;
  for (const TensorGroup& group : tensor_groups(tensors, true)) {
    out += fmt::format("{} ({}): {}\n    {}\n", group.tensor.name, place_of(group),
                       group.tensor.reason, arithmetic(group));
  }
  return out;
}

Bytes sum_of(const std::vector<MemoryTensor>& tensors) {
  Bytes out;
  for (const MemoryTensor& t : tensors) out += t.bytes;
  return out;
}

}  // namespace

std::string memory_explanation(const MemoryAnswer& answer, const std::string& name) {
  const int rank = answer.shown();
  const NamedMemory named = memory_named(answer.study.memory, rank, name);
  std::string out = fmt::format(
      "{} of pipeline rank {} at its peak, {:.3f} s into the step, in {}\n\n", name, rank,
      to_seconds(answer.study.memory.peak(rank).when), doing_at_peak(answer.study, rank));
  out += lines(named.tensors);
  const Bytes bytes = sum_of(named.tensors);
  out += fmt::format("\n{}: {} = {:.2f} GB\n", name, number(bytes),
                     static_cast<double>(bytes.count()) / 1e9);
  if (named.on_host.empty()) return out;
  const Bytes host = sum_of(named.on_host);
  return out +
         fmt::format("\nin the node's memory\n\n{}\n{} in the node's memory: {} = {:.2f} GB\n",
                     lines(named.on_host), name, number(host),
                     static_cast<double>(host.count()) / 1e9);
}

}  // namespace pipecast
