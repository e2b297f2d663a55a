#include <algorithm>
#include <catch2/catch.hpp>
#include <string>

#include "base/error.hpp"
#include "model/arithmetic/kv_cache.hpp"
#include "model/memory/inference_memory.hpp"
#include "model/memory/stored_weights.hpp"
#include "models.hpp"

using namespace pipecast;
using namespace pipecast::testing;

namespace {

constexpr std::int64_t kHidden = 7168;  // of DeepSeek-V3
const Bytes kCapacity(84'943'110'144);  // of an 80 GB H800, as the device shows it
const Bytes kReserve(8'000'000'000);

/// FP8 with an FP32 scale for each block of 128 x 128.
std::int64_t fp8(std::int64_t rows, std::int64_t columns) {
  return rows * columns + ceil_div(rows, 128) * ceil_div(columns, 128) * 4;
}

std::int64_t bf16(std::int64_t count) { return 2 * count; }

InferencePlan one_gpu() { return {.capacity = kCapacity, .reserve = kReserve}; }

/// DeepSeek-V3's units of deployment (report, arXiv 2412.19437, section 3.4). Prefill: 4 nodes; TP4
/// for attention, dense FFNs whole on every GPU, EP32 with one redundant expert on each. That the
/// shared expert is whole on every GPU too is an assumption.
InferencePlan prefill() {
  InferencePlan plan = one_gpu();
  plan.tp = 4;
  plan.dense_tp = 1;
  plan.dp = 8;
  plan.ep = 32;
  plan.extra_experts = 32;
  return plan;
}

/// Decode: 40 nodes; TP4 for attention, one expert on each of 320 GPUs, 64 of these redundant or
/// shared ones.
InferencePlan decode() {
  InferencePlan plan = one_gpu();
  plan.tp = 4;
  plan.dense_tp = 1;
  plan.dp = 80;
  plan.ep = 320;
  plan.extra_experts = 64;
  plan.shared_as_routed = true;
  return plan;
}

}  // namespace

TEST_CASE("KV cache per token is what Table 1 of arXiv 2505.09343 prints", "[kv_cache]") {
  REQUIRE(kv_cache_per_token(deepseek_v3()) == Bytes(61 * (512 + 64) * 2));
  REQUIRE(kv_cache_per_token(deepseek_v3()) == Bytes(70'272));
  REQUIRE(kv_cache_per_token(qwen_72b()) == Bytes(327'680));
  REQUIRE(kv_cache_per_token(llama_405b()) == Bytes(516'096));
}

TEST_CASE("an FP8 latent has scales and a BF16 rotary key, other caches a byte an element",
          "[kv_cache]") {
  // 656 bytes a layer: FlashMLA, docs/20250929-hopper-fp8-sparse-deep-dive.md.
  REQUIRE(kv_cache_per_token(deepseek_v3(), Precision::kFp8) == Bytes(61 * (512 + 16 + 128)));
  REQUIRE(kv_cache_per_token(deepseek_v3(), Precision::kFp8) == Bytes(61 * 656));
  ModelSpec odd = deepseek_v3();
  odd.kv_lora_rank = 129;  // an incomplete block has a scale of its own
  REQUIRE(kv_cache_per_token(odd, Precision::kFp8) == Bytes(61 * (129 + 8 + 128)));
  for (const GqaModel& model : {qwen_72b(), llama_405b()}) {
    REQUIRE(2 * kv_cache_per_token(model, Precision::kFp8) == kv_cache_per_token(model));
  }
  REQUIRE_THROWS_WITH(kv_cache_per_token(qwen_72b(), Precision::kE5m6),
                      "a KV cache is kept in bf16 or fp8, not e5m6");
  REQUIRE_THROWS_WITH(kv_cache_per_token(deepseek_v3(), Precision::kFp32),
                      "a KV cache is kept in bf16 or fp8, not fp32");
}

TEST_CASE("multi-head attention keeps a key and a value of every head", "[kv_cache]") {
  // DeepSeek-V3's own heads: 128 of 192 for keys and 128 for values, 71 times its latent.
  const Bytes heads = multi_head_kv_cache_per_token(deepseek_v3());
  REQUIRE(heads == Bytes(61 * 128 * (192 + 128) * 2));
  REQUIRE(heads.count() / kv_cache_per_token(deepseek_v3()).count() == 71);
  REQUIRE(2 * multi_head_kv_cache_per_token(deepseek_v3(), Precision::kFp8) == heads);
  // Qwen's 64 heads over 8 of keys and values.
  GqaModel all_heads = qwen_72b();
  all_heads.kv_heads = all_heads.heads;
  REQUIRE(kv_cache_per_token(all_heads) == 8 * kv_cache_per_token(qwen_72b()));
}

TEST_CASE("weights are stored with a scale per block where they are FP8", "[memory]") {
  const ParameterTensor matrix = {"m", 576, 7168, 3, TensorRole::kExpert};
  REQUIRE(stored_weight_bytes(matrix, Precision::kFp8) == Bytes(3 * (576 * 7168 + 5 * 56 * 4)));
  REQUIRE(stored_weight_bytes(matrix, Precision::kBf16) == Bytes(3 * 576 * 7168 * 2));
  for (const TensorRole role : {TensorRole::kHighPrecision, TensorRole::kVector}) {
    REQUIRE(stored_weight_bytes({"m", 576, 7168, 1, role}, Precision::kFp8) ==
            Bytes(576 * 7168 * 2));
  }
  REQUIRE_THROWS_WITH(stored_weight_bytes(matrix, Precision::kFp32),
                      "linear layers are stored in bf16 or fp8, not fp32");
}

TEST_CASE("a GPU of DeepSeek-V3's prefill unit holds nine experts a layer and its heads",
          "[memory][inference]") {
  const InferenceMemory memory = inference_memory(deepseek_v3(), prefill());
  REQUIRE(memory.gpus == 32);
  REQUIRE(memory.stages.size() == 1);
  const InferenceWeights& w = memory.stages[0].weights;
  const std::int64_t expert = fp8(2 * 2048, kHidden) + fp8(kHidden, 2048);
  REQUIRE(w.experts == Bytes(58 * 9 * expert));
  REQUIRE(w.shared_experts == Bytes(58 * expert));
  REQUIRE(w.dense_ffn == Bytes(3 * (fp8(2 * 18432, kHidden) + fp8(kHidden, 18432))));
  // 32 of 128 heads: keys of 128 + 64, values of 128.
  const std::int64_t attention = fp8(1536, kHidden) + fp8(32 * 192, 1536) + fp8(512 + 64, kHidden) +
                                 fp8(32 * (128 + 128), 512) + fp8(kHidden, 32 * 128);
  REQUIRE(w.attention == Bytes(61 * attention));
  REQUIRE(w.embedding == Bytes(bf16(2 * (129280 / 4) * kHidden)));
  const std::int64_t norms = 61 * (2 * kHidden + 1536 + 512) + kHidden;
  REQUIRE(w.others == Bytes(bf16(norms + 58 * (256 * kHidden + 256))));
  REQUIRE(w.total() ==
          w.attention + w.dense_ffn + w.shared_experts + w.experts + w.embedding + w.others);

  REQUIRE(memory.weights_fit);
  REQUIRE(memory.stages[0].free == kCapacity - kReserve - w.total());
  REQUIRE(memory.tokens == memory.stages[0].free.count() / 70'272);
  REQUIRE(memory.requests(4096) == memory.tokens / 4096);
}

TEST_CASE("a GPU of DeepSeek-V3's decode unit holds one expert a layer and no shared one beside it",
          "[memory][inference]") {
  const InferenceMemory memory = inference_memory(deepseek_v3(), decode());
  REQUIRE(memory.gpus == 320);
  const InferenceWeights& w = memory.stages.at(0).weights;
  REQUIRE(w.experts == Bytes(58 * (fp8(2 * 2048, kHidden) + fp8(kHidden, 2048))));
  REQUIRE(w.shared_experts == Bytes());
  const InferenceMemory before = inference_memory(deepseek_v3(), prefill());
  REQUIRE(w.attention == before.stages[0].weights.attention);
  REQUIRE(memory.tokens > before.tokens);

  InferencePlan plan = decode();
  plan.cache = Precision::kFp8;
  REQUIRE(inference_memory(deepseek_v3(), plan).tokens ==
          memory.stages[0].free.count() / (61 * 656));
}

TEST_CASE("tokens are what the free bytes hold, no more and no less",
          "[memory][inference][property]") {
  InferencePlan plan = GENERATE(prefill(), decode());
  plan.reserve = Bytes(GENERATE(as<std::int64_t>{}, 0, 1, 70'271, 70'272, 10'000'000'001));
  const InferenceMemory memory = inference_memory(deepseek_v3(), plan);
  const InferenceStage& stage = memory.stages.at(0);
  REQUIRE(memory.tokens * stage.cache_per_token <= stage.free);
  REQUIRE((memory.tokens + 1) * stage.cache_per_token > stage.free);
}

TEST_CASE("tensor parallelism splits heads and words but neither the latent nor its projections",
          "[memory][inference][property]") {
  const int tp = GENERATE(1, 2, 4, 8, 16);
  InferencePlan plan = one_gpu();
  plan.weights = Precision::kBf16;  // no scales, so that parts of a matrix sum to it
  const InferenceMemory whole = inference_memory(deepseek_v3(), plan);
  plan.tp = tp;
  const InferenceMemory split = inference_memory(deepseek_v3(), plan);
  const InferenceWeights& a = whole.stages.at(0).weights;
  const InferenceWeights& b = split.stages.at(0).weights;
  const Bytes down_projections(bf16(61 * (1536 + 512 + 64) * kHidden));
  REQUIRE(tp * (b.attention - down_projections) == a.attention - down_projections);
  REQUIRE(tp * b.dense_ffn == a.dense_ffn);
  REQUIRE(tp * b.shared_experts == a.shared_experts);
  REQUIRE(tp * b.embedding == a.embedding);
  REQUIRE(b.others == a.others);
  REQUIRE(b.experts == a.experts);  // ep = 1
  REQUIRE(split.stages[0].cache_per_token == Bytes(70'272));
}

TEST_CASE("expert parallelism splits the experts alone", "[memory][inference]") {
  InferencePlan plan = one_gpu();
  plan.dp = GENERATE(1, 8, 64, 256);
  const InferenceMemory replicated = inference_memory(deepseek_v3(), plan);
  plan.ep = plan.dp;
  const InferenceMemory spread = inference_memory(deepseek_v3(), plan);
  const Bytes saved = replicated.stages.at(0).weights.experts - spread.stages.at(0).weights.experts;
  REQUIRE(plan.ep * spread.stages[0].weights.experts == replicated.stages[0].weights.experts);
  REQUIRE(replicated.stages[0].weights.total() - spread.stages[0].weights.total() == saved);
  // Alone, DeepSeek-V3 is 671 GB in FP8 and does not fit on a GPU.
  REQUIRE_FALSE(replicated.weights_fit);
  REQUIRE(replicated.tokens == 0);
  REQUIRE(spread.weights_fit == (plan.ep >= 64));
}

TEST_CASE("pipeline stages share out layers, weights and cache", "[memory][inference][property]") {
  const int pp = GENERATE(1, 2, 3, 16, 61);
  const bool tied = GENERATE(false, true);
  ModelSpec model = deepseek_v3();
  model.tie_word_embeddings = tied;
  InferencePlan plan = one_gpu();
  const Bytes whole = inference_memory(model, plan).stages.at(0).weights.total();
  plan.pp = pp;
  const InferenceMemory memory = inference_memory(model, plan);
  REQUIRE(memory.stages.size() == static_cast<std::size_t>(pp));
  std::int64_t layers = 0;
  Bytes weights;
  Bytes cache;
  std::int64_t least = memory.stages[0].tokens;
  for (const InferenceStage& stage : memory.stages) {
    REQUIRE((stage.layers == 61 / pp || stage.layers == 61 / pp + 1));
    layers += stage.layers;
    weights += stage.weights.total();
    cache += stage.cache_per_token;
    least = std::min(least, stage.tokens);
  }
  REQUIRE(layers == 61);
  REQUIRE(cache == Bytes(70'272));
  REQUIRE(memory.tokens == least);
  // A tied embedding is copied where the head is on another stage.
  const Bytes copy(tied && pp > 1 ? bf16(std::int64_t{129280} * kHidden) : 0);
  REQUIRE(weights == whole + copy);
}

TEST_CASE("a dense model is the sum of its matrices and splits its cache by key-value heads",
          "[memory][inference]") {
  const GqaModel m = llama_405b();
  InferencePlan plan = one_gpu();
  plan.weights = Precision::kBf16;
  const InferenceMemory whole = inference_memory(m, plan);
  const std::int64_t hidden = 16384;
  const std::int64_t layer = hidden * 128 * (128 + 8 + 8 + 128) + 3 * hidden * 53248 + 2 * hidden;
  const std::int64_t parameters = 126 * layer + 2 * 128256 * hidden + hidden;
  REQUIRE(whole.stages.at(0).weights.total() == Bytes(bf16(parameters)));
  REQUIRE(static_cast<double>(parameters) == Approx(405e9).margin(1e9));  // its name

  plan.tp = GENERATE(2, 4, 8, 16, 32);
  const InferenceMemory split = inference_memory(m, plan);
  const std::int64_t kv_splits = std::min(plan.tp, 8);  // each head is somewhere whole
  REQUIRE(kv_splits * split.stages.at(0).cache_per_token == Bytes(516'096));
  const std::int64_t queries = 2 * hidden * 128 * 128 / plan.tp;
  const std::int64_t keys = 2 * hidden * 128 * 8 / kv_splits;
  REQUIRE(split.stages[0].weights.attention == Bytes(bf16(126 * (queries + keys))));
  REQUIRE(plan.tp * split.stages[0].weights.dense_ffn == whole.stages[0].weights.dense_ffn);
  // 812 GB over GPUs of 77 GB.
  REQUIRE(split.weights_fit == (plan.tp >= 16));
}

TEST_CASE("deployments that cannot be split evenly are refused", "[memory][inference]") {
  const auto refused = [](const InferencePlan& plan, const std::string& message) {
    REQUIRE_THROWS_WITH(inference_memory(deepseek_v3(), plan), message);
  };
  InferencePlan plan = one_gpu();
  plan.dp = 0;
  refused(plan, "a deployment needs positive tp=1 pp=1 dp=0 ep=1");
  plan = one_gpu();
  plan.tp = 3;
  refused(plan, "128 attention heads cannot be split evenly over tp=3 GPUs");
  plan.tp = 4;
  plan.dense_tp = 3;
  refused(plan, "dense_tp=3 does not divide tp=4");
  plan = one_gpu();
  plan.pp = 62;
  refused(plan, "61 layers are too few for pp=62 stages");
  plan = one_gpu();
  plan.reserve = plan.capacity + Bytes(1);
  refused(plan, "a reserve of 84943110145 bytes does not fit into 84943110144 bytes");
  plan = one_gpu();
  plan.ep = 4;
  refused(plan, "tp * dp = 1 GPUs of a stage are not a multiple of ep=4");
  plan.dp = 320;
  plan.ep = 320;
  refused(plan, "256 routed and 0 extra experts cannot be split evenly over ep=320 GPUs");
  plan = one_gpu();
  plan.extra_experts = -1;
  refused(plan, "extra_experts must not be negative: -1");
  plan = one_gpu();
  plan.shared_as_routed = true;
  refused(plan, "a shared expert that is placed like a routed one needs extra_experts");
  plan.extra_experts = 1;
  REQUIRE_THROWS_WITH(inference_memory(deepseek_v2(), plan),
                      "2 shared experts cannot stand for a routed one; there must be one");

  ModelSpec odd = deepseek_v3();
  odd.intermediate_size = 18433;
  plan = one_gpu();
  plan.tp = 4;
  REQUIRE_THROWS_WITH(inference_memory(odd, plan),
                      "36866 rows of gate_up cannot be split evenly over 4 GPUs");

  plan = one_gpu();
  plan.ep = 2;
  REQUIRE_THROWS_WITH(inference_memory(llama_405b(), plan),
                      "a dense model has no experts to spread: ep=2 extra_experts=0");
  GqaModel few = llama_405b();
  few.kv_heads = 6;
  plan.ep = 1;
  plan.tp = 4;
  REQUIRE_THROWS_WITH(inference_memory(few, plan),
                      "6 key-value heads and tp=4 GPUs: one must be a multiple of the other");
}
