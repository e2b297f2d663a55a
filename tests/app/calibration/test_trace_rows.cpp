#include <catch2/catch.hpp>
#include <map>
#include <set>

#include "app/calibration/tables.hpp"
#include "app/calibration/trace_rows.hpp"
#include "model/models.hpp"
#include "model/operations/layer_operations.hpp"
#include "model/ops/kernel_cost.hpp"

using namespace pipecast;
using namespace pipecast::testing;

namespace {

std::vector<TraceRow> shipped_trace() {
  return read_trace(trace_directory() / "h800_dualpipe_chunk" / "kernels.csv");
}

LayerOperations moe_layer() {
  return layer_operations(deepseek_v3(), deepseek_v3_plan(), LayerKind::kMoe,
                          balanced_load(deepseek_v3(), deepseek_v3_plan(), kSequence));
}

}  // namespace

TEST_CASE("every launch of the trace has a key of its own", "[calibration]") {
  const std::vector<TraceRow> rows = shipped_trace();
  REQUIRE(rows.size() == 983);  // traces/h800_dualpipe_chunk/README.md
  const std::vector<LaunchKey> keys = launch_keys(rows);
  REQUIRE(std::set<LaunchKey>(keys.begin(), keys.end()).size() == rows.size());
}

TEST_CASE("occurrences count within layer, phase and operation", "[calibration]") {
  const auto row = [](int layer, const char* phase, const char* op) {
    TraceRow out;
    out.layer = layer;
    out.phase = phase;
    out.op = op;
    return out;
  };
  const std::vector<LaunchKey> keys =
      launch_keys({row(0, "mlp(F)", "rope"), row(0, "mlp(F)", "topk"), row(0, "mlp(F)", "rope"),
                   row(1, "mlp(F)", "rope"), row(0, "mlp(B)", "rope")});
  std::vector<std::size_t> occurrences;
  for (const LaunchKey& key : keys) occurrences.push_back(key.occurrence);
  REQUIRE(occurrences == std::vector<std::size_t>{0, 0, 1, 0, 0});
}

TEST_CASE("the launches of the trace are the model's operations", "[calibration]") {
  const std::vector<TraceRow> rows = shipped_trace();
  const auto operations = operations_of(rows, moe_layer());
  REQUIRE(operations.size() == rows.size());
  std::size_t unknown = 0;
  for (std::size_t i = 0; i < rows.size(); ++i) {
    if (operations[i]) {
      REQUIRE(operations[i]->op == rows[i].op);
    } else {
      CAPTURE(rows[i].op, rows[i].phase);
      ++unknown;
    }
  }
  REQUIRE(unknown <= rows.size() / 100);
}

TEST_CASE("rows beyond the model's list have no operation", "[calibration]") {
  TraceRow row;
  row.phase = "attn(F)";
  row.op = "attention_fwd";
  const auto operations = operations_of({row, row}, moe_layer());
  REQUIRE(operations[0].has_value());
  REQUIRE_FALSE(operations[1].has_value());
  row.op = "no such kernel";
  REQUIRE_FALSE(operations_of({row}, moe_layer())[0].has_value());
}

TEST_CASE("traced kernels are those that one kernel's model can be held against", "[calibration]") {
  const auto kernels = traced_kernels(trace_directory(), deepseek_v3(), deepseek_v3_plan());
  std::map<TraceFamily, std::size_t> families;
  for (const TracedKernel& kernel : kernels) {
    REQUIRE(kernel.row.stream == "compute");
    REQUIRE((kernel.row.duration_us > 0 || kernel.family == TraceFamily::kElementwise));
    REQUIRE(kernel.operation.op == kernel.row.op);
    REQUIRE(Registry<KernelKind>::instance().contains(kernel.operation.op));
    const bool computes = kernel.operation.flops.count() > 0;
    if (kernel.family == TraceFamily::kMemoryBound) REQUIRE_FALSE(computes);
    if (kernel.family == TraceFamily::kProducts) REQUIRE(computes);
    ++families[kernel.family];
  }
  REQUIRE(families.size() == kTraceFamilies);
  constexpr std::size_t kLayers = 4;
  REQUIRE(families.at(TraceFamily::kProducts) == kLayers * (16 + 4));  // single, grouped
  REQUIRE(families.at(TraceFamily::kAttention) == kLayers * 2);
  REQUIRE(families.at(TraceFamily::kRouterProducts) == kLayers * 3);
  std::set<std::string_view> names;
  for (const auto& [family, count] : families) names.insert(name_of(family));
  REQUIRE(names.size() == families.size());
}

TEST_CASE("large and small kernels are all kernels of a table", "[calibration]") {
  const auto all = read_products(trace_directory() / "h100" / "gemm_bf16.csv", "gemm_bf16");
  const auto above = large(all);
  const auto below = small(all);
  REQUIRE(above.size() + below.size() == all.size());
  REQUIRE_FALSE(above.empty());
  REQUIRE_FALSE(below.empty());
  for (const MeasuredKernel& kernel : above) REQUIRE(kernel.operation.flops.count() >= 20e9);
  for (const MeasuredKernel& kernel : below) REQUIRE(kernel.operation.flops.count() < 20e9);
}

TEST_CASE("tables give the operations that they measured", "[calibration]") {
  const auto grouped = read_products(trace_directory() / "deepgemm" / "grouped_gemm_fp8_masked.csv",
                                     "grouped_gemm_fp8");
  const Operation& product = grouped.front().operation;
  REQUIRE(product.op == "grouped_gemm_fp8");
  REQUIRE(product.flops.count() == 2.0 * static_cast<double>(product.m * product.n * product.k));
  REQUIRE(grouped.front().shape == "n=4096 k=7168 groups=1");
  REQUIRE_THROWS_WITH(
      read_products(trace_directory() / "h100" / "moe_ffn_fp8_block.csv", "gemm_fp8"),
      Catch::Contains("moe_ffn_fp8_block.csv:1:1: no column m"));

  const auto path = trace_directory() / "h100" / "mla_prefill_attention.csv";
  for (const MeasuredKernel& kernel : read_kernels(path, "attention_fwd", {"heads"})) {
    const AttentionShape& a = kernel.operation.attention;
    REQUIRE(kernel.shape == "heads=" + std::to_string(a.heads));
    // Causal: query i of S sees the keys before the sequence's first query and i of its own. 2
    // FLOP a multiplication, 192 + 128 of them for a pair.
    const auto pairs =
        static_cast<double>(a.queries * (a.keys - a.queries) * 2 + a.queries * a.queries) / 2;
    REQUIRE(kernel.operation.flops.count() ==
            Approx(static_cast<double>(a.batch * a.heads) * pairs * 2 * (192 + 128)));
    REQUIRE(a.causal);
    REQUIRE(a.cache.has_value());
  }
}
