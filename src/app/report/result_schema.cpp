#include "app/report/result_schema.hpp"

#include <initializer_list>
#include <string>
#include <utility>
#include <vector>

#include "sim/cluster/step_plan.hpp"

namespace pipecast {

namespace {

using Json = nlohmann::ordered_json;

Json number() { return {{"type", "number"}}; }
Json amount() { return {{"type", "number"}, {"minimum", 0}}; }
Json fraction() { return {{"type", "number"}, {"minimum", 0}, {"maximum", 1}}; }
Json count() { return {{"type", "integer"}, {"minimum", 0}}; }
Json text() { return {{"type", "string"}}; }
Json constant(const char* value) { return {{"const", value}}; }
Json one_of(const std::vector<std::string>& values) { return {{"enum", values}}; }
Json list(Json items) { return {{"type", "array"}, {"items", std::move(items)}}; }
Json or_null(Json schema) { return {{"anyOf", {std::move(schema), {{"type", "null"}}}}}; }

Json object(std::initializer_list<std::pair<std::string, Json>> members) {
  Json required = Json::array();
  Json properties = Json::object();
  for (const auto& [name, schema] : members) {
    required.push_back(name);
    properties[name] = schema;
  }
  return {{"type", "object"},
          {"additionalProperties", false},
          {"required", std::move(required)},
          {"properties", std::move(properties)}};
}

Json described(Json schema, const char* description) {
  schema["description"] = description;
  return schema;
}

Json breakdown() {
  Json required = Json::array();
  Json properties = Json::object();
  for (int c = 0; c < kTimeCategories; ++c) {
    const std::string name(name_of(static_cast<TimeCategory>(c)));
    required.push_back(name);
    properties[name] = amount();
  }
  return {{"type", "object"},
          {"description", "seconds; sums to time_s"},
          {"additionalProperties", false},
          {"required", std::move(required)},
          {"properties", std::move(properties)}};
}

Json overlap() {
  return described(object({{"communication", amount()},
                           {"hidden", amount()},
                           {"exposed", amount()},
                           {"waiting_for_peers", amount()}}),
                   "seconds of communication inside chunks");
}

Json finish() {
  return described(object({{"earliest", amount()}, {"mean", amount()}, {"latest", amount()}}),
                   "when the rank's GPUs, one of every data-parallel rank, end their last pass");
}

Json lost() {
  return described(
      object({{"routing_imbalance", number()},
              {"variation", number()},
              {"pipeline_transfers", amount()},
              {"optimizer_collectives", amount()}}),
      "seconds of the step that uneven routing costs (difference to a step with "
      "balanced routing), that slow or late GPUs cost (difference of that one to a step "
      "with equal GPUs), that ranks wait for messages on their way, and that the "
      "optimizer's collectives take");
}

Json memory() {
  return object({{"weights", count()},
                 {"gradients", count()},
                 {"optimizer", count()},
                 {"activations", count()},
                 {"communication", count()},
                 {"workspace", count()},
                 {"total", count()},
                 {"capacity", count()}});
}

Json step() {
  const Json rank = object({{"pipeline_rank", count()},
                            {"time_s", amount()},
                            {"breakdown_s", breakdown()},
                            {"overlap_s", overlap()},
                            {"finish_s", finish()},
                            {"memory_bytes", memory()}});
  return object({{"time_s", described(amount(), "seconds of simulated time")},
                 {"tokens", count()},
                 {"tokens_per_day", amount()},
                 {"schedule", described(text(), "the plan's, or its fallback")},
                 {"micro_batches", described(count(), "per data-parallel rank")},
                 {"breakdown_s", described(breakdown(), "mean over pipeline ranks, seconds")},
                 {"overlap_s", overlap()},
                 {"lost_s", lost()},
                 {"ranks", list(rank)}});
}

Json throughput() {
  return object({{"tflops_per_gpu_causal", amount()},
                 {"tflops_per_gpu_noncausal", amount()},
                 {"mfu_causal", fraction()},
                 {"mfu_noncausal", fraction()},
                 {"flop_per_token_causal", amount()},
                 {"flop_per_token_noncausal", amount()}});
}

Json run() {
  const Json phase = object({{"name", text()},
                             {"source", one_of({"simulated", "published"})},
                             {"tokens", or_null(count())},
                             {"gpu_hours", amount()},
                             {"days", amount()},
                             {"cost_usd", amount()}});
  return object({{"tokens", count()},
                 {"gpu_hours_per_trillion_tokens", amount()},
                 {"days_per_trillion_tokens", amount()},
                 {"days", amount()},
                 {"gpu_hours", amount()},
                 {"cost_usd", amount()},
                 {"phases", list(phase)}});
}

Json forecast() {
  const Json interval = object({{"low", amount()}, {"default", amount()}, {"high", amount()}});
  return object({{"step_time_s", interval},
                 {"gpu_hours_per_trillion_tokens", interval},
                 {"cost_usd", interval}});
}

Json assumption() {
  return object({{"key", text()},
                 {"value", text()},
                 {"low", or_null(number())},
                 {"high", or_null(number())},
                 {"reason", text()}});
}

Json critical_share() {
  return object({{"operation", text()},
                 {"resource", text()},
                 {"pipeline_rank", count()},
                 {"seconds", amount()}});
}

Json provenance() {
  return object({{"operation", text()},
                 {"kind", one_of({"calibrated", "public", "modelled"})},
                 {"source", text()}});
}

Json network() {
  const Json link = object({{"bytes", count()}, {"busy_fraction", fraction()}});
  return object({{"nvlink", link}, {"nic", link}, {"pcie", link}});
}

Json simulator() {
  return described(object({{"wall_s", amount()},
                           {"events", count()},
                           {"events_per_s", amount()},
                           {"simulated_gpus", count()},
                           {"peak_rss_bytes", count()}}),
                   "what the simulation itself took; differs from run to run");
}

}  // namespace

nlohmann::ordered_json result_schema() {
  Json out = {{"$schema", "http://json-schema.org/draft-07/schema#"}, {"title", "Pipecast result"}};
  out.update(
      object({{"format", constant("pipecast-result/1")},
              {"version", text()},
              {"scenario", text()},
              {"mode", one_of({"full", "folded"})},
              {"seed", count()},
              {"config", described({{"type", "object"}}, "the resolved scenario")},
              {"step", step()},
              {"parameters",
               object({{"total", count()}, {"activated", count()}, {"per_rank", list(count())}})},
              {"throughput", throughput()},
              {"run", run()},
              {"forecast", forecast()},
              {"assumptions", list(assumption())},
              {"sensitivities",
               list(object({{"resource", text()}, {"step_percent_per_percent", number()}}))},
              {"critical_path", list(critical_share())},
              {"provenance", list(provenance())},
              {"routing", object({{"expert_load_max_over_mean", amount()},
                                  {"gpu_load_max_over_mean", amount()},
                                  {"nodes_per_token_mean", amount()}})},
              {"network", network()},
              {"simulator", simulator()}}));
  return out;
}

}  // namespace pipecast
