/// How much memory one instance of a model needs to be trained, before any activation.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "base/units.hpp"
#include "model/specs/model.hpp"
#include "model/specs/precision.hpp"

namespace pipecast {

/// In which formats training, or inference, keeps a parameter's numbers.
struct InstanceRecipe {
  std::string_view name;
  std::string_view about;
  Precision linear = Precision::kBf16;  ///< linear layers and experts; all others are BF16
  std::optional<Precision> gradients{};
  std::optional<Precision> master{};
  std::optional<Precision> moments{};  ///< each of AdamW's two

  [[nodiscard]] bool trains() const { return gradients.has_value(); }
};

/// - bf16-mixed: 2 + 4 + 4 + 4 + 4 = 18 bytes a parameter, gradients accumulated in FP32
/// - bf16-mixed-bf16-gradients: 2 + 2 + 4 + 4 + 4 = 16 (Rajbhandari et al. 2020, arXiv 1910.02054,
///   section 3.1)
/// - deepseek-v3-fp8: FP8 linear layers and experts with scales, the rest BF16, FP32 gradients and
///   master weights, BF16 moments: about 1 + 4 + 4 + 2 + 2 = 13 (DeepSeek-V3 report, arXiv
///   2412.19437, sections 3.3.1 and 3.3.3)
/// - bf16-inference 2, fp8-inference about 1: weights alone
std::vector<InstanceRecipe> instance_recipes();

/// Over all GPUs together, or on one of them.
struct InstanceMemory {
  Bytes weights{};    ///< as products read them
  Bytes gradients{};  ///< accumulators
  Bytes optimizer{};  ///< master weights and both moments

  [[nodiscard]] Bytes total() const { return weights + gradients + optimizer; }
};

enum class MtpModules { kExcluded, kIncluded };

/// Of every parameter once, norms and router bias included.
std::int64_t instance_parameters(const ModelSpec& model, MtpModules mtp = MtpModules::kExcluded);

/// One instance without any sharding: as if it were on a single device.
InstanceMemory instance_memory(const ModelSpec& model, const InstanceRecipe& recipe,
                               MtpModules mtp = MtpModules::kExcluded);

/// One of `gpus` data-parallel GPUs: ZeRO-1 shards the optimizer, ZeRO-2 the gradients too, ZeRO-3
/// the weights too; stage 0 shards nothing. What is sharded is rounded up to a byte each. ZeRO-3 is
/// the least that any plan can reach on as many GPUs: pipeline, expert and tensor parallelism
/// divide the same bytes.
/// Source: Rajbhandari et al. 2020 (arXiv 1910.02054), section 5.
/// @throws Error if zero_stage is not 0 to 3 or gpus not positive
InstanceMemory sharded_memory(const InstanceMemory& whole, int zero_stage, std::int64_t gpus);

/// Smallest number of GPUs, each with `usable` bytes, over which ZeRO at this stage fits; none if
/// what it does not shard is too large for any number. Stage 3 is the number of GPUs that the
/// instance fills without a byte twice.
/// @throws Error if zero_stage is not 0 to 3 or usable not positive
std::optional<std::int64_t> fewest_gpus(const InstanceMemory& whole, int zero_stage, Bytes usable);

}  // namespace pipecast
