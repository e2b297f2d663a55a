/// The declarations of all sections, one .cpp per file of src/model/specs.
#pragma once

#include "app/config/fields.hpp"
#include "model/specs/scenario.hpp"

namespace pipecast::config {

void describe(Fields& f, GpuSpec& gpu);

void describe(Fields& f, NvlinkSpec& nvlink);
void describe(Fields& f, PcieSpec& pcie);
void describe(Fields& f, NicSpec& nic);
void describe(Fields& f, FabricSpec& fabric);
void describe(Fields& f, ClusterSpec& cluster);

void describe(Fields& f, ModelSpec& model);

void describe(Fields& f, PrecisionSpec& precision);
void describe(Fields& f, OverlapSpec& overlap);
void describe(Fields& f, MemoryPlanSpec& memory);
void describe(Fields& f, PlanSpec& plan);
/// A list of names of recomputed modules.
Node read_value(const Node& in, const std::string& path, RecomputeSpec& out, const Range& range);
Json value_schema(const RecomputeSpec* type, const Range& range);
/// A list of stages, or `auto`, which leaves the layout empty: it needs the model.
Node read_value(const Node& in, const std::string& path, PipelineLayout& out, const Range& range);
Json value_schema(const PipelineLayout* type, const Range& range);

/// A number, or { from, to, increment }.
Node read_value(const Node& in, const std::string& path, BatchRamp& out, const Range& range);
Json value_schema(const BatchRamp* type, const Range& range);
void describe(Fields& f, PhaseSpec& phase);
void describe(Fields& f, RecipeSpec& recipe);

void describe(Fields& f, BiasRuleSpec& bias);
void describe(Fields& f, RoutingSpec& routing);

void describe(Fields& f, VariationSpec& variation);

void describe(Fields& f, DeviceStamp& device);
void describe(Fields& f, KernelEvidence& kernel);
void describe(Fields& f, Constant& constant);
void describe(Fields& f, AttentionConstants& attention);
void describe(Fields& f, LinkEfficiency& link);
void describe(Fields& f, LatencyConstants& latency);
void describe(Fields& f, CommunicationConstants& communication);
void describe(Fields& f, ContentionConstants& contention);
void describe(Fields& f, CalibrationSpec& calibration);

void describe(Fields& f, Scenario& scenario);

}  // namespace pipecast::config
