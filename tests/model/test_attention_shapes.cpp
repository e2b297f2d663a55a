#include <catch2/catch.hpp>

#include "model/operations/attention_shapes.hpp"
#include "model/operations/layer_operations.hpp"
#include "models.hpp"

using namespace pipecast;
using namespace pipecast::testing;

namespace {

constexpr AttentionShape kPrefill{.batch = 3,
                                  .heads = 16,
                                  .kv_heads = 16,
                                  .queries = 100,
                                  .keys = 300,
                                  .qk_dim = 192,
                                  .v_dim = 128,
                                  .causal = true};
constexpr AttentionShape kDecode{.batch = 5,
                                 .heads = 128,
                                 .kv_heads = 1,
                                 .queries = 1,
                                 .keys = 1000,
                                 .qk_dim = 576,
                                 .v_dim = 512};

AttentionShape with_cache(AttentionShape shape, Precision cache) {
  shape.cache = cache;
  return shape;
}

const Operation& only(const std::vector<Operation>& list, std::string_view op) {
  const Operation* found = nullptr;
  for (const Operation& o : list) {
    if (o.op != op) continue;
    REQUIRE(found == nullptr);
    found = &o;
  }
  REQUIRE(found != nullptr);
  return *found;
}

}  // namespace

TEST_CASE("a causal mask leaves the keys before the queries and half of the square",
          "[operations][attention]") {
  REQUIRE(attended_pairs(kPrefill) == 100.0 * 200 + 100.0 * 100 / 2);
  AttentionShape full = kPrefill;
  full.causal = false;
  REQUIRE(attended_pairs(full) == 100.0 * 300);
}

TEST_CASE("forward attention reads every operand once and writes outputs and statistics",
          "[operations][attention]") {
  const Operation op = attention_forward_operation(kPrefill);
  REQUIRE(op.flops.count() == 2.0 * 3 * 16 * (100.0 * 200 + 5000) * (192 + 128));
  REQUIRE(op.read == Bytes(2 * 3 * 16 * (100 * 192 + 300 * 192 + 300 * 128)));
  REQUIRE(op.written == Bytes(3 * 16 * 100 * (2 * 128 + 4)));
  REQUIRE(op.precision == Precision::kBf16);
}

TEST_CASE("query heads that share keys and values read them once", "[operations][attention]") {
  AttentionShape grouped = kPrefill;
  grouped.kv_heads = 2;
  const Operation all = attention_forward_operation(kPrefill);
  const Operation some = attention_forward_operation(grouped);
  REQUIRE(all.read - some.read == Bytes(2 * 3 * (16 - 2) * 300 * (192 + 128)));
  REQUIRE(all.flops == some.flops);
}

TEST_CASE("backward attention runs five products and sums the query gradient in FP32",
          "[operations][attention]") {
  const Operation op = attention_backward_operation(kPrefill);
  REQUIRE(op.flops.count() == 2.0 * 3 * 16 * (100.0 * 200 + 5000) * (3 * 192 + 2 * 128));
  const std::int64_t keys_and_values = 2 * 300 * (192 + 128);
  const std::int64_t accumulator = 4 * 100 * 192;
  const std::int64_t statistics = 2 * 4 * 100;
  REQUIRE(op.read ==
          Bytes(3 * 16 * (2 * 100 * (192 + 128) + keys_and_values + statistics + accumulator)));
  REQUIRE(op.written == Bytes(3 * 16 * (keys_and_values + accumulator)));
}

TEST_CASE("absorbed decoding reads a row of the cache for keys and values together",
          "[operations][attention]") {
  const Operation op = attention_decode_operation(kDecode);
  REQUIRE(op.flops.count() == 2.0 * 5 * 128 * 1000 * (576 + 512));
  REQUIRE(op.read == Bytes(2 * 5 * (1000 * 576 + 128 * 576)));
  REQUIRE(op.written == Bytes(2 * 5 * 128 * 512));
}

TEST_CASE("a cache costs rotation of queries and keys, and its own filling",
          "[operations][attention]") {
  REQUIRE(prefill_preparation(kPrefill) == Bytes(0));
  const std::int64_t tokens = 3 * 100;
  // Queries' rotary 64 of each head read and written, keys' written; latents of 512 + 64 copied.
  REQUIRE(prefill_preparation(with_cache(kPrefill, Precision::kBf16)) ==
          Bytes(tokens * (16 * 3 * 64 * 2 + 576 * (2 + 2))));
  // FP8: queries, and the keys and values of all 300 positions, read in BF16 and written in FP8.
  const std::int64_t operands = 3 * 16 * (100 * 192 + 300 * 192 + 300 * 128);
  REQUIRE(prefill_preparation(with_cache(kPrefill, Precision::kFp8)) ==
          Bytes(operands * (2 + 1) + tokens * 576 * (2 + 1)));
}

TEST_CASE("before decoding queries are rotated, or rewritten in FP8", "[operations][attention]") {
  REQUIRE(decode_preparation(kDecode) == Bytes(0));
  REQUIRE(decode_preparation(with_cache(kDecode, Precision::kBf16)) ==
          Bytes(5 * 128 * 64 * (2 + 2)));
  REQUIRE(decode_preparation(with_cache(kDecode, Precision::kFp8)) ==
          Bytes(5 * 128 * 576 * (2 + 1)));
}

TEST_CASE("an FP8 cache is multiplied in FP8 and read with one byte per element",
          "[operations][attention]") {
  const AttentionShape shape = with_cache(kDecode, Precision::kFp8);
  const Operation op = attention_decode_operation(shape);
  REQUIRE(op.precision == Precision::kFp8);
  REQUIRE(op.read - decode_preparation(shape) == Bytes(5 * (1000 * 576 + 128 * 576)));
}

TEST_CASE("a layer's attention has the shape of its micro-batch", "[operations][attention]") {
  const ModelSpec model = deepseek_v3();
  PlanSpec plan = deepseek_v3_plan();
  plan.micro_batch_size = 3;
  const LayerOperations layer =
      layer_operations(model, plan, GENERATE(LayerKind::kDense, LayerKind::kMoe, LayerKind::kMtp),
                       balanced_load(model, plan, 2048));
  const AttentionShape expected{.batch = 3,
                                .heads = 128,
                                .kv_heads = 128,
                                .queries = 2048,
                                .keys = 2048,
                                .qk_dim = 192,
                                .v_dim = 128,
                                .causal = true};
  for (const auto& [phase, op] : {std::pair{Phase::kAttentionForward, "attention_fwd"},
                                  std::pair{Phase::kAttentionBackward, "attention_bwd"}}) {
    CAPTURE(op);
    REQUIRE(only(layer.at(phase), op).attention == expected);
  }
}
