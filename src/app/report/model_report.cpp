#include "app/report/model_report.hpp"

#include <fmt/format.h>

#include <utility>

#include "app/report/table.hpp"
#include "model/arithmetic/flops.hpp"
#include "model/arithmetic/kv_cache.hpp"
#include "model/operations/layer_operations.hpp"

namespace pipecast {

namespace {

using Json = nlohmann::ordered_json;

std::string flop_text(Flops flops) { return fmt::format("{:.2f} TFLOP", flops.count() / 1e12); }
std::string byte_text(Bytes bytes) {
  return fmt::format("{:.1f} MB", static_cast<double>(bytes.count()) / 1e6);
}

std::string billions(std::int64_t count) {
  return fmt::format("{:.3f} B", static_cast<double>(count) / 1e9);
}

/// Names and numbers, in the order in which both outputs show them.
std::vector<std::pair<std::string_view, std::int64_t>> parameter_rows(const ParameterCount& p) {
  return {{"total", p.total},
          {"activated", p.activated},
          {"activated_without_embedding", p.activated_without_embedding},
          {"embedding", p.embedding},
          {"head", p.head},
          {"mtp", p.mtp},
          {"attention_per_layer", p.attention.total()},
          {"q_a", p.attention.q_a},
          {"q_b", p.attention.q_b},
          {"kv_a", p.attention.kv_a},
          {"kv_b", p.attention.kv_b},
          {"o", p.attention.o},
          {"expert", p.expert},
          {"shared_experts", p.shared_experts},
          {"router", p.router},
          {"dense_ffn", p.dense_ffn},
          {"moe_layer", p.moe_layer},
          {"moe_layer_activated", p.moe_layer_activated},
          {"norms", p.norms},
          {"router_bias", p.router_bias},
          {"mtp_vectors", p.mtp_vectors}};
}

Json operation_json(const Operation& o) {
  Json out = {{"op", o.op}, {"label", o.label}, {"precision", name_of(o.precision)}};
  if (is_product(o)) {
    out["m"] = o.m;
    out["n"] = o.n;
    out["k"] = o.k;
    out["groups"] = o.groups;
  }
  out["flop"] = o.flops.count();
  out["bytes_read"] = o.read.count();
  out["bytes_written"] = o.written.count();
  out["stream"] = name_of(o.stream);
  return out;
}

Json layer_json(const LayerReport& layer) {
  Json phases = Json::object();
  for (std::size_t i = 0; i < kPhases; ++i) {
    const auto phase = static_cast<Phase>(i);
    if (layer.operations.at(phase).empty()) continue;
    Json& list = phases[std::string(name_of(phase))] = Json::array();
    for (const Operation& o : layer.operations.at(phase)) list.push_back(operation_json(o));
  }
  Json kept = Json::array();
  for (const KeptTensor& t : layer.operations.kept) {
    kept.push_back(
        {{"name", t.name}, {"precision", name_of(t.precision)}, {"bytes", t.bytes.count()}});
  }
  return {{"kind", name_of(layer.operations.kind)},
          {"count", layer.count},
          {"parameters", layer.parameters},
          {"operations", std::move(phases)},
          {"kept", std::move(kept)}};
}

std::string operations_text(const std::vector<Operation>& operations) {
  Table table({"    operation", "of", "m x n x k", "FLOP", "moved", "stream"}, {1, 5});
  for (const Operation& o : operations) {
    table.add({fmt::format("    {}", o.op), std::string(o.label),
               is_product(o) ? fmt::format("{} x {} x {}", o.m, o.n, o.k) : "",
               o.flops.count() > 0 ? flop_text(o.flops) : "", byte_text(o.read + o.written),
               std::string(name_of(o.stream))});
  }
  return table.text();
}

std::string layer_text(const LayerReport& layer, bool every_operation) {
  Bytes kept;
  for (const KeptTensor& t : layer.operations.kept) kept += t.bytes;
  std::string out =
      fmt::format("\n{} x {}: {} parameters, {} kept for backward\n\n", layer.count,
                  name_of(layer.operations.kind), billions(layer.parameters), byte_text(kept));
  Table phases({"  phase", "launches", "FLOP", "moved"});
  std::string launches;
  for (std::size_t i = 0; i < kPhases; ++i) {
    const auto phase = static_cast<Phase>(i);
    const std::vector<Operation>& operations = layer.operations.at(phase);
    if (operations.empty()) continue;
    Flops flops;
    Bytes bytes;
    for (const Operation& o : operations) {
      flops += o.flops;
      bytes += o.read + o.written;
    }
    phases.add({fmt::format("  {}", name_of(phase)), std::to_string(operations.size()),
                flop_text(flops), byte_text(bytes)});
    launches += fmt::format("\n  {}\n{}", name_of(phase), operations_text(operations));
  }
  out += phases.text();
  return every_operation ? out + launches : out;
}

std::string parameters_text(const ParameterCount& parameters) {
  Table table({"Parameters", "", ""});
  for (const auto& [name, count] : parameter_rows(parameters)) {
    table.add({std::string(name), std::to_string(count), billions(count)});
  }
  return table.text() + "Matrices only; norms, router_bias and mtp_vectors come on top.\n";
}

std::string per_token_text(const ModelReport& report) {
  const auto gflop = [](Flops flops) { return fmt::format("{:.2f} GFLOP", flops.count() / 1e9); };
  Table table({fmt::format("Per token of {}-token sequences", report.seq_length), ""});
  table.add({"forward and backward, causal attention", gflop(report.flop_per_token_causal)});
  table.add({"the same with MTP", gflop(report.flop_per_token_causal_with_mtp)});
  table.add({"whole attention matrix, no MTP", gflop(report.flop_per_token_noncausal)});
  table.add(
      {"KV cache in BF16",
       fmt::format("{:.3f} KB", static_cast<double>(report.kv_cache_per_token.count()) / 1e3)});
  return table.text();
}

}  // namespace

ModelReport model_report(const ModelSpec& model, const PlanSpec& plan, std::int64_t seq_length) {
  ModelReport out;
  out.model = model;
  out.seq_length = seq_length;
  out.parameters = count_parameters(model);
  out.flop_per_token_causal = training_flops_per_token(model, seq_length, AttentionCount::kCausal);
  out.flop_per_token_noncausal = training_flops_per_token(model, seq_length, AttentionCount::kFull);
  out.flop_per_token_causal_with_mtp =
      training_flops_per_token(model, seq_length, AttentionCount::kCausal, MtpCount::kIncluded);
  out.kv_cache_per_token = kv_cache_per_token(model);
  const LayerLoad load = balanced_load(model, plan, seq_length);
  const std::pair<LayerKind, std::int64_t> kinds[] = {
      {LayerKind::kEmbedding, 1},
      {LayerKind::kDense, model.first_k_dense_replace},
      {LayerKind::kMoe, model.moe_layers()},
      {LayerKind::kMtp, model.num_nextn_predict_layers},
      {LayerKind::kHead, 1 + model.num_nextn_predict_layers}};
  for (const auto& [kind, count] : kinds) {
    if (count == 0) continue;
    LayerReport& layer = out.layers.emplace_back();
    layer.count = count;
    for (const ParameterTensor& t : parameters_of(model, kind)) layer.parameters += t.parameters();
    layer.operations = layer_operations(model, plan, kind, load);
  }
  return out;
}

Json model_json(const ModelReport& report) {
  Json parameters = Json::object();
  for (const auto& [name, count] : parameter_rows(report.parameters)) {
    parameters[std::string(name)] = count;
  }
  Json layers = Json::array();
  for (const LayerReport& layer : report.layers) layers.push_back(layer_json(layer));
  return {{"format", "pipecast-model/1"},
          {"model", report.model.name},
          {"seq_length", report.seq_length},
          {"parameters", std::move(parameters)},
          {"flop_per_token_causal", report.flop_per_token_causal.count()},
          {"flop_per_token_noncausal", report.flop_per_token_noncausal.count()},
          {"flop_per_token_causal_with_mtp", report.flop_per_token_causal_with_mtp.count()},
          {"kv_cache_bytes_per_token", report.kv_cache_per_token.count()},
          {"layers", std::move(layers)}};
}

std::string model_text(const ModelReport& report, bool every_operation) {
  std::string out =
      fmt::format("{}\n\n{}\n{}\nOperations of one micro-batch on one GPU\n", report.model.name,
                  parameters_text(report.parameters), per_token_text(report));
  for (const LayerReport& layer : report.layers) out += layer_text(layer, every_operation);
  return out;
}

}  // namespace pipecast
