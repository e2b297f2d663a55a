/// How much memory one instance of a model needs to be trained, by precision recipe.
#pragma once

#include <array>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "model/memory/model_instance.hpp"

namespace pipecast {

inline constexpr int kZeroStages = 4;  ///< 0 to 3

/// One precision recipe.
struct InstanceRow {
  InstanceRecipe recipe;
  InstanceMemory whole;                               ///< without any sharding
  std::int64_t gpus_to_fill = 0;                      ///< total over usable, rounded up
  std::array<InstanceMemory, kZeroStages> on_each{};  ///< of the GPUs asked about
  std::array<std::optional<std::int64_t>, kZeroStages> fewest_gpus{};
};

struct InstanceReport {
  std::string model;
  MtpModules mtp = MtpModules::kExcluded;
  std::int64_t parameters = 0;
  std::int64_t gpus = 0;
  Bytes capacity;
  Bytes reserve;
  std::vector<InstanceRow> rows;

  [[nodiscard]] Bytes usable() const { return capacity - reserve; }
  /// What the GPUs together can hold of each parameter.
  [[nodiscard]] double bytes_per_parameter() const {
    return static_cast<double>(gpus) * static_cast<double>(usable().count()) /
           static_cast<double>(parameters);
  }
};

/// @param gpus      that are to hold one instance
/// @param capacity  of each
/// @param reserve   of it for everything else: activations, buffers, the context
/// @throws Error if the reserve leaves nothing, or gpus is not positive
InstanceReport instance_report(const ModelSpec& model, MtpModules mtp, std::int64_t gpus,
                               Bytes capacity, Bytes reserve);

/// GB are 1e9 bytes.
std::string instance_text(const InstanceReport& report);

/// Keys: model, mtp, parameters, gpus, capacity_bytes, reserve_bytes, bytes_per_parameter,
///   recipes [ { name, about, weights_bytes, gradients_bytes, optimizer_bytes, total_bytes,
///   bytes_per_parameter, gpus_to_fill, zero [ { stage, weights_bytes, gradients_bytes,
///   optimizer_bytes, total_bytes, fits, fewest_gpus } ] } ]; fewest_gpus null where no number
///   does.
nlohmann::ordered_json instance_json(const InstanceReport& report);

}  // namespace pipecast
