#include "app/report/result_json.hpp"

namespace pipecast {

namespace {

using Json = nlohmann::ordered_json;

Json breakdown_json(const std::array<Duration, kTimeCategories>& breakdown) {
  Json out;
  for (std::size_t c = 0; c < kTimeCategories; ++c) {
    out[std::string(name_of(static_cast<TimeCategory>(c)))] = to_seconds(breakdown[c]);
  }
  return out;
}

Json overlap_json(const OverlapTimes& overlap) {
  return {{"communication", to_seconds(overlap.communication)},
          {"hidden", to_seconds(overlap.hidden)},
          {"exposed", to_seconds(overlap.exposed)},
          {"waiting_for_peers", to_seconds(overlap.waiting_for_peers)}};
}

Json finish_json(const FinishTimes& finish) {
  return {{"earliest", to_seconds(finish.earliest)},
          {"mean", to_seconds(finish.mean)},
          {"latest", to_seconds(finish.latest)}};
}

Json step_json(const Forecast& forecast) {
  const StepForecast& step = forecast.step;
  const LostTime& lost = forecast.lost;
  constexpr double kSecondsPerDay = 86400;
  const double time_s = to_seconds(step.times.time);
  Json out = {
      {"time_s", time_s},
      {"tokens", step.tokens.count()},
      {"tokens_per_day", static_cast<double>(step.tokens.count()) / time_s * kSecondsPerDay},
      {"schedule", step.schedule},
      {"micro_batches", step.microbatches},
      {"breakdown_s", breakdown_json(mean_breakdown(step.times))},
      {"overlap_s", overlap_json(mean_overlap(step.times))},
      {"lost_s",
       {{"routing_imbalance", lost.routing_imbalance_s},
        {"variation", lost.variation_s},
        {"pipeline_transfers", lost.pipeline_transfers_s},
        {"optimizer_collectives", lost.optimizer_collectives_s}}}};
  Json ranks = Json::array();
  for (std::size_t rank = 0; rank < step.times.ranks.size(); ++rank) {
    ranks.push_back(
        {{"pipeline_rank", rank},
         {"time_s", time_s},
         {"breakdown_s", breakdown_json(step.times.ranks[rank].breakdown)},
         {"overlap_s", overlap_json(step.times.ranks[rank].overlap)},
         {"finish_s", finish_json(step.times.ranks[rank].finish)},
         {"memory_bytes", totals_json(forecast.memory.peak(static_cast<int>(rank)).totals,
                                      forecast.memory_capacity)}});
  }
  out["ranks"] = std::move(ranks);
  return out;
}

Json throughput_json(const Throughput& t) {
  return {{"tflops_per_gpu_causal", t.tflops_per_gpu_causal},
          {"tflops_per_gpu_noncausal", t.tflops_per_gpu_noncausal},
          {"mfu_causal", t.mfu_causal},
          {"mfu_noncausal", t.mfu_noncausal},
          {"flop_per_token_causal", t.flop_per_token_causal.count()},
          {"flop_per_token_noncausal", t.flop_per_token_noncausal.count()}};
}

Json phase_json(const PhaseForecast& phase) {
  return {{"name", phase.name},
          {"source", phase.simulated ? "simulated" : "published"},
          {"tokens", phase.tokens ? Json(phase.tokens->count()) : Json(nullptr)},
          {"gpu_hours", phase.gpu_hours},
          {"days", phase.days},
          {"cost_usd", phase.cost.count()}};
}

Json run_json(const Forecast& f) {
  Json phases = Json::array();
  for (const PhaseForecast& phase : f.phases) phases.push_back(phase_json(phase));
  return {{"tokens", f.total.tokens->count()},
          {"gpu_hours_per_trillion_tokens", f.gpu_hours_per_trillion_tokens},
          {"days_per_trillion_tokens", f.days_per_trillion_tokens},
          {"days", f.total.days},
          {"gpu_hours", f.total.gpu_hours},
          {"cost_usd", f.total.cost.count()},
          {"phases", std::move(phases)}};
}

Json interval_json(const Interval& i) {
  return {{"low", i.low}, {"default", i.expected}, {"high", i.high}};
}

Json optional_json(const std::optional<double>& value) {
  return value ? Json(*value) : Json(nullptr);
}

Json assumptions_json(const std::vector<Assumption>& assumptions) {
  Json out = Json::array();
  for (const Assumption& a : assumptions) {
    out.push_back({{"key", a.key},
                   {"value", a.value},
                   {"low", optional_json(a.low)},
                   {"high", optional_json(a.high)},
                   {"reason", a.reason}});
  }
  return out;
}

Json critical_path_json(const std::vector<CriticalShare>& path) {
  Json out = Json::array();
  for (const CriticalShare& share : path) {
    out.push_back({{"operation", share.operation},
                   {"resource", share.resource},
                   {"pipeline_rank", share.pipeline_rank},
                   {"seconds", to_seconds(share.time)}});
  }
  return out;
}

Json link_json(const LinkUse& use) {
  return {{"bytes", use.bytes.count()}, {"busy_fraction", use.busy_fraction}};
}

}  // namespace

nlohmann::ordered_json totals_json(const MemoryTotals& memory, Bytes capacity) {
  Json out;
  for (std::size_t c = 0; c < kMemoryCategories; ++c) {
    const auto category = static_cast<MemoryCategory>(c);
    out[std::string(name_of(category))] = memory.of(category).count();
  }
  out["total"] = memory.total().count();
  out["capacity"] = capacity.count();
  return out;
}

std::string_view name_of(SimulationMode mode) {
  return mode == SimulationMode::kFull ? "full" : "folded";
}

std::array<Duration, kTimeCategories> mean_breakdown(const StepTimes& times) {
  std::array<Duration, kTimeCategories> mean{};
  Duration sum;
  for (std::size_t c = 0; c < kTimeCategories; ++c) {
    for (const RankTimes& rank : times.ranks) mean[c] += rank.breakdown[c];
    mean[c] = Duration(mean[c].count() / static_cast<std::int64_t>(times.ranks.size()));
    sum += mean[c];
  }
  mean[static_cast<std::size_t>(TimeCategory::kBubble)] += times.time - sum;
  return mean;
}

OverlapTimes mean_overlap(const StepTimes& times) {
  OverlapTimes mean;
  const auto average = [&](Duration OverlapTimes::*member) {
    Duration sum;
    for (const RankTimes& rank : times.ranks) sum += rank.overlap.*member;
    return Duration(sum.count() / static_cast<std::int64_t>(times.ranks.size()));
  };
  for (const auto member : {&OverlapTimes::communication, &OverlapTimes::hidden,
                            &OverlapTimes::exposed, &OverlapTimes::waiting_for_peers}) {
    mean.*member = average(member);
  }
  return mean;
}

nlohmann::ordered_json result_json(const Scenario& scenario, const Forecast& forecast,
                                   SimulationMode mode, std::uint64_t seed,
                                   const nlohmann::ordered_json& config,
                                   const SimulatorCost& cost) {
  const StepForecast& step = forecast.step;
  Json out = {{"format", "pipecast-result/1"},
              {"version", PIPECAST_VERSION},
              {"scenario", scenario.name},
              {"mode", name_of(mode)},
              {"seed", seed},
              {"config", config}};
  out["step"] = step_json(forecast);
  out["parameters"] = {{"total", forecast.parameters.total},
                       {"activated", forecast.parameters.activated},
                       {"per_rank", forecast.parameters_per_rank}};
  out["throughput"] = throughput_json(forecast.throughput);
  out["run"] = run_json(forecast);
  out["forecast"] = {
      {"step_time_s", interval_json(forecast.step_time_s)},
      {"gpu_hours_per_trillion_tokens", interval_json(forecast.gpu_hours_per_trillion)},
      {"cost_usd", interval_json(forecast.cost_usd)}};
  out["assumptions"] = assumptions_json(forecast.assumptions);
  out["sensitivities"] = Json::array();
  for (const Sensitivity& s : forecast.sensitivities) {
    out["sensitivities"].push_back(
        {{"resource", s.resource}, {"step_percent_per_percent", s.step_percent_per_percent}});
  }
  out["critical_path"] = critical_path_json(step.times.critical_path);
  out["provenance"] = Json::array();
  for (const Provenance& p : forecast.provenance) {
    out["provenance"].push_back(
        {{"operation", p.operation}, {"kind", p.kind}, {"source", p.source}});
  }
  const LoadMeans& loads = step.times.loads;
  out["routing"] = {{"expert_load_max_over_mean", loads.expert_max_over_mean},
                    {"gpu_load_max_over_mean", loads.gpu_max_over_mean},
                    {"nodes_per_token_mean", loads.nodes_per_token}};
  out["network"] = {{"nvlink", link_json(step.times.nvlink)},
                    {"nic", link_json(step.times.nic)},
                    {"pcie", link_json(step.times.pcie)}};
  out["simulator"] = {{"wall_s", cost.wall_s},
                      {"events", forecast.events},
                      {"events_per_s", static_cast<double>(forecast.events) / cost.wall_s},
                      {"simulated_gpus", step.times.simulated_gpus},
                      {"peak_rss_bytes", cost.peak_rss_bytes}};
  return out;
}

}  // namespace pipecast
