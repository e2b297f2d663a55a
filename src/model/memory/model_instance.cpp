#include "model/memory/model_instance.hpp"

#include <utility>

#include "base/error.hpp"
#include "model/arithmetic/parameters.hpp"
#include "model/memory/stored_weights.hpp"

namespace pipecast {

namespace {

constexpr std::int64_t kMoments = 2;  // of AdamW

/// Every tensor of the model, those of equal layers listed again and again.
std::vector<ParameterTensor> tensors_of(const ModelSpec& model, MtpModules mtp) {
  const std::pair<LayerKind, std::int64_t> kinds[] = {
      {LayerKind::kEmbedding, 1},
      {LayerKind::kDense, model.first_k_dense_replace},
      {LayerKind::kMoe, model.moe_layers()},
      {LayerKind::kHead, 1},
      {LayerKind::kMtp, mtp == MtpModules::kIncluded ? model.num_nextn_predict_layers : 0}};
  std::vector<ParameterTensor> out;
  for (const auto& [kind, count] : kinds) {
    const std::vector<ParameterTensor> layer = parameters_of(model, kind);
    for (std::int64_t i = 0; i < count; ++i) out.insert(out.end(), layer.begin(), layer.end());
  }
  return out;
}

Bytes numbers(std::int64_t count, std::optional<Precision> precision) {
  return precision ? plain_bytes(*precision, count) : Bytes();
}

Bytes share(Bytes whole, bool sharded, std::int64_t gpus) {
  return sharded ? Bytes(ceil_div(whole.count(), gpus)) : whole;
}

void require_zero_stage(int stage) {
  require(stage >= 0 && stage <= 3, "there is no ZeRO stage {}; it is 0, 1, 2 or 3", stage);
}

}  // namespace

std::vector<InstanceRecipe> instance_recipes() {
  using enum Precision;
  return {
      {.name = "bf16-mixed",
       .about = "BF16 weights, FP32 gradients, master weights and moments",
       .linear = kBf16,
       .gradients = kFp32,
       .master = kFp32,
       .moments = kFp32},
      {.name = "bf16-mixed-bf16-gradients",
       .about = "the same with BF16 gradients",
       .linear = kBf16,
       .gradients = kBf16,
       .master = kFp32,
       .moments = kFp32},
      {.name = "deepseek-v3-fp8",
       .about = "FP8 linear layers and experts, FP32 gradients and master weights, BF16 moments",
       .linear = kFp8,
       .gradients = kFp32,
       .master = kFp32,
       .moments = kBf16},
      {.name = "bf16-inference", .about = "BF16 weights alone", .linear = kBf16},
      {.name = "fp8-inference",
       .about = "weights alone, FP8 linear layers and experts",
       .linear = kFp8}};
}

std::int64_t instance_parameters(const ModelSpec& model, MtpModules mtp) {
  std::int64_t out = 0;
  for (const ParameterTensor& tensor : tensors_of(model, mtp)) out += tensor.parameters();
  return out;
}

InstanceMemory instance_memory(const ModelSpec& model, const InstanceRecipe& recipe,
                               MtpModules mtp) {
  InstanceMemory out;
  for (const ParameterTensor& tensor : tensors_of(model, mtp)) {
    out.weights += stored_weight_bytes(tensor, recipe.linear);
    out.gradients += numbers(tensor.parameters(), recipe.gradients);
    out.optimizer += numbers(tensor.parameters(), recipe.master) +
                     kMoments * numbers(tensor.parameters(), recipe.moments);
  }
  return out;
}

InstanceMemory sharded_memory(const InstanceMemory& whole, int zero_stage, std::int64_t gpus) {
  require_zero_stage(zero_stage);
  require(gpus > 0, "an instance cannot be sharded over {} GPUs", gpus);
  return {.weights = share(whole.weights, zero_stage >= 3, gpus),
          .gradients = share(whole.gradients, zero_stage >= 2, gpus),
          .optimizer = share(whole.optimizer, zero_stage >= 1, gpus)};
}

std::optional<std::int64_t> fewest_gpus(const InstanceMemory& whole, int zero_stage, Bytes usable) {
  require_zero_stage(zero_stage);
  require(usable > Bytes(), "a GPU needs usable bytes, not {}", usable.count());
  if (zero_stage == 0) {
    return whole.total() <= usable ? std::optional<std::int64_t>(1) : std::nullopt;
  }
  Bytes sharded = whole.optimizer;
  if (zero_stage >= 2) sharded += whole.gradients;
  if (zero_stage >= 3) sharded += whole.weights;
  const Bytes left = usable - (whole.total() - sharded);
  if (left < Bytes() || (left == Bytes() && sharded > Bytes())) return std::nullopt;
  if (sharded == Bytes()) return 1;
  const std::int64_t gpus = ceil_div(sharded.count(), left.count());
  // Each of up to three shards is rounded up to a byte.
  return sharded_memory(whole, zero_stage, gpus).total() <= usable ? gpus : gpus + 1;
}

}  // namespace pipecast
