#include "app/config/sections/sections.hpp"

namespace pipecast::config {

namespace {

/// The section `price`, which the scenario keeps as one number.
struct Price {
  Usd cost_per_gpu_hour;
};

void describe(Fields& f, Price& price) {
  f.required("cost_per_gpu_hour", price.cost_per_gpu_hour, "what one GPU costs in one hour");
}

}  // namespace

void describe(Fields& f, Scenario& s) {
  std::string format = "pipecast-scenario/1";
  f.choice("format", format, words({"pipecast-scenario/1"}), "version of this file's format");
  f.required("name", s.name, "what results call the scenario");
  f.required("cluster", s.cluster, "the machines and their network");
  f.required("model", s.model, "the model to train");
  f.required("plan", s.plan, "how the model is laid over the cluster");
  f.required("routing", s.routing, "how tokens spread over the experts");
  f.required("recipe", s.recipe, "what is trained, phase by phase");
  f.optional_section("variation", s.variation, "how GPUs differ and what chance does");
  Price price{s.cost_per_gpu_hour};
  f.required("price", price, "what GPUs cost");
  s.cost_per_gpu_hour = price.cost_per_gpu_hour;
  f.required("calibration", s.calibration, "measured constants of kernels and links");
}

}  // namespace pipecast::config
