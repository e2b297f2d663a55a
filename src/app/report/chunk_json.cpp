#include <algorithm>
#include <utility>

#include "app/report/chunk_report.hpp"

namespace pipecast {

namespace {

using Json = nlohmann::ordered_json;
using Numbers = std::vector<std::pair<std::string, double>>;

Json object_of(const Numbers& numbers) {
  Json out = Json::object();
  for (const auto& [name, value] : numbers) out[name] = value;
  return out;
}

/// Adds `measured` and `error` with the keys of `predicted`. No ratio is null.
void add_comparison(Json& out, const Numbers& predicted, const Numbers& measured) {
  Json errors = Json::object();
  for (std::size_t i = 0; i < predicted.size(); ++i) {
    const std::optional<double> error = relative_error(predicted[i].second, measured[i].second);
    errors[predicted[i].first] = error ? Json(*error) : Json(nullptr);
  }
  out["measured"] = object_of(measured);
  out["error"] = std::move(errors);
}

Json with_comparison(const Numbers& predicted, const std::optional<Numbers>& measured) {
  Json out = object_of(predicted);
  if (measured) add_comparison(out, predicted, *measured);
  return out;
}

Numbers whole_of(const ChunkMeasures& m) {
  return {{"time_us", m.time_us},
          {"exposed_communication_us", m.exposed_communication_us},
          {"hidden_communication_us", m.hidden_communication_us}};
}

Numbers phase_of(const PhaseTimes& t) {
  return {{"time_us", t.time_us},
          {"compute_us", t.compute_us},
          {"communication_us", t.communication_us},
          {"notify_us", t.notify_us}};
}

const ChunkMeasures* measured_of(const ChunkAnswer& answer) {
  return answer.measured ? &answer.measured->comparison.measured : nullptr;
}

Json phases_json(const ChunkAnswer& answer) {
  Json out = Json::object();
  const ChunkMeasures* const measured = measured_of(answer);
  for (std::size_t p = 0; p < kPhases; ++p) {
    const std::optional<PhaseTimes>& own = answer.measures.phases[p];
    if (!own && (measured == nullptr || !measured->phases[p])) continue;
    std::optional<Numbers> other;
    if (measured != nullptr) other = phase_of(measured->phases[p].value_or(PhaseTimes{}));
    out[std::string(name_of(static_cast<Phase>(p)))] =
        with_comparison(phase_of(own.value_or(PhaseTimes{})), other);
  }
  return out;
}

Json streams_json(const ChunkAnswer& answer) {
  const ChunkMeasures* const measured = measured_of(answer);
  const auto stream = [&](double ChunkMeasures::*busy) {
    std::optional<Numbers> other;
    if (measured != nullptr) other = Numbers{{"busy_us", measured->*busy}};
    return with_comparison({{"busy_us", answer.measures.*busy}}, other);
  };
  return {{"compute", stream(&ChunkMeasures::compute_busy_us)},
          {"comm", stream(&ChunkMeasures::comm_busy_us)}};
}

void add_errors(Json& out, const KernelGroup& group) {
  const bool any = group.errors.has_value();
  out["median_error"] = any ? Json(group.errors->median) : Json(nullptr);
  out["p90_error"] = any ? Json(group.errors->p90) : Json(nullptr);
  out["unmatched"] = group.unmatched;
  out["unresolved"] = group.unresolved;
}

Json kernels_json(const ChunkAnswer& answer) {
  Json out = Json::object();
  const auto counted = [](const ChunkMeasures& measures, const std::string& op) -> Json {
    const auto it = measures.ops.find(op);
    const OpTimes times = it == measures.ops.end() ? OpTimes{} : it->second;
    return {{"count", times.count}, {"time_us", times.time_us}};
  };
  for (const auto& [op, times] : answer.measures.ops) out[op] = counted(answer.measures, op);
  if (!answer.measured) return out;
  const ChunkComparison& comparison = answer.measured->comparison;
  for (const auto& [op, group] : comparison.ops) {
    Json& kernel = out[op];
    if (kernel.is_null()) kernel = counted(answer.measures, op);
    add_errors(kernel, group);
    kernel["measured"] = counted(comparison.measured, op);
  }
  return out;
}

Json families_json(const ChunkComparison& comparison) {
  Json out = Json::object();
  for (std::size_t f = 0; f < comparison.families.size(); ++f) {
    const KernelGroup& group = comparison.families[f];
    Json& family = out[std::string(name_of(static_cast<LaunchFamily>(f)))];
    family["count"] = group.errors ? group.errors->rows : 0;
    add_errors(family, group);
  }
  return out;
}

Json layers_json(const ChunkShape& shape) {
  const auto names = [](const std::vector<LayerKind>& layers) {
    Json out = Json::array();
    for (const LayerKind kind : layers) out.push_back(name_of(kind));
    return out;
  };
  Json out = Json::object();
  if (has_forward(shape.kind)) out["forward"] = names(shape.forward);
  if (has_backward(shape.kind)) out["backward"] = names(shape.backward);
  return out;
}

Json heading_json(const Scenario& scenario, const ChunkShape& shape, Duration peers_late) {
  return {{"format", "pipecast-chunk/1"},
          {"version", PIPECAST_VERSION},
          {"scenario", scenario.name},
          {"kind", name_of(shape.kind)},
          {"layers", std::max(has_forward(shape.kind) ? shape.forward.size() : 0,
                              has_backward(shape.kind) ? shape.backward.size() : 0)},
          {"layer_kinds", layers_json(shape)},
          {"peers_late_us", to_microseconds(peers_late)}};
}

Json point_json(const TuningPoint& point) {
  Json order = Json::array();
  for (const Phase phase : point.order) order.push_back(name_of(phase));
  return {{"communication_sms", point.communication_sms},
          {"time_us", to_microseconds(point.time)},
          {"order", std::move(order)}};
}

}  // namespace

Json chunk_json(const ChunkAnswer& answer) {
  Json out = heading_json(answer.scenario, answer.run.shape, answer.run.peers_late);
  out["communication_sms"] = answer.scenario.plan.communication_sms;
  std::optional<Numbers> measured;
  if (answer.measured) measured = whole_of(*measured_of(answer));
  out.update(with_comparison(whole_of(answer.measures), measured));
  out["phases"] = phases_json(answer);
  out["streams"] = streams_json(answer);
  const Utilisation& use = answer.utilisation;
  out["utilisation"] = {{"sm", use.sm},
                        {"tensor_cores", use.tensor_cores},
                        {"hbm", use.hbm},
                        {"nvlink", use.nvlink},
                        {"nic", use.nic}};
  out["kernels"] = kernels_json(answer);
  if (answer.measured) {
    out["kernel_families"] = families_json(answer.measured->comparison);
    out["compared_with"] = answer.measured->name;
  }
  return out;
}

Json tuning_json(const TuningAnswer& answer) {
  Json out = heading_json(answer.scenario, answer.shape, answer.peers_late);
  Json curve = Json::array();
  for (const TuningPoint& point : answer.tuning.curve) curve.push_back(point_json(point));
  out["tuning"] = {{"best", point_json(answer.tuning.best)},
                   {"plan", point_json(answer.tuning.plan)},
                   {"engine", point_json(answer.tuning.engine)},
                   {"orders", answer.tuning.orders},
                   {"curve", std::move(curve)}};
  return out;
}

}  // namespace pipecast
