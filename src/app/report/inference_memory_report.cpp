#include "app/report/inference_memory_report.hpp"

#include <fmt/format.h>

#include <string_view>
#include <utility>

#include "app/report/table.hpp"
#include "base/error.hpp"
#include "model/arithmetic/kv_cache.hpp"

namespace pipecast {

namespace {

using Json = nlohmann::ordered_json;

constexpr std::pair<std::string_view, Bytes InferenceWeights::*> kParts[] = {
    {"attention", &InferenceWeights::attention},
    {"dense_ffn", &InferenceWeights::dense_ffn},
    {"shared_experts", &InferenceWeights::shared_experts},
    {"experts", &InferenceWeights::experts},
    {"embedding", &InferenceWeights::embedding},
    {"others", &InferenceWeights::others}};

double count(Bytes bytes) { return static_cast<double>(bytes.count()); }
std::string kilobytes(Bytes bytes) { return fmt::format("{:.3f} KB", count(bytes) / 1e3); }
std::string gigabytes(Bytes bytes) { return fmt::format("{:.3f} GB", count(bytes) / 1e9); }
std::string whole(std::int64_t number) { return grouped(static_cast<double>(number)); }

const KvCacheRow& of_model(const InferenceReport& report) { return report.caches.front(); }

std::string cache_text(const InferenceReport& report) {
  Table table({"KV cache per token", "attention", "BF16", "FP8", "BF16, times the first"}, {1});
  for (const KvCacheRow& row : report.caches) {
    table.add({row.model, row.attention, kilobytes(row.bf16_per_token),
               kilobytes(row.fp8_per_token),
               fmt::format("{:.2f}",
                           count(row.bf16_per_token) / count(of_model(report).bf16_per_token))});
  }
  return table.text();
}

std::string weights_text(const InferenceReport& report) {
  std::vector<std::string> header = {"One GPU of stage", "layers"};
  for (const auto& [name, part] : kParts) header.emplace_back(name);
  for (const char* const name : {"weights", "free", "cache per token", "tokens that fit"}) {
    header.emplace_back(name);
  }
  Table table(header);
  int index = 0;
  for (const InferenceStage& stage : report.memory.stages) {
    std::vector<std::string> row = {std::to_string(index++), whole(stage.layers)};
    for (const auto& [name, part] : kParts) row.push_back(gigabytes(stage.weights.*part));
    row.push_back(gigabytes(stage.weights.total()));
    row.push_back(gigabytes(stage.free));
    row.push_back(kilobytes(stage.cache_per_token));
    row.push_back(whole(stage.tokens));
    table.add(row);
  }
  return table.text();
}

std::string requests_text(const InferenceReport& report) {
  Table table({"Requests of", "cache in BF16", "in FP8", "fit a replica", "fit all replicas"});
  for (const std::int64_t context : report.contexts) {
    const std::int64_t fit = report.memory.requests(context);
    table.add({fmt::format("{} tokens", whole(context)),
               gigabytes(context * of_model(report).bf16_per_token),
               gigabytes(context * of_model(report).fp8_per_token), whole(fit),
               whole(fit * report.plan.dp)});
  }
  return table.text();
}

std::string plan_text(const InferenceReport& report) {
  const InferencePlan& p = report.plan;
  return fmt::format(
      "{} GPUs: tp={} dense_tp={} pp={} dp={} ep={}, {} extra experts a layer{}\n"
      "{} weights, {} cache; {} a GPU less {} of reserve\n",
      whole(report.memory.gpus), p.tp, p.dense_tp.value_or(p.tp), p.pp, p.dp, p.ep, p.extra_experts,
      p.shared_as_routed ? " (the shared one among them)" : "", name_of(p.weights),
      name_of(p.cache), gigabytes(p.capacity), gigabytes(p.reserve));
}

Json plan_json(const InferenceReport& report) {
  const InferencePlan& p = report.plan;
  return {{"tp", p.tp},
          {"dense_tp", p.dense_tp.value_or(p.tp)},
          {"pp", p.pp},
          {"dp", p.dp},
          {"ep", p.ep},
          {"extra_experts", p.extra_experts},
          {"shared_as_routed", p.shared_as_routed},
          {"weights", name_of(p.weights)},
          {"cache", name_of(p.cache)},
          {"gpus", report.memory.gpus},
          {"capacity_bytes", p.capacity.count()},
          {"reserve_bytes", p.reserve.count()}};
}

Json stage_json(const InferenceStage& stage) {
  Json weights = Json::object();
  for (const auto& [name, part] : kParts)
    weights[std::string(name)] = (stage.weights.*part).count();
  weights["total"] = stage.weights.total().count();
  return {{"layers", stage.layers},
          {"weights_bytes", std::move(weights)},
          {"free_bytes", stage.free.count()},
          {"cache_bytes_per_token", stage.cache_per_token.count()},
          {"tokens", stage.tokens}};
}

}  // namespace

std::vector<KvCacheRow> kv_cache_rows(const ModelSpec& model,
                                      const std::map<std::string, GqaModel>& dense_models) {
  std::vector<KvCacheRow> out = {
      {model.name, "MLA", kv_cache_per_token(model), kv_cache_per_token(model, Precision::kFp8)},
      {model.name + "'s heads without it", "MHA", multi_head_kv_cache_per_token(model),
       multi_head_kv_cache_per_token(model, Precision::kFp8)}};
  for (const auto& [name, dense] : dense_models) {
    out.push_back({name, dense.kv_heads == dense.heads ? "MHA" : "GQA", kv_cache_per_token(dense),
                   kv_cache_per_token(dense, Precision::kFp8)});
  }
  return out;
}

InferenceReport inference_report(const ModelSpec& model, const InferencePlan& plan,
                                 const std::vector<std::int64_t>& contexts,
                                 const std::map<std::string, GqaModel>& dense_models) {
  for (const std::int64_t context : contexts) {
    require(context > 0, "a request has at least one token, not {}", context);
  }
  return {.model = model.name,
          .plan = plan,
          .contexts = contexts,
          .caches = kv_cache_rows(model, dense_models),
          .memory = inference_memory(model, plan)};
}

std::string inference_text(const InferenceReport& report) {
  const std::string fit =
      report.memory.weights_fit
          ? fmt::format("{} tokens fit beside the weights of each attention replica, {} in all.\n",
                        whole(report.memory.tokens), whole(report.memory.tokens * report.plan.dp))
          : std::string("The weights alone do not fit.\n");
  return fmt::format("{}\n{}, {}\n{}{}\n{}", cache_text(report), report.model, plan_text(report),
                     weights_text(report), fit, requests_text(report));
}

Json inference_json(const InferenceReport& report) {
  Json caches = Json::array();
  for (const KvCacheRow& row : report.caches) {
    caches.push_back({{"model", row.model},
                      {"attention", row.attention},
                      {"bf16_bytes_per_token", row.bf16_per_token.count()},
                      {"fp8_bytes_per_token", row.fp8_per_token.count()}});
  }
  Json requests = Json::array();
  for (const std::int64_t context : report.contexts) {
    const std::int64_t fit = report.memory.requests(context);
    requests.push_back({{"context", context},
                        {"bf16_bytes", (context * of_model(report).bf16_per_token).count()},
                        {"fp8_bytes", (context * of_model(report).fp8_per_token).count()},
                        {"per_replica", fit},
                        {"total", fit * report.plan.dp}});
  }
  Json stages = Json::array();
  for (const InferenceStage& stage : report.memory.stages) stages.push_back(stage_json(stage));
  return {{"model", report.model},
          {"kv_cache", std::move(caches)},
          {"requests", std::move(requests)},
          {"deployment", plan_json(report)},
          {"stages", std::move(stages)},
          {"weights_fit", report.memory.weights_fit},
          {"tokens_per_replica", report.memory.tokens},
          {"tokens", report.memory.tokens * report.plan.dp}};
}

}  // namespace pipecast
