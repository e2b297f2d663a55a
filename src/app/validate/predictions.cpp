#include "app/validate/predictions.hpp"

#include <algorithm>

#include "base/text.hpp"
#include "model/arithmetic/flops.hpp"
#include "model/arithmetic/kv_cache.hpp"
#include "model/schedules/timing.hpp"

namespace pipecast {

namespace {

// The comments of validate/published.yaml name these, too.
const PipelineShape kShape{.ranks = 16, .microbatches = 120};
constexpr PassDurations kTicks{.forward = Duration(10),
                               .backward = Duration(30),
                               .backward_input = Duration(18),
                               .backward_weight = Duration(12),
                               .overlapped = Duration(34)};
constexpr std::int64_t kSequenceLength = 4096;  // of every published FLOP count

ScheduleTiming timed(const std::string& kind) {
  const Schedule schedule = Registry<ScheduleKind>::instance().find(kind).make(kShape);
  return time_schedule(schedule, {.passes = {kTicks}});
}

/// Nodes of as many GPUs as planes, one NIC each, on 64-port switches: what the published fabrics
/// connect. Other properties of the cluster do not count here.
ClusterSpec cluster_on(const std::string& topology, int nodes, int planes) {
  constexpr int kSwitchPorts = 64;
  ClusterSpec out;
  out.nodes = nodes;
  out.gpus_per_node = planes;
  out.nic.per_gpu = 1;
  out.fabric.topology = topology;
  out.fabric.planes = planes;
  out.fabric.switch_ports = kSwitchPorts;
  return out;
}

double sum_simulated(const Forecast& run, double (*part)(const PhaseForecast&)) {
  double sum = 0;
  for (const PhaseForecast& phase : run.phases) sum += phase.simulated ? part(phase) : 0;
  return sum;
}

}  // namespace

Predictions::Predictions(Subjects subjects) : subjects_(std::move(subjects)) {
  add_model("deepseek-v3", subjects_.deepseek_v3.model);
  add_model("deepseek-v2", subjects_.deepseek_v2);
  for (const auto& [name, model] : subjects_.dense_models) add_dense_model(name, model);
  add_schedule("1f1b");
  add_schedule("zb-h1");
  add_schedule("dualpipe");
  add_run();
  // Endpoints of the published table; Slim Fly's follow from its q.
  add_fabric("ft2", count_fabric(cluster_on("multi-plane-fat-tree", 2'048, 1)));
  add_fabric("mpft", count_fabric(cluster_on("multi-plane-fat-tree", 2'048, 8)));
  add_fabric("ft3", count_fabric(cluster_on("three-layer-fat-tree", 65'536, 1)));
  add_fabric("slim-fly", slim_fly_count(28));
  add_fabric("dragonfly", count_fabric(cluster_on("dragonfly", 261'632, 1)));
}

void Predictions::add_model(const std::string& name, const ModelSpec& model) {
  add_parameters(name + ".parameters.", model);
  const auto add_flops = [&](const std::string& key, AttentionCount count, MtpCount mtp) {
    predictions_[name + ".flop_per_token." + key] = [&model, count, mtp] {
      return training_flops_per_token(model, kSequenceLength, count, mtp).count();
    };
  };
  add_flops("causal", AttentionCount::kCausal, MtpCount::kExcluded);
  add_flops("causal_with_mtp", AttentionCount::kCausal, MtpCount::kIncluded);
  add_flops("full", AttentionCount::kFull, MtpCount::kExcluded);
  predictions_[name + ".kv_cache"] = [&model] {
    return static_cast<double>(kv_cache_per_token(model).count());
  };
}

void Predictions::add_parameters(const std::string& prefix, const ModelSpec& model) {
  const auto add = [&](const std::string& key, std::int64_t count) {
    predictions_[prefix + key] = [count] { return static_cast<double>(count); };
  };
  const ParameterCount p = count_parameters(model);
  add("total", p.total);
  add("total_with_vectors", p.total + p.norms + p.router_bias);
  add("activated", p.activated);
  add("activated_without_embedding", p.activated_without_embedding);
  add("embedding", p.embedding);
  add("head", p.head);
  add("mtp", p.mtp);
  add("attention", p.attention.total());
  add("expert", p.expert);
  add("moe_layer", p.moe_layer);
  add("moe_layer_activated", p.moe_layer_activated);
}

void Predictions::add_dense_model(const std::string& name, const GqaModel& model) {
  const auto add_flops = [&](const std::string& key, AttentionCount count) {
    predictions_[name + ".flop_per_token." + key] = [&model, count] {
      return training_flops_per_token(model, kSequenceLength, count).count();
    };
  };
  add_flops("causal", AttentionCount::kCausal);
  add_flops("full", AttentionCount::kFull);
  predictions_[name + ".kv_cache"] = [&model] {
    return static_cast<double>(kv_cache_per_token(model).count());
  };
}

void Predictions::add_schedule(const std::string& kind) {
  predictions_["schedule." + kind + ".bubble"] = [kind] {
    const std::vector<Duration> bubble = timed(kind).bubble;
    return static_cast<double>(std::max_element(bubble.begin(), bubble.end())->count());
  };
  predictions_["schedule." + kind + ".live"] = [kind] {
    const std::vector<int> live = timed(kind).peak_live_activations;
    return static_cast<double>(*std::max_element(live.begin(), live.end()));
  };
}

void Predictions::add_run() {
  const auto add = [this](const std::string& key, double (*value)(const Forecast&)) {
    predictions_["run." + key] = [this, value] { return value(run()); };
  };
  add("gpu_hours_per_trillion_tokens",
      [](const Forecast& f) { return f.gpu_hours_per_trillion_tokens; });
  add("days_per_trillion_tokens", [](const Forecast& f) { return f.days_per_trillion_tokens; });
  add("gpu_hours", [](const Forecast& f) { return f.total.gpu_hours; });
  add("cost", [](const Forecast& f) { return f.total.cost.count(); });
  add("gpu_hours_simulated", [](const Forecast& f) {
    return sum_simulated(f, [](const PhaseForecast& phase) { return phase.gpu_hours; });
  });
  add("cost_simulated", [](const Forecast& f) {
    return sum_simulated(f, [](const PhaseForecast& phase) { return phase.cost.count(); });
  });
  add("mfu_causal", [](const Forecast& f) { return f.throughput.mfu_causal; });
  add("mfu_noncausal", [](const Forecast& f) { return f.throughput.mfu_noncausal; });
}

void Predictions::add_fabric(const std::string& name, const FabricCount& count) {
  const auto add = [&](const std::string& key, double value) {
    predictions_["fabric." + name + "." + key] = [value] { return value; };
  };
  add("endpoints", static_cast<double>(count.endpoints));
  add("switches", static_cast<double>(count.switches));
  add("links", static_cast<double>(count.links));
  add("cost", fabric_cost(count, FabricPrices{}).count());
}

const Forecast& Predictions::run() {
  if (!run_) {
    ForecastOptions options;
    options.mode = SimulationMode::kFull;
    run_ = forecast(subjects_.deepseek_v3, options);
  }
  return *run_;
}

double Predictions::at(const std::string& name) {
  const auto it = predictions_.find(name);
  if (it != predictions_.end()) return it->second();
  const std::string close = nearest(name, names());
  throw Error(fmt::format(
      "unknown prediction '{}'; {}", name,
      close.empty() ? "known: " + join(names()) : fmt::format("did you mean '{}'?", close)));
}

std::vector<std::string> Predictions::names() const {
  std::vector<std::string> out;
  for (const auto& [name, prediction] : predictions_) out.push_back(name);
  return out;
}

std::vector<ValidationRow> compare(const std::vector<PublishedValue>& values,
                                   Predictions& predictions) {
  std::vector<ValidationRow> rows;
  for (const PublishedValue& value : values) {
    const double predicted = predictions.at(value.predict) / unit_size(value.unit);
    rows.push_back({value, predicted, predicted / value.published - 1, std::nullopt});
  }
  return rows;
}

}  // namespace pipecast
