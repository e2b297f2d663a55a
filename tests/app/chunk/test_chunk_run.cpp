#include <algorithm>
#include <catch2/catch.hpp>

#include "app/chunk/chunk_comparison.hpp"
#include "app/chunk/chunk_run.hpp"
#include "app/chunk/chunk_utilisation.hpp"
#include "app/config/load.hpp"
#include "base/error.hpp"
#include "model/operations/product_shapes.hpp"
#include "tables/table_file.hpp"

using namespace pipecast;
using namespace pipecast::testing;

namespace {

Scenario shipped(const std::string& name) {
  return load_scenario(PIPECAST_SOURCE_DIR "/configs/scenarios/" + name + ".yaml", {}).scenario;
}

const Scenario& deepseek() {
  static const Scenario kScenario = shipped("deepseek-v3-h800");
  return kScenario;
}

ChunkRun run(ChunkKind kind, int layers = 1) {
  return run_chunk(deepseek(), chunk_shape(deepseek(), {.kind = kind, .layers = layers}),
                   Duration());
}

}  // namespace

TEST_CASE("a kernel alone uses the GPU by its FLOPs, bytes and SMs", "[chunk]") {
  const Scenario& s = deepseek();
  const RoutingStatistics routing = balanced_routing(s.model, s.plan.ep, s.cluster.gpus_per_node);
  KernelTable table(s, s.plan, routing);
  const bool split = GENERATE(false, true);
  const Operation product = product_operation("gemm_fp8", 4096, 7168, 2048, 1);
  const std::vector<Launch> launches = {{.kernel = table.add(product, split)}};
  const std::vector<KernelSpan> spans = play(launches, table);
  const double seconds = to_seconds(spans[0].end);
  const Utilisation use = utilisation_of(gpu_use(launches, spans, table), s.cluster);
  const GpuSpec& gpu = s.cluster.gpu;
  const int sms = gpu.sm_count - (split ? s.plan.communication_sms : 0);
  REQUIRE(use.sm == Approx(static_cast<double>(sms) / gpu.sm_count));
  REQUIRE(use.tensor_cores ==
          Approx(2.0 * 4096 * 7168 * 2048 / gpu.tensor_peak(Precision::kFp8, gpu.sm_count).count() /
                 seconds));
  REQUIRE(use.hbm == Approx(table.cost(launches[0].kernel, sms).hbm_bytes /
                            gpu.hbm_bandwidth.count() / seconds));
  REQUIRE(use.nvlink == 0);
  REQUIRE(use.nic == 0);
}

TEST_CASE("what all stretches of a chunk move is what its kernels move", "[chunk]") {
  const Scenario& s = deepseek();
  const RoutingStatistics routing = balanced_routing(s.model, s.plan.ep, s.cluster.gpus_per_node);
  ChunkKernels chunk(s, s.plan, routing);
  const std::vector<Launch> launches =
      chunk.launches(chunk_shape(s, {.kind = ChunkKind::kOverlapped, .layers = 2}));
  const std::vector<KernelSpan> spans = play(launches, chunk.table());
  double nic = 0;
  double tensor = 0;
  for (const GpuUse& use : gpu_use(launches, spans, chunk.table())) {
    REQUIRE(use.end > use.start);
    REQUIRE(use.sms <= s.cluster.gpu.sm_count);
    nic += use.nic_bytes;
    tensor += use.tensor;
  }
  double own_nic = 0;
  double own_tensor = 0;
  for (const Launch& launch : launches) {
    own_nic += chunk.table().cost(launch.kernel, 1).nic_bytes;
    const Operation& o = chunk.table().at(launch.kernel).operation;
    if (o.flops.count() <= 0 || o.precision == Precision::kFp32) continue;
    own_tensor +=
        o.flops.count() / s.cluster.gpu.tensor_peak(o.precision, s.cluster.gpu.sm_count).count();
  }
  // play() rounds speeds to picoseconds.
  REQUIRE(nic == Approx(own_nic).epsilon(1e-6));
  REQUIRE(tensor == Approx(own_tensor).epsilon(1e-6));
}

TEST_CASE("a written chunk compares with itself without any error", "[chunk]") {
  const ChunkKind kind =
      GENERATE(ChunkKind::kForward, ChunkKind::kBackward, ChunkKind::kOverlapped);
  const ChunkRun chunk = run(kind, 2);
  const std::vector<TraceRow> rows = rows_of(chunk.kernels);
  REQUIRE(rows.size() == chunk.kernels.size());
  REQUIRE(std::is_sorted(rows.begin(), rows.end(), [](const TraceRow& a, const TraceRow& b) {
    return a.start_us < b.start_us;
  }));
  const TableFile file(trace_text(rows));
  const ChunkComparison comparison = compare_chunk(rows, read_trace(file.path()));
  REQUIRE(comparison.predicted.time_us == Approx(to_microseconds(chunk.time)));
  REQUIRE(comparison.measured.time_us == comparison.predicted.time_us);
  for (std::size_t p = 0; p < kPhases; ++p) {
    const auto& predicted = comparison.predicted.phases[p];
    const auto& measured = comparison.measured.phases[p];
    REQUIRE(predicted.has_value() == measured.has_value());
    if (!predicted) continue;
    REQUIRE(predicted->time_us == measured->time_us);
    REQUIRE(predicted->compute_us == measured->compute_us);
    REQUIRE(predicted->communication_us == measured->communication_us);
    REQUIRE(predicted->notify_us == measured->notify_us);
  }
  for (const auto& [op, group] : comparison.ops) {
    CAPTURE(op);
    REQUIRE(group.errors->worst == 0);
    REQUIRE(group.unmatched == 0);
    REQUIRE(group.unresolved == 0);
  }
}

TEST_CASE("late peers lengthen notify kernels and nothing else of a lone forward", "[chunk]") {
  const ChunkShape shape = chunk_shape(deepseek(), {.kind = ChunkKind::kForward, .layers = 1});
  const Duration late = microseconds(500);
  const ChunkRun in_time = run_chunk(deepseek(), shape, Duration());
  const ChunkRun waiting = run_chunk(deepseek(), shape, late);
  REQUIRE(waiting.peers_late == late);
  // One exchange each way.
  REQUIRE(waiting.time - in_time.time == late + late);
}

TEST_CASE("by default a chunk has the expert layers of the stage with most", "[chunk]") {
  const ChunkShape pair = chunk_shape(deepseek(), {});
  const std::vector<LayerKind> four(4, LayerKind::kMoe);  // DeepSeek-V3: 58 on 16 stages
  REQUIRE(pair.kind == ChunkKind::kOverlapped);
  REQUIRE(pair.forward == four);
  REQUIRE(pair.backward == four);
  Scenario dense = deepseek();
  dense.plan.pipeline_layout = {{LayerKind::kDense, LayerKind::kDense}, {LayerKind::kDense}};
  REQUIRE(chunk_shape(dense, {}).forward == std::vector<LayerKind>(2, LayerKind::kDense));
}

TEST_CASE("a pair of a stage runs it forward and its mirror backward", "[chunk]") {
  const PipelineLayout& layout = deepseek().plan.pipeline_layout;
  const ChunkShape pair = chunk_shape(deepseek(), {.kind = ChunkKind::kOverlapped, .stage = 0});
  REQUIRE(pair.forward == layout.front());
  REQUIRE(pair.backward == layout.back());
  const ChunkShape alone = chunk_shape(deepseek(), {.kind = ChunkKind::kBackward, .stage = 0});
  REQUIRE(alone.backward == layout.front());
}

TEST_CASE("chunks that there are not are refused with the legal values", "[chunk]") {
  const auto refuse = [](const ChunkRequest& request, const std::string& message) {
    REQUIRE_THROWS_WITH(chunk_shape(deepseek(), request), message);
  };
  refuse({.layers = 0}, "--layers: 0 is not within 1 and 256");
  refuse({.layers = 257}, "--layers: 257 is not within 1 and 256");
  refuse({.stage = 16}, "--stage: 16 is none of the plan's stages 0 to 15");
  refuse({.stage = -1}, "--stage: -1 is none of the plan's stages 0 to 15");
  refuse({.layers = 1, .stage = 1},
         "--layers and --stage exclude each other: a stage of the plan has its own layers");
  REQUIRE_THROWS_WITH(chunk_kind("both"),
                      "--kind: unknown 'both'; expected one of: forward, backward, backward-input, "
                      "backward-weight, overlapped");
  for (int k = 0; k < kChunkKinds; ++k) {
    const auto kind = static_cast<ChunkKind>(k);
    REQUIRE(chunk_kind(name_of(kind)) == kind);
  }
}

TEST_CASE("a chunk without kernels is refused", "[chunk]") {
  const ChunkShape nothing{.kind = ChunkKind::kForward, .forward = {}, .backward = {}};
  REQUIRE_THROWS_WITH(run_chunk(deepseek(), nothing, Duration()),
                      "a chunk of kind forward has no kernels for these layers");
}
