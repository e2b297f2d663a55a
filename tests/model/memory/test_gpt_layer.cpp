#include <catch2/catch.hpp>
#include <map>
#include <string>

#include "base/error.hpp"
#include "model/memory/gpt_layer.hpp"

using namespace pipecast;

namespace {

/// The 22B, 175B, 530B and 1T models of the paper's Table 3 (hidden, heads; s = 2048), and one
/// whose attention matrix is most of it.
GptLayerShape layer() {
  struct Extents {
    std::int64_t sequence, micro_batch, hidden, heads;
  };
  const auto [s, b, h, a] = GENERATE(Extents{2048, 4, 6144, 64}, Extents{2048, 1, 12288, 96},
                                     Extents{2048, 1, 20480, 128}, Extents{2048, 1, 25600, 160},
                                     Extents{65536, 3, 1024, 32});
  return {.sequence = s, .micro_batch = b, .hidden = h, .heads = a};
}

Bytes kept(const GptLayerShape& shape) { return sum_of(gpt_layer_tensors(shape)); }

std::map<std::string, GptTensor> by_name(const GptLayerShape& shape) {
  std::map<std::string, GptTensor> out;
  for (const GptTensor& tensor : gpt_layer_tensors(shape)) {
    REQUIRE(out.emplace(tensor.name, tensor).second);
  }
  return out;
}

}  // namespace

// All of Korthikanti et al. 2022 (arXiv 2205.05198): section 4 for the parts, Table 2 for the sums.

TEST_CASE("a GPT layer keeps s b h (34 + 5 a s / h) bytes", "[memory][gpt]") {
  const GptLayerShape p = layer();
  const std::int64_t sb = p.sequence * p.micro_batch;
  REQUIRE(kept(p) == Bytes(sb * (34 * p.hidden + 5 * p.heads * p.sequence)));
  // Attention 11 s b h + 5 a s^2 b, MLP 19 s b h, layer norms 4 s b h.
  Bytes attention;
  Bytes mlp;
  Bytes norms;
  for (const GptTensor& tensor : gpt_layer_tensors(p)) {
    const std::string name(tensor.name);
    const bool of_norm = name.find("norm_input") != std::string::npos;
    const bool of_mlp = name.find("mlp") == 0 || name == "gelu_input";
    (of_norm ? norms : of_mlp ? mlp : attention) += tensor.bytes();
  }
  REQUIRE(attention == Bytes(sb * (11 * p.hidden + 5 * p.heads * p.sequence)));
  REQUIRE(mlp == Bytes(19 * sb * p.hidden));
  REQUIRE(norms == Bytes(4 * sb * p.hidden));
}

TEST_CASE("tensor parallelism leaves s b h (10 + 24/t + 5 a s / (h t))", "[memory][gpt]") {
  GptLayerShape p = layer();
  p.tensor_parallel = GENERATE(1, 2, 8, 16, 32);
  const std::int64_t sb = p.sequence * p.micro_batch;
  const std::int64_t t = p.tensor_parallel;
  REQUIRE(kept(p) == Bytes(sb * (10 * p.hidden + (24 * p.hidden + 5 * p.heads * p.sequence) / t)));
}

TEST_CASE("sequence parallelism divides everything by t", "[memory][gpt]") {
  GptLayerShape p = layer();
  const Bytes whole = kept(p);
  p.tensor_parallel = GENERATE(1, 2, 8, 16, 32);
  p.sequence_parallel = true;
  REQUIRE(kept(p) * p.tensor_parallel == whole);
}

TEST_CASE("selective recomputation drops the attention matrix, full all but the input",
          "[memory][gpt]") {
  GptLayerShape p = layer();
  p.tensor_parallel = GENERATE(1, 8, 32);
  const std::int64_t t = p.tensor_parallel;
  const std::int64_t sbh = p.sequence * p.micro_batch * p.hidden;
  p.recompute = GptRecompute::kSelective;
  REQUIRE(kept(p) == Bytes(10 * sbh + 24 * sbh / t));
  p.recompute = GptRecompute::kFull;
  REQUIRE(kept(p) == Bytes(2 * sbh));
  p.sequence_parallel = true;
  REQUIRE(kept(p) == Bytes(2 * sbh / t));
  p.recompute = GptRecompute::kSelective;
  REQUIRE(kept(p) == Bytes(34 * sbh / t));
}

TEST_CASE("the printed formula is the sum of the tensors in every combination", "[memory][gpt]") {
  GptLayerShape p = layer();
  p.tensor_parallel = GENERATE(1, 4, 32);
  p.sequence_parallel = GENERATE(false, true);
  p.recompute = GENERATE(GptRecompute::kNone, GptRecompute::kSelective, GptRecompute::kFull);
  const GptFormula formula = gpt_layer_formula(p);
  CAPTURE(formula.text);
  REQUIRE(formula.bytes == Approx(static_cast<double>(kept(p).count())).epsilon(1e-14));
  // A letter t where, and only where, something is divided.
  const bool divided =
      p.tensor_parallel > 1 && (p.recompute != GptRecompute::kFull || p.sequence_parallel);
  REQUIRE((formula.text.find('t') != std::string_view::npos) == divided);
}

TEST_CASE("each tensor is divided by its own parallelism", "[memory][gpt]") {
  GptLayerShape p = layer();
  const auto whole = by_name(p);
  p.tensor_parallel = 8;
  const auto tensor = by_name(p);
  p.sequence_parallel = true;
  const auto both = by_name(p);
  REQUIRE((whole.size() == tensor.size() && whole.size() == both.size()));
  for (const auto& [name, t] : whole) {
    CAPTURE(name);
    REQUIRE(!t.reason.empty());
    const std::int64_t by_tensor = t.split == GptSplit::kTensor ? 8 : 1;
    REQUIRE(tensor.at(name).bytes() * by_tensor == t.bytes());
    REQUIRE(both.at(name).bytes() * 8 == t.bytes());
    // Masks are the only tensors of one byte.
    const bool mask = name.find("mask") != std::string::npos;
    REQUIRE(t.bytes_per_element == (mask ? 1 : 2));
  }
  REQUIRE(both.at("q").columns == p.hidden / 8);  // whole heads
  REQUIRE(both.at("qkv_input").rows == p.sequence / 8 * p.micro_batch);
  REQUIRE(both.at("softmax_output").rows == p.heads / 8 * p.micro_batch * p.sequence);
}

TEST_CASE("the variants are the six lines of Table 2", "[memory][gpt]") {
  GptLayerShape p = layer();
  p.tensor_parallel = 8;
  const std::vector<GptVariant> variants = gpt_layer_variants(p);
  REQUIRE(variants.size() == 6);
  for (const GptVariant& variant : variants) {
    CAPTURE(variant.name);
    REQUIRE(variant.kept);
    REQUIRE(static_cast<double>(variant.kept->count()) == Approx(variant.formula.bytes));
  }
  const std::int64_t sb = p.sequence * p.micro_batch;
  REQUIRE(variants[0].kept == Bytes(sb * (34 * p.hidden + 5 * p.heads * p.sequence)));
  REQUIRE(variants[2].kept->count() * 8 == variants[0].kept->count());
  REQUIRE(variants[4].kept == Bytes(34 * sb * p.hidden / 8));
  REQUIRE(variants[5].kept == Bytes(2 * sb * p.hidden));

  // t divides the heads but not the sequence: only the lines without sequence parallelism.
  const std::vector<GptVariant> odd =
      gpt_layer_variants({.sequence = 2047, .hidden = 1024, .heads = 16, .tensor_parallel = 8});
  for (const GptVariant& variant : odd) {
    const bool by_sequence = variant.name.find("sequence") != std::string_view::npos;
    REQUIRE(variant.kept.has_value() == !by_sequence);
  }
}

TEST_CASE("the attention matrix is 70 % of what selective recomputation faces in GPT-3",
          "[memory][gpt]") {
  // Section 5: 5 a s / h is 80 for GPT-3 (a = 96, s = 2048, h = 12288) and 64 for the 530B model,
  // so that selective recomputation saves 70 % and 65 % with tensor and sequence parallelism.
  GptLayerShape gpt3 = {.sequence = 2048,
                        .hidden = 12288,
                        .heads = 96,
                        .tensor_parallel = 8,
                        .sequence_parallel = true};
  const auto before = static_cast<double>(kept(gpt3).count());
  gpt3.recompute = GptRecompute::kSelective;
  REQUIRE(1 - static_cast<double>(kept(gpt3).count()) / before == Approx(80.0 / (34 + 80)));
  REQUIRE(80.0 / (34 + 80) == Approx(0.70).margin(0.005));
  REQUIRE(64.0 / (34 + 64) == Approx(0.65).margin(0.005));
}

TEST_CASE("layers that cannot be split or do not exist are refused", "[memory][gpt]") {
  const GptLayerShape good = {.sequence = 2048, .hidden = 12288, .heads = 96};
  GptLayerShape p = good;
  p.tensor_parallel = 64;
  REQUIRE_THROWS_WITH(gpt_layer_tensors(p),
                      "96 heads cannot be split evenly over tensor_parallel=64 GPUs");
  p.tensor_parallel = 0;
  REQUIRE_THROWS_WITH(gpt_layer_tensors(p), "tensor_parallel must be positive, not 0");
  p = good;
  p.hidden = 12289;
  REQUIRE_THROWS_WITH(gpt_layer_tensors(p), "hidden=12289 cannot be split evenly into 96 heads");
  p = good;
  p.sequence = 2047;
  p.tensor_parallel = 8;
  REQUIRE_NOTHROW(gpt_layer_tensors(p));
  p.sequence_parallel = true;
  REQUIRE_THROWS_WITH(
      gpt_layer_tensors(p),
      "a sequence of 2047 tokens cannot be split evenly over tensor_parallel=8 GPUs, "
      "as sequence parallelism does");
  p = good;
  p.micro_batch = 0;
  REQUIRE_THROWS_WITH(gpt_layer_tensors(p),
                      "a GPT layer's extents must be positive: sequence=2048 micro_batch=0 "
                      "hidden=12288 heads=96");
  p = good;
  p.sequence = std::int64_t{1} << 40;
  REQUIRE_THROWS_WITH(gpt_layer_tensors(p),
                      Catch::Contains("a GPT layer of this size would keep 5.8"));
}
