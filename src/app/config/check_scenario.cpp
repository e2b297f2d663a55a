#include "app/config/check_scenario.hpp"

#include "app/config/layout.hpp"
#include "model/schedules/plan_schedule.hpp"

namespace pipecast::config {

namespace {

class Checker {
 public:
  Checker(const Scenario& scenario, const Node& resolved) : s_(scenario), resolved_(resolved) {}

  void check_all() const {
    check_plan(s_.plan, "plan");
    check_calibration();
    const Node& phases = *resolved_.find("recipe")->find("phases");
    for (std::size_t i = 0; i < s_.recipe.phases.size(); ++i) {
      const PhaseSpec& phase = s_.recipe.phases[i];
      const std::string path = fmt::format("recipe.phases.{}", i);
      for (std::size_t j = 0; j < i; ++j) {
        require(s_.recipe.phases[j].name != phase.name, path + ".name",
                "{} is the name of another phase too", in_quotes(phase.name));
      }
      if (phases.children[i].find("plan") != nullptr) check_plan(phase.plan, path + ".plan");
      if (phase.tokens) check_batch(phase, path);
    }
  }

 private:
  template <class... Args>
  void require(bool holds, const std::string& path, fmt::format_string<Args...> message,
               Args&&... args) const {
    if (!holds)
      fail(origin_at(resolved_, path), path, fmt::format(message, std::forward<Args>(args)...));
  }

  void check_plan(const PlanSpec& plan, const std::string& path) const {
    const int gpus = s_.cluster.gpus();
    require(gpus % plan.pp == 0, path + ".pp",
            "{} pipeline ranks do not divide the cluster's {} GPUs", plan.pp, gpus);
    const int data_parallel = gpus / plan.pp;
    require(data_parallel % plan.ep == 0, path + ".ep",
            "{} expert-parallel ranks do not divide the {} data-parallel ranks ({} GPUs / pp {})",
            plan.ep, data_parallel, gpus, plan.pp);
    require(s_.model.n_routed_experts % plan.ep == 0, path + ".ep",
            "{} expert-parallel ranks do not divide the model's {} routed experts", plan.ep,
            s_.model.n_routed_experts);
    const int node = s_.cluster.gpus_per_node;
    require(node % plan.ep == 0 || plan.ep % node == 0, path + ".ep",
            "a group of {} GPUs neither divides a node of {} nor fills whole nodes", plan.ep, node);
    require(plan.communication_sms < s_.cluster.gpu.sm_count, path + ".communication_sms",
            "{} leave no SM for computation; the GPU has {}", plan.communication_sms,
            s_.cluster.gpu.sm_count);
    require(plan.precision.gemm != Precision::kFp8 || s_.cluster.gpu.fp8_flop_per_clock_per_sm > 0,
            path + ".precision.gemm", "the tensor cores of {} know no FP8; expected bf16",
            in_quotes(s_.cluster.gpu.name));
    check_tokens(plan, path);
    try {
      check_layout(plan.pipeline_layout, s_.model, plan.pp, stages_per_rank(plan));
    } catch (const Error& e) {
      require(false, path + ".pipeline_layout", "{}", e.what());
    }
  }

  void check_tokens(const PlanSpec& plan, const std::string& path) const {
    const std::int64_t tokens = plan.micro_batch_size * s_.recipe.seq_length;
    require(tokens <= kMostTokensPerMicroBatch, path + ".micro_batch_size",
            "{} sequences of {} tokens are more than {} tokens in a micro-batch",
            plan.micro_batch_size, s_.recipe.seq_length, kMostTokensPerMicroBatch);
  }

  /// The step's sequences must be whole micro-batches on every data-parallel rank.
  void check_batch(const PhaseSpec& phase, const std::string& path) const {
    const int ranks = s_.cluster.gpus() / phase.plan.pp;
    const std::int64_t unit = std::int64_t{ranks} * phase.plan.micro_batch_size;
    const BatchRamp& batch = *phase.global_batch_size;
    const bool ramp = batch.from != batch.to;
    const std::string key = path + ".global_batch_size";
    const std::string rule = fmt::format("{} data-parallel ranks x micro_batch_size {}", ranks,
                                         phase.plan.micro_batch_size);
    require(batch.from % unit == 0, ramp ? key + ".from" : key, "{} is no multiple of {} = {}",
            batch.from, unit, rule);
    require(!ramp || batch.increment % unit == 0, key + ".increment",
            "{} is no multiple of {} = {}", batch.increment, unit, rule);
    const std::int64_t step = std::int64_t{batch.to} * s_.recipe.seq_length;
    require(phase.tokens->count() >= step, path + ".tokens", "{} are fewer than the {} of one step",
            phase.tokens->count(), step);
  }

  void check_calibration() const {
    require(s_.calibration.gpu == s_.cluster.gpu.name || s_.calibration.allow_device_mismatch,
            "calibration.gpu",
            "the constants are of {}, the cluster's GPU is {}; expected the calibration of that "
            "GPU, or `calibration: {{ allow_device_mismatch: true }}` to use these all the same",
            in_quotes(s_.calibration.gpu), in_quotes(s_.cluster.gpu.name));
  }

  const Scenario& s_;
  const Node& resolved_;
};

}  // namespace

void check_scenario(const Scenario& scenario, const Node& resolved) {
  Checker(scenario, resolved).check_all();
}

}  // namespace pipecast::config
