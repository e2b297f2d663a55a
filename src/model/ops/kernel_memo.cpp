#include "model/ops/kernel_memo.hpp"

#include "model/operations/operation_kinds.hpp"

namespace pipecast {

std::size_t hash_of(const Operation& op) {
  const AttentionShape& a = op.attention;
  // Length and last letter of a name tell most kinds apart that may have the same extents.
  const auto letter = static_cast<unsigned char>(op.op.empty() ? '\0' : op.op.back());
  std::uint64_t hash = op.op.size() << 8U | letter;
  // Multiply and rotate, as in FxHash (Firefox): one step of a cycle or two per number.
  const auto mix = [&hash](auto number) {
    constexpr std::uint64_t kOdd = 0x9E3779B97F4A7C15;  // 2^64 over the golden ratio
    hash = (hash << 5U | hash >> 59U) ^ static_cast<std::uint64_t>(number);
    hash *= kOdd;
  };
  mix(op.precision);
  mix(op.m);
  mix(op.n);
  mix(op.k);
  mix(op.groups);
  mix(op.read.count());
  mix(op.written.count());
  if (a.heads > 0) {
    mix(a.batch);
    mix(a.heads);
    mix(a.queries);
    mix(a.keys);
    mix(a.causal ? 1 : 0);
  }
  return hash ^ hash >> 32U;  // tables take the low bits, products are good in the high ones
}

const KernelCost& KernelMemo::cost(const Operation& operation, int sms) {
  Key key{operation, sms};
  key.operation.label = {};
  key.operation.stream = Stream::kCompute;
  const auto known = costs_.find(key);
  if (known != costs_.end()) return known->second;
  const KernelCost fresh = kernel_cost(operation, gpu_, calibration_, sms);
  key.operation.op = operation_kind(operation.op);  // outlives the caller's text
  return costs_.emplace(key, fresh).first->second;
}

}  // namespace pipecast
