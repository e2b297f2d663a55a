#include "app/routing/routing_study.hpp"

#include <fmt/format.h>

#include <algorithm>

namespace pipecast {

namespace {

/// A means against imbalance, and how a scenario looks without it.
struct Remedy {
  const char* name;
  bool (*used)(const RoutingSpec&);
  void (*remove)(RoutingSpec&);
};
constexpr Remedy kRemedies[] = {
    {"without the bias rule", [](const RoutingSpec& r) { return r.bias.steps > 0; },
     [](RoutingSpec& r) { r.bias.steps = 0; }},
    {"without dropping", [](const RoutingSpec& r) { return r.capacity_factor > 0; },
     [](RoutingSpec& r) { r.capacity_factor = 0; }},
    {"without redundant experts", [](const RoutingSpec& r) { return r.redundant_experts > 0; },
     [](RoutingSpec& r) { r.redundant_experts = 0; }},
};

class Study {
 public:
  Study(const Scenario& scenario, const RoutingRequest& request)
      : scenario_(scenario),
        request_(request),
        plan_(main_phase(scenario.recipe).plan),
        router_(make_router(scenario, plan_, request.seed)),
        layers_(studied_layers(*router_, request)) {
    require(request.micro_batches > 0, "routing: {} micro-batches", request.micro_batches);
  }

  RoutingStudy run() {
    tell("loads", 0);
    RoutingStudy out{.group = router_->group(),
                     .experts = static_cast<int>(scenario_.model.n_routed_experts),
                     .loads = study_loads(*router_, layers_, request_.micro_batches)};
    out.volume =
        study_volume(scenario_, plan_,
                     balanced_routing(scenario_.model, plan_.ep, scenario_.cluster.gpus_per_node),
                     *router_, out.loads);
    out.bias = bias_curve(*router_);
    add_variants(out);
    if (request_.exact) {
      constexpr int kLayers = 2;
      out.exact =
          compare_exact(scenario_.model, *router_, std::min(kLayers, layers_), request_.seed,
                        [this](double fraction) { tell("exact sampler", fraction); });
    }
    return out;
  }

 private:
  void tell(std::string_view stage, double fraction) const {
    if (request_.progress) request_.progress(stage, fraction);
  }

  void add_variants(RoutingStudy& out) {
    tell("balanced step", 0);
    Scenario even = scenario_;
    even.routing = RoutingSpec{};
    add(even, "balanced", out);
    for (const Remedy& remedy : kRemedies) {
      if (!remedy.used(scenario_.routing)) continue;
      tell(remedy.name, 0);
      Scenario without = scenario_;
      remedy.remove(without.routing);
      add(without, remedy.name, out);
    }
    tell("step", 0);
    out.variants.push_back({.name = scenario_.routing.distribution + ", as in the scenario",
                            .loads = out.loads.all,
                            .dropped_share = out.loads.dropped_share,
                            .step = step_of(scenario_, router_)});
  }

  void add(const Scenario& scenario, const char* name, RoutingStudy& out) const {
    const std::shared_ptr<const Router> router = make_router(scenario, plan_, request_.seed);
    const LoadStudy loads = study_loads(*router, layers_, request_.micro_batches);
    out.variants.push_back({.name = name,
                            .loads = loads.all,
                            .dropped_share = loads.dropped_share,
                            .step = step_of(scenario, router)});
  }

  [[nodiscard]] StepTimes step_of(const Scenario& scenario,
                                  const std::shared_ptr<const Router>& router) const {
    const bool even = scenario.routing.distribution == "balanced" || plan_.ep == 1;
    return step_times(scenario, even ? nullptr : router, request_);
  }

  const Scenario& scenario_;
  const RoutingRequest& request_;
  const PlanSpec& plan_;
  std::shared_ptr<const Router> router_;
  int layers_;
};

}  // namespace

void require_experts(const ModelSpec& model) {
  require(model.n_routed_experts > 0 && model.moe_layers() > 0,
          "routing: {} has no experts, so there is nothing to route", model.name);
}

int studied_layers(const Router& router, const RoutingRequest& request) {
  const int layers = request.layers.value_or(router.layers());
  require(layers > 0 && layers <= router.layers(),
          "routing: {} layers are asked for; the model has {} with experts", layers,
          router.layers());
  return layers;
}

StepTimes step_times(const Scenario& scenario, const std::shared_ptr<const Router>& router,
                     const RoutingRequest& request) {
  const PhaseSpec& phase = main_phase(scenario.recipe);
  const StepRouting routing{
      .even = balanced_routing(scenario.model, phase.plan.ep, scenario.cluster.gpus_per_node),
      .router = router};
  return forecast_step(scenario, phase.plan, phase.global_batch_size->to, routing, request.mode,
                       request.seed, request.threads, nullptr, false)
      .times;
}

RoutingStudy study_routing(const Scenario& scenario, const RoutingRequest& request) {
  require_experts(scenario.model);
  return Study(scenario, request).run();
}

}  // namespace pipecast
