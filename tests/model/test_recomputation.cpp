/// What layers keep for the backward pass, in which format, and what they do instead of keeping it.
#include <algorithm>
#include <catch2/catch.hpp>
#include <map>
#include <string>

#include "model/operations/layer_operations.hpp"
#include "models.hpp"

using namespace pipecast;
using namespace pipecast::testing;

namespace {

using enum Precision;

constexpr std::int64_t kHidden = 7168;
constexpr std::int64_t kValues = 128 * 128;  // heads x v_head_dim
constexpr std::array kAllKinds = {LayerKind::kEmbedding, LayerKind::kDense, LayerKind::kMoe,
                                  LayerKind::kMtp, LayerKind::kHead};
constexpr std::array kWithAttention = {LayerKind::kDense, LayerKind::kMoe, LayerKind::kMtp};

constexpr RecomputeSpec kNone{};
constexpr RecomputeSpec kDeepSeek{.layernorm = true, .mla_up_proj = true, .moe_act = true};
constexpr RecomputeSpec kUpProjections{.mla_up_proj = true};
constexpr RecomputeSpec kFull{.full = true};

PlanSpec plan_of(const PlanSpec& base, const RecomputeSpec& recompute) {
  PlanSpec plan = base;
  plan.recompute = recompute;
  return plan;
}

PlanSpec caching(const PlanSpec& base, Precision activations, const RecomputeSpec& recompute) {
  PlanSpec plan = plan_of(base, recompute);
  plan.precision.activations = activations;
  return plan;
}

LayerOperations layer_of(const PlanSpec& plan, LayerKind kind) {
  const ModelSpec m = deepseek_v3();
  return layer_operations(m, plan, kind, balanced_load(m, plan, kSequence));
}

std::map<std::string_view, KeptTensor> by_name(const std::vector<KeptTensor>& tensors) {
  std::map<std::string_view, KeptTensor> out;
  for (const KeptTensor& t : tensors) REQUIRE(out.emplace(t.name, t).second);
  return out;
}

Bytes sum(const std::vector<KeptTensor>& tensors) {
  Bytes out;
  for (const KeptTensor& t : tensors) out += t.bytes;
  return out;
}

/// "phase op label" and how many more of it one layer launches than another; 0 is left out.
std::map<std::string, int> more_launches(const LayerOperations& with, const LayerOperations& than) {
  std::map<std::string, int> out;
  const auto count = [&out](const LayerOperations& layer, int sign) {
    for (std::size_t p = 0; p < kPhases; ++p) {
      for (const Operation& o : layer.phases[p]) {
        out[fmt::format("{} {} {}", name_of(static_cast<Phase>(p)), o.op, o.label)] += sign;
      }
    }
  };
  count(with, 1);
  count(than, -1);
  for (auto it = out.begin(); it != out.end();) it = it->second == 0 ? out.erase(it) : ++it;
  return out;
}

using Launches = std::map<std::string, int>;

double flops(const LayerOperations& layer, Phase phase) {
  double out = 0;
  for (const Operation& o : layer.at(phase)) out += o.flops.count();
  return out;
}

std::ptrdiff_t place(const std::vector<Operation>& list, std::string_view op,
                     std::string_view label) {
  const auto it = std::find_if(list.begin(), list.end(),
                               [&](const Operation& o) { return o.op == op && o.label == label; });
  REQUIRE(it != list.end());
  return it - list.begin();
}

const Operation& find(const LayerOperations& layer, Phase phase, std::string_view op,
                      std::string_view label) {
  return layer.at(phase)[static_cast<std::size_t>(place(layer.at(phase), op, label))];
}

bool is_cached_input(const KeptTensor& t) {
  const bool input = t.reason.find("input of") != std::string_view::npos ||
                     t.reason.find("output of SwiGLU") != std::string_view::npos;
  return input && t.name != "attention_output" && t.name != "final_norm_output";
}

}  // namespace

TEST_CASE("with full recomputation a layer keeps what enters it", "[recompute][memory]") {
  const PlanSpec base = GENERATE(deepseek_v3_plan(), bf16_plan());
  const Bytes tensor(std::int64_t{2} * kSequence * kHidden);  // BF16
  const std::map<LayerKind, std::pair<std::vector<std::string_view>, std::int64_t>> expected = {
      {LayerKind::kEmbedding, {{}, 0}},
      {LayerKind::kDense, {{"attention_norm_input"}, 1}},
      {LayerKind::kMoe, {{"attention_norm_input"}, 1}},
      {LayerKind::kMtp, {{"mtp_hidden_norm_input", "mtp_embedding_norm_input"}, 2}},
      {LayerKind::kHead, {{"final_norm_input"}, 1}}};
  for (const auto& [kind, inputs] : expected) {
    CAPTURE(name_of(kind));
    const LayerOperations layer = layer_of(plan_of(base, kFull), kind);
    std::vector<std::string_view> names;
    for (const KeptTensor& t : layer.kept) names.push_back(t.name);
    REQUIRE(names == inputs.first);
    REQUIRE(sum(layer.kept) == inputs.second * tensor);
  }
}

TEST_CASE("what full recomputation makes again is all that would else be kept",
          "[recompute][memory]") {
  const PlanSpec base = GENERATE(deepseek_v3_plan(), bf16_plan());
  for (const LayerKind kind : kAllKinds) {
    CAPTURE(name_of(kind));
    const LayerOperations none = layer_of(plan_of(base, kNone), kind);
    REQUIRE(none.replayed.empty());
    // Modules besides it change nothing: the whole layer contains them.
    RecomputeSpec full = kDeepSeek;
    full.full = true;
    for (const RecomputeSpec& recompute : {kFull, full}) {
      const LayerOperations layer = layer_of(plan_of(base, recompute), kind);
      std::vector<KeptTensor> all = layer.kept;
      all.insert(all.end(), layer.replayed.begin(), layer.replayed.end());
      auto again = by_name(all);
      for (const auto& [name, t] : by_name(none.kept)) {
        CAPTURE(name);
        REQUIRE(again.count(name) == 1);
        REQUIRE(again.at(name).bytes == t.bytes);
        REQUIRE(again.at(name).precision == t.precision);
        REQUIRE(again.at(name).made_in == t.made_in);
        again.erase(name);
      }
      REQUIRE(again.empty());
      // The layer's own launches are those without recomputation; chunks repeat its forward.
      REQUIRE(layer.phases == none.phases);
    }
  }
}

TEST_CASE("attention that is computed again keeps neither its output nor its statistics",
          "[recompute][memory]") {
  const RecomputeSpec with = GENERATE(kNone, kUpProjections, kDeepSeek);
  const PlanSpec base = GENERATE(deepseek_v3_plan(), bf16_plan());
  RecomputeSpec more = with;
  more.core_attn = true;
  for (const LayerKind kind : kWithAttention) {
    CAPTURE(name_of(kind));
    const LayerOperations kept = layer_of(plan_of(base, with), kind);
    const LayerOperations again = layer_of(plan_of(base, more), kind);
    const Bytes output = stored_bytes(base.precision.attention_output, kSequence, kValues);
    const Bytes statistics(std::int64_t{kSequence} * 128 * 4);  // one FP32 per head
    REQUIRE(sum(kept.kept) - sum(again.kept) == output + statistics);
    REQUIRE(by_name(again.kept).count("attention_output") == 0);
    REQUIRE(by_name(again.kept).count("softmax_statistics") == 0);

    Launches expected = {{"attn(B) attention_fwd attention_recompute", 1}};
    if (base.precision.attention_output == kE5m6) {
      expected["attn(F) cast_e5m6 attention_output"] = -1;
      expected["attn(B) uncast_e5m6 attention_output"] = -1;
    }
    REQUIRE(more_launches(again, kept) == expected);
    const auto phase = Phase::kAttentionBackward;
    REQUIRE(flops(again, phase) - flops(kept, phase) ==
            Approx(find(again, Phase::kAttentionForward, "attention_fwd", "").flops.count()));
  }
}

TEST_CASE("attention is computed again when its operands are there and before its output is needed",
          "[recompute]") {
  RecomputeSpec recompute = kDeepSeek;
  recompute.core_attn = true;
  const LayerOperations layer = layer_of(plan_of(deepseek_v3_plan(), recompute), LayerKind::kMoe);
  const std::vector<Operation>& list = layer.at(Phase::kAttentionBackward);
  const std::ptrdiff_t again = place(list, "attention_fwd", "attention_recompute");
  REQUIRE(place(list, "gemm_fp8", "q_b_recompute") < again);
  REQUIRE(place(list, "gemm_fp8", "kv_b_recompute") < again);
  REQUIRE(again < place(list, "gemm_fp8", "o_dgrad"));
  REQUIRE(again < place(list, "cast_transpose_fp8_128x1", "attention_output"));
  REQUIRE(again < place(list, "attention_bwd", ""));
}

TEST_CASE("naming the products' own format changes nothing", "[recompute]") {
  const PlanSpec base = GENERATE(deepseek_v3_plan(), bf16_plan());
  const RecomputeSpec recompute = GENERATE(kNone, kDeepSeek, kUpProjections);
  for (const LayerKind kind : kAllKinds) {
    CAPTURE(name_of(kind));
    const LayerOperations own = layer_of(plan_of(base, recompute), kind);
    const LayerOperations named = layer_of(caching(base, base.precision.gemm, recompute), kind);
    REQUIRE(named.phases == own.phases);
    REQUIRE(sum(named.kept) == sum(own.kept));
  }
}

TEST_CASE("kept inputs have the plan's format, two bytes or one and a scale for 128",
          "[recompute][memory]") {
  const PlanSpec base = GENERATE(deepseek_v3_plan(), bf16_plan());
  const RecomputeSpec recompute = GENERATE(kNone, kDeepSeek, kUpProjections, kFull);
  for (const LayerKind kind : kAllKinds) {
    CAPTURE(name_of(kind));
    const LayerOperations in_fp8 = layer_of(caching(base, kFp8, recompute), kind);
    const LayerOperations in_bf16 = layer_of(caching(base, kBf16, recompute), kind);
    const auto compare = [](const std::vector<KeptTensor>& fp8,
                            const std::vector<KeptTensor>& bf16) {
      REQUIRE(fp8.size() == bf16.size());
      for (std::size_t i = 0; i < fp8.size(); ++i) {
        CAPTURE(fp8[i].name);
        REQUIRE(fp8[i].name == bf16[i].name);
        const std::int64_t elements = fp8[i].rows * fp8[i].columns;
        if (is_cached_input(fp8[i])) {
          REQUIRE(fp8[i].bytes == Bytes(elements + elements / 128 * 4));
          REQUIRE(bf16[i].bytes == Bytes(2 * elements));
        } else {
          REQUIRE(fp8[i].bytes == bf16[i].bytes);
        }
      }
    };
    compare(in_fp8.kept, in_bf16.kept);
    compare(in_fp8.replayed, in_bf16.replayed);
  }
}

TEST_CASE("FP8 products whose inputs are kept in BF16 cast nothing to keep and nothing back",
          "[recompute]") {
  const PlanSpec base = deepseek_v3_plan();
  const auto compare = [&](const RecomputeSpec& recompute, const Launches& expected) {
    const LayerOperations fp8 = layer_of(plan_of(base, recompute), LayerKind::kMoe);
    const LayerOperations bf16 = layer_of(caching(base, kBf16, recompute), LayerKind::kMoe);
    REQUIRE(more_launches(bf16, fp8) == expected);
    // Weight gradients read what is kept.
    const std::int64_t rows = std::int64_t{8} * kSequence;
    const auto tokens = [](const LayerOperations& layer) {
      return find(layer, Phase::kMlpWeight, "cast_transpose_fp8_128x1", "tokens").read;
    };
    REQUIRE(tokens(fp8) == Bytes(rows * kHidden + rows * kHidden / 128 * 4));
    REQUIRE(tokens(bf16) == Bytes(2 * rows * kHidden));
  };
  // Rows come in FP8, so that BF16 has to be made of them.
  const Launches always = {{"mlp(F) cast_fp8_1x128 routed_gate_up", -1},
                           {"mlp(F) cast_fp8_1x128 shared_gate_up", -1},
                           {"mlp(F) uncast_fp8 tokens", 1},
                           {"mlp(B) uncast_fp8 routed_gate_up", -1},
                           {"mlp(B) uncast_fp8 mlp_norm_output", -1}};
  // SwiGLU writes two formats where its BF16 output is kept and its FP8 output multiplied.
  Launches none = always;
  none.insert({{"mlp(F) swiglu_fwd_and_cast_fp8 routed_down", -1},
               {"mlp(F) swiglu_fwd routed_down", 1},
               {"mlp(F) cast_fp8_1x128 routed_down", 1},
               {"mlp(F) swiglu_fwd_and_cast_fp8 shared_down", -1},
               {"mlp(F) swiglu_fwd shared_down", 1},
               {"mlp(F) cast_fp8_1x128 shared_down", 1},
               {"mlp(B) uncast_fp8 routed_down", -1},
               {"attn(B) uncast_fp8 attention_norm_output", -2},
               {"attn(B) uncast_fp8 q_norm_output", -1},
               {"attn(B) uncast_fp8 kv_norm_output", -1}});
  compare(kNone, none);
  // The up-projections' inputs are cast for their products a second time.
  Launches up_projections = none;
  up_projections.insert({{"attn(B) cast_fp8_1x128 q_b", 1}, {"attn(B) cast_fp8_1x128 kv_b", 1}});
  compare(kUpProjections, up_projections);
  // A norm's output that is just recomputed need not take the way over FP8.
  Launches deepseek = always;
  deepseek["mlp(B) cast_fp8_1x128 mlp_norm_output"] = -1;
  compare(kDeepSeek, deepseek);
}

TEST_CASE("kernels of kept inputs read them in their format", "[recompute]") {
  const std::int64_t elements = std::int64_t{kSequence} * 2 * 2048;  // shared gate and up
  for (const Precision kept : {kFp8, kBf16}) {
    const LayerOperations layer =
        layer_of(caching(deepseek_v3_plan(), kept, kDeepSeek), LayerKind::kMoe);
    const Bytes input = stored_bytes(kept, kSequence, 2 * 2048);
    REQUIRE(
        find(layer, Phase::kMlpBackward, "swiglu_recompute_and_cast_transpose", "shared_down_wgrad")
            .read == input);
    REQUIRE(find(layer, Phase::kMlpBackward, "swiglu_bwd_shared", "shared_down_dgrad").read ==
            input + Bytes(elements));  // and the BF16 gradient of the half as wide output
  }
  for (const Precision kept : {kFp8, kBf16}) {
    const LayerOperations layer =
        layer_of(caching(deepseek_v3_plan(), kept, kNone), LayerKind::kMoe);
    REQUIRE(
        find(layer, Phase::kMlpBackward, "cast_transpose_fp8_128x1", "shared_down_wgrad").read ==
        stored_bytes(kept, kSequence, 2048));
  }
}

TEST_CASE("BF16 products whose inputs are kept in FP8 cast each to keep it and back to use it",
          "[recompute]") {
  const Launches shared = {{"mlp(F) cast_fp8_1x128 tokens", 1},
                           {"mlp(F) cast_fp8_1x128 routed_gate_up", 1},
                           {"mlp(F) cast_fp8_1x128 shared_gate_up", 1},
                           {"mlp(B) uncast_fp8 routed_gate_up", 1},
                           {"mlp(W) uncast_fp8 tokens", 1}};
  const auto compare = [](const RecomputeSpec& recompute, const Launches& expected) {
    const PlanSpec base = bf16_plan();
    REQUIRE(more_launches(layer_of(caching(base, kFp8, recompute), LayerKind::kMoe),
                          layer_of(plan_of(base, recompute), LayerKind::kMoe)) == expected);
  };
  Launches none = shared;
  none.insert({{"attn(F) cast_fp8_1x128 attention_norm_output", 1},
               {"attn(F) cast_fp8_1x128 q_norm_output", 1},
               {"attn(F) cast_fp8_1x128 kv_norm_output", 1},
               {"attn(F) cast_fp8_1x128 mlp_norm_output", 1},
               {"mlp(F) cast_fp8_1x128 routed_down", 1},
               {"mlp(F) cast_fp8_1x128 shared_down", 1},
               {"mlp(B) uncast_fp8 routed_down", 1},
               {"mlp(B) uncast_fp8 shared_down_wgrad", 1},
               {"mlp(B) uncast_fp8 mlp_norm_output", 1},
               {"attn(B) uncast_fp8 attention_norm_output", 2},  // once per product
               {"attn(B) uncast_fp8 q_norm_output", 1},
               {"attn(B) uncast_fp8 kv_norm_output", 1}});
  compare(kNone, none);
  // The shared SwiGLU again, from its input in BF16; its gradient reads FP8.
  Launches deepseek = shared;
  deepseek["mlp(B) uncast_fp8 shared_gate_up"] = 1;
  compare(kDeepSeek, deepseek);
  Launches up_projections = none;
  up_projections["attn(B) uncast_fp8 q_norm_output"] = 2;
  up_projections["attn(B) uncast_fp8 kv_norm_output"] = 2;
  compare(kUpProjections, up_projections);
}

TEST_CASE("the attention output is kept in the plan's format, cast to it and back",
          "[recompute][memory]") {
  const PlanSpec base = GENERATE(deepseek_v3_plan(), bf16_plan());
  const bool fp8_products = base.precision.gemm == kFp8;
  const auto layer_with = [&](Precision p) {
    PlanSpec plan = base;
    plan.precision.attention_output = p;
    return layer_of(plan, LayerKind::kMoe);
  };
  const LayerOperations in_bf16 = layer_with(kBf16);
  const LayerOperations in_fp8 = layer_with(kFp8);
  const LayerOperations in_e5m6 = layer_with(kE5m6);
  const std::int64_t elements = kSequence * kValues;
  const std::int64_t scales = elements / 128 * 4;
  const auto kept = [](const LayerOperations& layer) {
    return by_name(layer.kept).at("attention_output").bytes;
  };
  REQUIRE(kept(in_bf16) == Bytes(2 * elements));
  REQUIRE(kept(in_fp8) == Bytes(elements + scales));
  REQUIRE(kept(in_e5m6) == Bytes(elements * 3 / 2 + scales));
  REQUIRE(more_launches(in_e5m6, in_bf16) == Launches{{"attn(F) cast_e5m6 attention_output", 1},
                                                      {"attn(B) uncast_e5m6 attention_output", 1}});
  // An FP8 product has cast its input already.
  Launches fp8 = {{"attn(B) uncast_fp8 attention_output", 1}};
  if (!fp8_products) fp8["attn(F) cast_fp8_1x128 attention_output"] = 1;
  REQUIRE(more_launches(in_fp8, in_bf16) == fp8);
}
