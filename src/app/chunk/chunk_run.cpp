#include "app/chunk/chunk_run.hpp"

#include <algorithm>

#include "app/chunk/chunk_utilisation.hpp"
#include "base/error.hpp"
#include "base/text.hpp"
#include "model/routing/balanced.hpp"

namespace pipecast {

namespace {

/// Far more than a GPU holds, and few enough to be played within a second.
constexpr int kMostLayers = 256;

int expert_layers(const std::vector<LayerKind>& stage) {
  return static_cast<int>(std::count(stage.begin(), stage.end(), LayerKind::kMoe));
}

/// The largest number of layers that one stage has: with experts, or else dense.
int most_layers(const Scenario& scenario, LayerKind kind) {
  std::ptrdiff_t out = 1;
  for (const std::vector<LayerKind>& stage : scenario.plan.pipeline_layout) {
    out = std::max(out, std::count(stage.begin(), stage.end(), kind));
  }
  return static_cast<int>(out);
}

ChunkShape shape_of_stage(const Scenario& scenario, ChunkKind kind, int stage) {
  const PipelineLayout& layout = scenario.plan.pipeline_layout;
  const int stages = static_cast<int>(layout.size());
  require(stage >= 0 && stage < stages, "--stage: {} is none of the plan's stages 0 to {}", stage,
          stages - 1);
  const auto mirrored = static_cast<std::size_t>(stages - 1 - stage);
  const auto own = static_cast<std::size_t>(stage);
  const bool pair = kind == ChunkKind::kOverlapped;
  return {.kind = kind, .forward = layout[own], .backward = layout[pair ? mirrored : own]};
}

}  // namespace

ChunkKind chunk_kind(std::string_view name) {
  std::vector<std::string> known;
  for (int k = 0; k < kChunkKinds; ++k) {
    const auto kind = static_cast<ChunkKind>(k);
    if (name == name_of(kind)) return kind;
    known.emplace_back(name_of(kind));
  }
  throw Error(fmt::format("--kind: unknown '{}'; expected one of: {}", name, join(known)));
}

ChunkShape chunk_shape(const Scenario& scenario, const ChunkRequest& request) {
  require(!request.layers || !request.stage,
          "--layers and --stage exclude each other: a stage of the plan has its own layers");
  if (request.stage) return shape_of_stage(scenario, request.kind, *request.stage);
  const PipelineLayout& layout = scenario.plan.pipeline_layout;
  const bool experts = std::any_of(layout.begin(), layout.end(),
                                   [](const auto& stage) { return expert_layers(stage) > 0; });
  const LayerKind kind = experts ? LayerKind::kMoe : LayerKind::kDense;
  const int layers = request.layers.value_or(most_layers(scenario, kind));
  require(layers >= 1 && layers <= kMostLayers, "--layers: {} is not within 1 and {}", layers,
          kMostLayers);
  const std::vector<LayerKind> list(static_cast<std::size_t>(layers), kind);
  return {.kind = request.kind, .forward = list, .backward = list};
}

ChunkRun run_chunk(const Scenario& scenario, const ChunkShape& shape, Duration peers_late) {
  const RoutingStatistics routing =
      balanced_routing(scenario.model, scenario.plan.ep, scenario.cluster.gpus_per_node);
  ChunkKernels chunk(scenario, scenario.plan, routing, peers_late);
  KernelTable& table = chunk.table();
  const std::vector<Launch> launches = chunk.launches(shape);
  require(!launches.empty(), "a chunk of kind {} has no kernels for these layers",
          name_of(shape.kind));
  const std::vector<KernelSpan> spans = play(launches, table);
  ChunkRun out{.shape = shape,
               .peers_late = peers_late,
               .kernels = {},
               .use = gpu_use(launches, spans, table),
               .time = {}};
  out.time = out.use.back().end - out.use.front().start;
  for (std::size_t i = 0; i < launches.size(); ++i) {
    const GpuKernel& kernel = table.at(launches[i].kernel);
    out.kernels.push_back({launches[i], kernel.operation, kernel.grid, spans[i]});
  }
  return out;
}

std::vector<TraceRow> rows_of(const std::vector<PlayedKernel>& kernels) {
  std::vector<const PlayedKernel*> order;
  order.reserve(kernels.size());
  for (const PlayedKernel& kernel : kernels) order.push_back(&kernel);
  std::stable_sort(order.begin(), order.end(), [](const PlayedKernel* a, const PlayedKernel* b) {
    return a->span.start < b->span.start;
  });
  std::vector<TraceRow> rows;
  for (const PlayedKernel* kernel : order) {
    const Operation& operation = kernel->operation;
    TraceRow row{.layer = kernel->launch.layer,
                 .phase = std::string(name_of(kernel->launch.phase)),
                 .stream = std::string(name_of(kernel->launch.stream)),
                 .op = std::string(operation.op),
                 .start_us = to_microseconds(kernel->span.start),
                 .duration_us = to_microseconds(kernel->span.end - kernel->span.start),
                 .again = kernel->launch.again};
    if (is_product(operation)) {
      row.gemm = operation.label;
      row.m = operation.m;
      row.n = operation.n;
      row.k = operation.k;
    }
    if (kernel->grid > 0) row.grid_ctas = kernel->grid;
    rows.push_back(std::move(row));
  }
  return rows;
}

}  // namespace pipecast
