#include "app/forecast/assumptions.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

namespace pipecast {

std::vector<NamedConstant> constants_of(CalibrationSpec& c) {
  return {
      {"clock.loaded_ghz", &c.clock.loaded_ghz},
      {"clock.settling_us", &c.clock.settling_us},
      {"clock.training_ghz", &c.clock.training_ghz},
      {"product.drain_cycles", &c.product.drain_cycles},
      {"product.gradient_drain_cycles", &c.product.gradient_drain_cycles},
      {"product.uneven_columns", &c.product.uneven_columns},
      {"product.epilogue_cycles_fp8", &c.product.epilogue_cycles_fp8},
      {"product.epilogue_cycles_bf16", &c.product.epilogue_cycles_bf16},
      {"product.issue_bf16", &c.product.issue_bf16},
      {"product.partial_row_cycles", &c.product.partial_row_cycles},
      {"product.hbm", &c.product.hbm},
      {"product.launch_us", &c.product.launch_us},
      {"product.one_wave_factor", &c.product.one_wave_factor},
      {"product.one_wave_cycles", &c.product.one_wave_cycles},
      {"product.tallest_tile", &c.product.tallest_tile},
      {"product.widest_tile", &c.product.widest_tile},
      {"product.training_tile", &c.product.training_tile},
      {"product.cast_launch_us", &c.product.cast_launch_us},
      {"product.cast_blocks_per_us", &c.product.cast_blocks_per_us},
      {"attention.launch_us", &c.attention.launch_us},
      {"attention.forward_exposed", &c.attention.forward_exposed},
      {"attention.forward_exposed_fp8", &c.attention.forward_exposed_fp8},
      {"attention.training_exposed", &c.attention.training_exposed},
      {"attention.forward_tile_cycles", &c.attention.forward_tile_cycles},
      {"attention.backward_exposed", &c.attention.backward_exposed},
      {"attention.decode_exposed", &c.attention.decode_exposed},
      {"attention.decode_exposed_fp8", &c.attention.decode_exposed_fp8},
      {"attention.decode_page_cycles", &c.attention.decode_page_cycles},
      {"attention.decode_sequence_cycles", &c.attention.decode_sequence_cycles},
      {"attention.decode_split_us", &c.attention.decode_split_us},
      {"attention.cache_hbm", &c.attention.cache_hbm},
      {"attention.operand_hbm", &c.attention.operand_hbm},
      {"link.hbm", &c.link.hbm},
      {"link.nvlink", &c.link.nvlink},
      {"link.nic", &c.link.nic},
      {"latency.kernel_us", &c.latency.kernel_us},
      {"latency.launch_gap_us", &c.latency.launch_gap_us},
      {"memory.conversion_bytes_per_cycle", &c.memory.conversion_bytes_per_cycle},
      {"memory.dispatch_bytes_per_cycle", &c.memory.dispatch_bytes_per_cycle},
      {"memory.sm_bytes_per_cycle", &c.memory.sm_bytes_per_cycle},
      {"memory.tile_cycles", &c.memory.tile_cycles},
      {"memory.packing_cycles", &c.memory.packing_cycles},
      {"memory.unpacking_cycles", &c.memory.unpacking_cycles},
      {"memory.norm_cycles", &c.memory.norm_cycles},
      {"memory.norm_alone", &c.memory.norm_alone},
      {"memory.rotation_cycles", &c.memory.rotation_cycles},
      {"memory.repetition_cycles", &c.memory.repetition_cycles},
      {"memory.selection_cycles", &c.memory.selection_cycles},
      {"memory.scan_cycles", &c.memory.scan_cycles},
      {"memory.scale_cycles", &c.memory.scale_cycles},
      {"communication.bytes_per_second_per_sm", &c.communication.bytes_per_second_per_sm},
      {"communication.notify_us", &c.communication.notify_us},
      {"communication.peers_late_us", &c.communication.peers_late_us},
      {"communication.dispatch_us", &c.communication.dispatch_us},
      {"communication.combine_us", &c.communication.combine_us},
      {"communication.token_us", &c.communication.token_us},
      {"communication.copy_us", &c.communication.copy_us},
      {"communication.sum_copy", &c.communication.sum_copy},
      {"communication.node_copy", &c.communication.node_copy},
      {"communication.first_tokens", &c.communication.first_tokens},
      {"communication.chunk_tokens", &c.communication.chunk_tokens},
      {"communication.layout_cycles", &c.communication.layout_cycles},
      {"contention.dispatch", &c.contention.dispatch},
      {"contention.cached_dispatch", &c.contention.cached_dispatch},
      {"contention.combine", &c.contention.combine},
  };
}

std::vector<NamedConstant> ranges_of(Scenario& scenario) {
  std::vector<NamedConstant> out = constants_of(scenario.calibration);
  for (NamedConstant& named : out) named.name = "calibration." + named.name;
  RoutingSpec& routing = scenario.routing;
  if (routing.distribution == "dirichlet") {
    out.push_back({"routing.concentration", &routing.concentration});
  }
  if (routing.distribution == "zipf") out.push_back({"routing.exponent", &routing.exponent});
  if (routing.distribution == "topics") out.push_back({"routing.spread", &routing.spread});
  return out;
}

namespace {

std::string routing_reason(const RoutingSpec& routing) {
  if (routing.distribution == "balanced") {
    return "every expert gets the same load; real routing is uneven, so this is a lower bound of "
           "the step time";
  }
  return "experts differ in popularity; how much is not published for this model (docs/routing.md)";
}

std::string layout_text(const PipelineLayout& layout) {
  std::string out;
  for (const auto& stage : layout) {
    out += out.empty() ? "" : " | ";
    for (std::size_t i = 0; i < stage.size();) {
      std::size_t run = i;
      while (run < stage.size() && stage[run] == stage[i]) ++run;
      out += fmt::format("{}{}", i == 0 ? "" : " ", name_of(stage[i]));
      if (run - i > 1) out += fmt::format("*{}", run - i);
      i = run;
    }
  }
  return out;
}

}  // namespace

std::vector<Assumption> assumptions_of(const Scenario& scenario, const PlanSpec& plan) {
  const auto fixed = [](std::string key, std::string value, std::string reason) {
    return Assumption{std::move(key), std::move(value), std::nullopt, std::nullopt,
                      std::move(reason)};
  };
  std::vector<Assumption> out = {
      fixed("routing.distribution", scenario.routing.distribution,
            routing_reason(scenario.routing)),
      fixed("plan.pipeline_layout", layout_text(plan.pipeline_layout),
            "which stage holds which layers is the plan's choice; DeepSeek-V3's is not published"),
      fixed("plan.precision.gradients", std::string(name_of(plan.precision.gradients)),
            "precision of the gradient reduction"),
      fixed("plan.precision.parameter_gather",
            std::string(name_of(plan.precision.parameter_gather)),
            "precision of the parameter all-gather"),
      fixed("plan.precision.pipeline_transfer",
            std::string(name_of(plan.precision.pipeline_transfer)),
            "precision of activations and gradients between stages"),
      fixed(
          "plan.memory.reserve",
          fmt::format("{:.1f} GB", static_cast<double>(plan.memory.reserve.count()) / 1e9),
          "of what a GPU shows, not for tensors: CUDA context, rings of NCCL and DeepEP, what the "
          "allocator cannot use"),
  };
  for (const PhaseSpec& phase : scenario.recipe.phases) {
    if (!phase.global_batch_size || phase.global_batch_size->from == phase.global_batch_size->to)
      continue;
    out.push_back(fixed(fmt::format("recipe.phases.{}.global_batch_size", phase.name),
                        "equal tokens at every size", "the shape of the batch ramp is not stated"));
    out.push_back(fixed("plan.fallback_schedule", phase.plan.fallback_schedule,
                        "what runs while the batch is too small for the plan's schedule"));
  }
  Scenario copy = scenario;
  for (const NamedConstant& named : ranges_of(copy)) {
    const Constant& c = *named.constant;
    out.push_back({named.name, fmt::format("{:g}", c.value), c.low, c.high, c.source});
  }
  return out;
}

const std::vector<Resource>& resources() {
  static const std::vector<Resource> kResources = {
      {"tensor_cores",
       [](ClusterSpec& c, double f) {
         c.gpu.bf16_flop_per_clock_per_sm *= f;
         c.gpu.fp8_flop_per_clock_per_sm *= f;
         return f;
       }},
      {"sm_count",
       [](ClusterSpec& c, double f) {
         const int before = c.gpu.sm_count;
         c.gpu.sm_count += std::max(1, static_cast<int>(std::lround(before * (f - 1))));
         return static_cast<double>(c.gpu.sm_count) / before;
       }},
      {"hbm_bandwidth",
       [](ClusterSpec& c, double f) {
         c.gpu.hbm_bandwidth = c.gpu.hbm_bandwidth * f;
         return f;
       }},
      {"nvlink_bandwidth",
       [](ClusterSpec& c, double f) {
         c.nvlink.bandwidth = c.nvlink.bandwidth * f;
         return f;
       }},
      {"nic_bandwidth",
       [](ClusterSpec& c, double f) {
         c.nic.bandwidth = c.nic.bandwidth * f;
         return f;
       }},
      {"pcie_bandwidth",
       [](ClusterSpec& c, double f) {
         c.pcie.bandwidth = c.pcie.bandwidth * f;
         return f;
       }},
      {"network_latency",
       [](ClusterSpec& c, double f) {
         for (Duration* latency : {&c.nvlink.latency, &c.nic.latency, &c.fabric.spine_latency,
                                   &c.fabric.core_latency}) {
           *latency = duration_from_picoseconds(static_cast<double>(latency->count()) / f);
         }
         return f;
       }},
  };
  return kResources;
}

}  // namespace pipecast
