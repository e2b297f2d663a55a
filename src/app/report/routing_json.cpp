#include "app/report/result_json.hpp"
#include "app/report/routing_report.hpp"

namespace pipecast {

namespace {

using Json = nlohmann::ordered_json;

Json unevenness_json(const Unevenness& u) {
  return {{"max_over_mean", u.max_over_mean},
          {"worst", u.worst},
          {"max_violation", u.max_over_mean - 1},
          {"gini", u.gini},
          {"coefficient_of_variation", u.coefficient_of_variation}};
}

Json loads_json(const LayerLoads& loads) {
  return {{"expert", unevenness_json(loads.expert)},
          {"gpu", unevenness_json(loads.gpu)},
          {"node", unevenness_json(loads.node)}};
}

Json group_json(const RoutingStudy& study) {
  return {{"gpus", study.group.gpus},     {"nodes", study.group.nodes()},
          {"experts", study.experts},     {"tokens_per_gpu", study.group.tokens},
          {"layers", study.loads.layers}, {"micro_batches", study.loads.micro_batches}};
}

Json layers_json(const LoadStudy& loads) {
  Json out = Json::array();
  for (std::size_t layer = 0; layer < loads.by_layer.size(); ++layer) {
    Json one = {{"layer", layer}};
    one.update(loads_json(loads.by_layer[layer]));
    out.push_back(std::move(one));
  }
  return out;
}

Json bias_json(const BiasRuleSpec& rule, const std::vector<BiasStep>& curve) {
  if (curve.empty()) return nullptr;
  Json mean = Json::array();
  Json worst = Json::array();
  for (const BiasStep& step : curve) {
    mean.push_back(step.mean);
    worst.push_back(step.worst);
  }
  return {{"update", rule.update},
          {"steps", rule.steps},
          {"max_violation", std::move(mean)},
          {"worst_layer", std::move(worst)}};
}

Json port_json(const PortBytes& port) { return {{"mean", port.mean}, {"busiest", port.busiest}}; }

Json exchange_json(const ExchangeVolume& volume) {
  return {{"nic_bytes", port_json(volume.nic)},
          {"nvlink_bytes", port_json(volume.nvlink)},
          {"balanced_time_us", to_microseconds(volume.balanced)},
          {"time_us", to_microseconds(volume.time)}};
}

Json step_json(const StepTimes& times) {
  const auto breakdown = mean_breakdown(times);
  Json parts = Json::object();
  for (std::size_t c = 0; c < kTimeCategories; ++c)
    parts[std::string(name_of(static_cast<TimeCategory>(c)))] = to_seconds(breakdown[c]);
  const OverlapTimes overlap = mean_overlap(times);
  return {{"time_s", to_seconds(times.time)},
          {"breakdown_s", std::move(parts)},
          {"overlap_s",
           {{"communication", to_seconds(overlap.communication)},
            {"hidden", to_seconds(overlap.hidden)},
            {"exposed", to_seconds(overlap.exposed)},
            {"waiting_for_peers", to_seconds(overlap.waiting_for_peers)}}}};
}

Json variants_json(const std::vector<RoutingVariant>& variants) {
  Json out = Json::array();
  for (const RoutingVariant& v : variants) {
    out.push_back({{"name", v.name},
                   {"expert", v.loads.expert.max_over_mean},
                   {"gpu", v.loads.gpu.max_over_mean},
                   {"node", v.loads.node.max_over_mean},
                   {"dropped_share", v.dropped_share},
                   {"time_s", to_seconds(v.step.time)}});
  }
  return out;
}

Json exact_json(const std::vector<ExactLayer>& layers) {
  Json out = Json::array();
  for (const ExactLayer& layer : layers) {
    Json quantities = Json::array();
    for (const ExactRow& row : layer.rows) {
      quantities.push_back({{"quantity", row.quantity},
                            {"exact", row.exact},
                            {"fast", row.fast},
                            {"fast_spread", row.spread}});
    }
    out.push_back({{"layer", layer.layer}, {"quantities", std::move(quantities)}});
  }
  return out;
}

Json zipf_step_json(const ZipfStep& step) {
  return {{"max_violation", step.max_violation},
          {"gpu_max_over_mean", step.gpu_max_over_mean},
          {"time_s", to_seconds(step.time)}};
}

}  // namespace

nlohmann::ordered_json routing_json(const RoutingAnswer& answer) {
  const RoutingStudy& study = answer.study;
  Json out = {{"group", group_json(study)}, {"load", loads_json(study.loads.all)}};
  out["load"]["dropped_share"] = study.loads.dropped_share;
  out["layers"] = layers_json(study.loads);
  out["bias"] = bias_json(answer.scenario.routing.bias, study.bias);
  out["all_to_all"] = {{"nodes_per_token", study.loads.nodes_per_token},
                       {"gpus_per_token", study.loads.gpus_per_token},
                       {"dispatch", exchange_json(study.volume.dispatch)},
                       {"combine", exchange_json(study.volume.combine)}};
  out["step"] = step_json(study.chosen().step);
  out["step"]["mode"] = name_of(answer.mode);
  out["balanced"] = step_json(study.balanced().step);
  out["variants"] = variants_json(study.variants);
  out["exact"] = exact_json(study.exact);
  return out;
}

nlohmann::ordered_json zipf_json(const ZipfCurve& curve) {
  Json points = Json::array();
  for (const ZipfPoint& point : curve.points) {
    points.push_back({{"exponent", point.exponent},
                      {"skewed", zipf_step_json(point.skewed)},
                      {"balanced", zipf_step_json(point.balanced)}});
  }
  return {{"bias", {{"update", curve.rule.update}, {"steps", curve.rule.steps}}},
          {"balanced_time_s", to_seconds(curve.even)},
          {"points", std::move(points)}};
}

}  // namespace pipecast
