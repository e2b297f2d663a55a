#include "app/calibrate/measurement_plan.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <set>

#include "app/forecast/forecast.hpp"
#include "app/forecast/step_operations.hpp"
#include "base/error.hpp"
#include "base/text.hpp"
#include "model/arithmetic/parameters.hpp"
#include "model/operations/attention_shapes.hpp"
#include "model/ops/training.hpp"

namespace pipecast {

namespace {

MeasuredFamily family_of(const Operation& operation) {
  if (is_product(operation)) return MeasuredFamily::kProducts;
  const std::string_view op = operation.op;
  if (op == "attention_fwd" || op == "attention_bwd") return MeasuredFamily::kAttention;
  if (op == "ep_dispatch" || op == "ep_combine") return MeasuredFamily::kExchange;
  return MeasuredFamily::kMemory;
}

PlannedMeasurement planned(const Operation& operation, std::vector<NamedExtent> extents, int sms,
                           const KernelMachine& machine) {
  PlannedMeasurement out{.name = std::string(operation.op),
                         .extents = std::move(extents),
                         .sms = sms,
                         .used = std::string(operation.label),
                         .family = family_of(operation)};
  out.shape = shape_text(out.extents);
  out.predict = [operation, sms, &machine](const CalibrationSpec& calibration) {
    const KernelMachine with{machine.gpu, calibration, machine.calibration_file};
    return to_microseconds(predict_kernel(operation, with, sms).cost.time);
  };
  return out;
}

constexpr double kMega = 1e6;  // microseconds of a second

class Planner {
 public:
  Planner(const Scenario& scenario, const KernelMachine& machine, int gpus)
      : scenario_(scenario), machine_(machine), gpus_(gpus) {}

  std::vector<PlannedMeasurement> plan() {
    add_launches();
    add_copies();
    add_clock();
    if (gpus_ > 1) add_links();
    if (gpus_ > 1) add_exchanges();
    const int all = machine_.gpu.sm_count;
    const int communication = scenario_.plan.communication_sms;
    const std::vector<Operation> step = distinct_operations();
    std::set<int> seen;
    for (const int sms : {all, all - communication, communication}) {
      if (sms <= 0 || !seen.insert(sms).second) continue;
      for (const Operation& operation : step) {
        add(operation, sms);
        for (const int part : {2, 4}) add_shorter(operation, part, sms);
      }
    }
    return std::move(out_);
  }

 private:
  void add(const Operation& operation, int sms) {
    std::optional<std::vector<NamedExtent>> extents = extents_of(operation);
    if (!extents) return;
    PlannedMeasurement next = planned(operation, std::move(*extents), sms, machine_);
    const auto [place, fresh] = places_.try_emplace(next.key(), out_.size());
    if (fresh) {
      out_.push_back(std::move(next));
      return;
    }
    // One shape may serve several tensors of a layer.
    std::string& used = out_[place->second].used;
    const std::vector<std::string> known = split(used, ',');
    const auto same = [&](std::string_view word) {
      return word.substr(word.find_first_not_of(' ')) == next.used;
    };
    if (next.used.empty() || std::any_of(known.begin(), known.end(), same)) return;
    used += (used.empty() ? "" : ", ") + next.used;
  }

  /// Attention has one shape in a step; what it costs per launch and per tile shows in shorter
  /// ones.
  void add_shorter(const Operation& operation, int part, int sms) {
    if (family_of(operation) != MeasuredFamily::kAttention) return;
    const std::int64_t queries = operation.attention.queries / part;
    if (queries == 0) return;
    AttentionShape shape = operation.attention;
    shape.queries = shape.keys = queries;
    Operation shorter = operation.op == "attention_bwd" ? attention_backward_operation(shape)
                                                        : attention_forward_operation(shape);
    shorter.label = "a shorter sequence";
    add(shorter, sms);
  }

  PlannedMeasurement& add_probe(std::string_view name, std::vector<NamedExtent> extents,
                                MeasuredFamily family,
                                std::function<double(const CalibrationSpec&)> predict) {
    PlannedMeasurement& out = out_.emplace_back();
    out.name = name;
    out.extents = std::move(extents);
    out.shape = shape_text(out.extents);
    out.sms = machine_.gpu.sm_count;
    out.family = family;
    out.predict = std::move(predict);
    return out;
  }

  void add_launches() {
    add_probe(kEmptyKernel, {}, MeasuredFamily::kMemory,
              [](const CalibrationSpec& c) { return c.latency.kernel_us.value; });
    // Each of a chain takes what an empty kernel takes, and the gap to the next.
    add_probe(kLaunchChain, {}, MeasuredFamily::kLaunchGap, [](const CalibrationSpec& c) {
      return c.latency.kernel_us.value + c.latency.launch_gap_us.value;
    });
  }

  void add_copies() {
    // A GiB is far beyond any L2; the smaller ones tell the launch from the rate.
    for (const int shift : {24, 26, 28}) {
      const std::int64_t elements = std::int64_t{1} << shift;  // of 4 bytes
      const auto& kind = Registry<KernelKind>::instance().find("memcpy");
      add(kind.make("memcpy", std::array{elements}), machine_.gpu.sm_count);
      out_.back().used = "HBM bandwidth";
    }
    constexpr std::int64_t kPasses = 8;  // over a buffer that stays in L2
    constexpr std::int64_t kWord = 16;   // bytes of an access
    const std::int64_t bytes = machine_.gpu.l2_capacity.count() / 4 / kWord * kWord;
    // Every SM reads all of it.
    add_probe(kL2Read, {{"bytes", bytes}, {"passes", kPasses}}, MeasuredFamily::kMachine,
              [bytes, &gpu = machine_.gpu](const CalibrationSpec& c) {
                const double rate = gpu.l2_bytes_per_clock_per_sm * gpu.tensor_clock.count();
                return c.latency.kernel_us.value +
                       static_cast<double>(bytes * kPasses) / rate * kMega;
              });
  }

  void add_clock() {
    PlannedMeasurement& clock =
        add_probe(kClockUnderLoad, {{"seconds", 2}}, MeasuredFamily::kClock,
                  [](const CalibrationSpec& c) { return c.clock.training_ghz.value; });
    clock.unit = "GHz";
    clock.used = "products one after the other";
  }

  void add_links() {
    for (const int shift : {22, 25, 28}) {
      const std::int64_t bytes = std::int64_t{1} << shift;
      const auto nvlink = [&](std::string_view name, std::int64_t crossing, int gpus) {
        PlannedMeasurement& probe =
            add_probe(name, {{"bytes", bytes}, {"gpus", gpus}}, MeasuredFamily::kNvlink,
                      [crossing, &cluster = scenario_.cluster](const CalibrationSpec& c) {
                        const double rate = cluster.nvlink.bandwidth.count() * c.link.nvlink.value;
                        return c.latency.kernel_us.value + to_microseconds(cluster.nvlink.latency) +
                               static_cast<double>(crossing) / rate * kMega;
                      });
        probe.gpus = gpus;
      };
      nvlink(kPeerCopy, bytes, 2);
      // Of what a GPU sends, its own share stays.
      nvlink(kNcclAllToAll, bytes / gpus_ * (gpus_ - 1), gpus_);
    }
  }

  /// Dispatch and combine among the GPUs of this machine, as one node. The model's time for few SMs
  /// is theirs alone; with many, NVLink may be slower, so that those rows fit no constant.
  void add_exchanges() {
    const ModelSpec& model = scenario_.model;
    constexpr int kSmsAlone =
        12;  // where links never limit: as the shipped calibrations' fit has it
    if (model.n_routed_experts == 0 || model.n_routed_experts % gpus_ != 0) return;
    const std::int64_t tokens = scenario_.recipe.seq_length;
    const std::array<std::int64_t, 7> options = {
        tokens, model.hidden_size, model.num_experts_per_tok, model.n_routed_experts, 1, gpus_, 0};
    for (const char* name : {"ep_dispatch", "ep_combine"}) {
      const KernelKind& kind = Registry<KernelKind>::instance().find(name);
      std::vector<NamedExtent> extents;
      for (std::size_t i = 0; i < options.size(); ++i) {
        extents.push_back({std::string(kind.options[i].name), options[i]});
      }
      for (const int sms : {4, 8, 12, 20, 24}) {
        PlannedMeasurement next = planned(kind.make(name, options), extents, sms, machine_);
        next.gpus = gpus_;
        next.used = "between the GPUs of this machine";
        if (sms > kSmsAlone) next.family = MeasuredFamily::kMachine;
        out_.push_back(std::move(next));
      }
    }
  }

  /// As a training step launches them, without those that have nothing to do.
  [[nodiscard]] std::vector<Operation> distinct_operations() const {
    const PlanSpec& plan = main_phase(scenario_.recipe).plan;
    constexpr std::int64_t kMostParameters = std::int64_t{1} << 28;  // 5 GB of optimizer state
    const std::int64_t mean_shard =
        count_parameters(scenario_.model).total / scenario_.cluster.gpus();
    const TrainingMachine training = in_training(machine_.gpu, machine_.calibration);
    std::vector<Operation> out;
    for (const Operation& operation : step_operations(
             scenario_, plan, std::clamp<std::int64_t>(mean_shard, 1, kMostParameters))) {
      const Operation kernel = training.kernel_of(operation);
      if ((kernel.read + kernel.written).count() > 0) out.push_back(kernel);
    }
    return out;
  }

  const Scenario& scenario_;
  const KernelMachine& machine_;
  int gpus_ = 1;
  std::vector<PlannedMeasurement> out_;
  std::map<std::string, std::size_t> places_;  // by key
};

void keep_only(std::vector<PlannedMeasurement>& plan, const std::vector<std::string>& only) {
  if (only.empty()) return;
  std::set<std::string> known;
  for (const PlannedMeasurement& item : plan) known.insert(item.name);
  for (const std::string& name : only) {
    const std::string close = nearest(name, {known.begin(), known.end()});
    require(known.count(name) > 0, "--only: this scenario times no '{}'{}; it times {}", name,
            close.empty() ? "" : fmt::format(", did you mean {}?", close),
            join({known.begin(), known.end()}));
  }
  const auto unwanted = [&](const PlannedMeasurement& item) {
    return std::find(only.begin(), only.end(), item.name) == only.end();
  };
  plan.erase(std::remove_if(plan.begin(), plan.end(), unwanted), plan.end());
}

}  // namespace

std::string PlannedMeasurement::key() const {
  return fmt::format("{}{}{} sms={}", name, shape.empty() ? "" : " ", shape, sms);
}

std::vector<PlannedMeasurement> measurement_plan(const Scenario& scenario,
                                                 const KernelMachine& machine,
                                                 const PlanOptions& options) {
  std::vector<PlannedMeasurement> out = Planner(scenario, machine, options.gpus).plan();
  keep_only(out, options.only);
  return out;
}

}  // namespace pipecast
