#include "app/calibrate/extents.hpp"

#include <fmt/format.h>

#include <map>
#include <string_view>

#include "base/error.hpp"
#include "model/operations/memory_shapes.hpp"
#include "model/ops/kernel_cost.hpp"

namespace pipecast {

namespace {

using Extents = std::map<std::string_view, std::int64_t>;

std::int64_t divided(Bytes bytes, std::int64_t by) { return by == 0 ? 0 : bytes.count() / by; }

Extents of_product(const Operation& o) {
  const ProductOptions& p = o.product;
  return {{"m", o.m},
          {"n", o.n},
          {"k", o.k},
          {"groups", o.groups},
          {"block-m", p.block_m},
          {"block-n", p.block_n},
          {"promotion", p.promotion ? 1 : 0},
          {"full-accumulation", p.full_accumulation ? 1 : 0},
          {"native-scaling", p.native_scaling ? 1 : 0},
          {"cast", p.with_cast ? 1 : 0},
          {"masked", p.masked ? 1 : 0}};
}

Extents of_attention(const Operation& o) {
  const AttentionShape& a = o.attention;
  return {{"heads", a.heads},
          {"batch", a.batch},
          {"sequence", a.queries},
          {"kv_heads", a.kv_heads == a.heads ? 0 : a.kv_heads},
          {"step", a.keys - a.queries},
          {"qk_dim", a.qk_dim},
          {"v_dim", a.v_dim},
          {"causal", a.causal ? 1 : 0},
          {"kv_dtype", 0}};
}

/// What memory_operation() made bytes of, from those bytes.
Extents of_memory(const Operation& o) {
  constexpr std::int64_t kFp32 = 4;
  constexpr std::int64_t kBf16 = 2;
  constexpr std::int64_t kDescriptor = 128;  // bytes of a CUtensorMap
  const std::string_view op = o.op;
  const std::int64_t tensor = o.m * o.n;
  if (op == "elementwise") {
    const std::int64_t element = o.precision == Precision::kBf16 ? kBf16 : kFp32;
    return {{"rows", o.m},
            {"columns", o.n},
            {"tensors_read", divided(o.read, tensor * element)},
            {"tensors_written", divided(o.written, tensor * element)},
            {"element_bytes", element}};
  }
  if (op == "attention_bwd_preprocess") {
    return {{"tokens", o.m},
            {"heads", o.n},
            {"qk_dim", divided(o.written, tensor * kFp32) - 1},  // and a row statistic per head
            {"v_dim", divided(o.read, 2 * tensor * kBf16)}};
  }
  if (op == "permute") {
    return {{"rows", o.m}, {"columns", o.n}, {"received", divided(o.read, o.n * kBf16)}};
  }
  if (op == "permute_with_scales") {
    const Bytes row = stored_bytes(Precision::kFp8, 1, o.n);
    return {{"rows", o.m}, {"columns", o.n}, {"received", divided(o.read, row.count())}};
  }
  if (op == "unpermute_reduce") {
    return {{"rows", o.m}, {"columns", o.n}, {"received", divided(o.written, o.n * kBf16)}};
  }
  if (op == "permute_map") return {{"choices", o.m}, {"rows", o.n}};
  if (op == "expert_count") return {{"choices", o.m}, {"experts", o.n}};
  if (op == "topk" || op == "group_topk_sum") {
    return {{"rows", o.m},
            {"columns", o.n},
            {op == "topk" ? "chosen" : "groups", divided(o.written, o.m * kFp32)}};
  }
  if (op == "swiglu_weight_bwd") {
    return {{"rows", o.m}, {"columns", o.n}, {"choices", divided(o.written, kFp32)}};
  }
  if (op == "ep_layout") {
    return {{"tokens", o.m}, {"top_k", o.n}, {"counts", divided(o.written, kFp32)}};
  }
  if (op == "ep_notify" || op == "ep_cached_notify") return {{"counts", o.n}};
  if (op == "fill_tensormaps") return {{"descriptors", divided(o.written, kDescriptor)}};
  return {
      {"rows", o.m}, {"columns", o.n}, {"elements", o.n}, {"power_of_two", o.power_of_two ? 1 : 0}};
}

Extents by_family(const Operation& operation) {
  if (is_product(operation)) return of_product(operation);
  const std::string_view op = operation.op;
  if (op == "attention_fwd" || op == "attention_bwd") return of_attention(operation);
  return of_memory(operation);
}

/// Labels and streams are the layer's, not the kernel's.
bool same_work(const Operation& a, const Operation& b) {
  return a.op == b.op && a.precision == b.precision && a.m == b.m && a.n == b.n && a.k == b.k &&
         a.groups == b.groups && a.attention == b.attention && a.product == b.product &&
         a.read == b.read && a.written == b.written && a.power_of_two == b.power_of_two;
}

}  // namespace

std::optional<std::vector<NamedExtent>> extents_of(const Operation& operation) {
  if (operation.op == "ep_dispatch" || operation.op == "ep_combine") return std::nullopt;
  const KernelKind& kind = Registry<KernelKind>::instance().find(operation.op);
  const Extents known = by_family(operation);
  std::vector<NamedExtent> out;
  std::vector<std::int64_t> values;
  for (const KernelOption& option : kind.options) {
    const auto found = known.find(option.name);
    PIPECAST_ASSERT(found != known.end() && "an option that no launch of a layer has");
    values.push_back(found->second);
    out.push_back({std::string(option.name), found->second, option.fallback == found->second});
  }
  if (!same_work(kind.make(operation.op, values), operation)) return std::nullopt;
  return out;
}

std::string shape_text(const std::vector<NamedExtent>& extents) {
  std::string out;
  for (const NamedExtent& extent : extents) {
    if (extent.is_default) continue;
    out += fmt::format("{}{}={}", out.empty() ? "" : " ", extent.name, extent.value);
  }
  return out;
}

}  // namespace pipecast
