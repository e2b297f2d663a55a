#include "model/memory/persistent_memory.hpp"

#include <algorithm>
#include <map>
#include <set>

#include "base/error.hpp"
#include "model/memory/stored_weights.hpp"
#include "model/operations/operation.hpp"

namespace pipecast {

namespace {

int count_holders(const Schedule& schedule, int stage) {
  std::set<std::size_t> ranks;
  for (const std::vector<int>& stages : schedule.stage_of) {
    for (std::size_t rank = 0; rank < stages.size(); ++rank) {
      if (stages[rank] == stage) ranks.insert(rank);
    }
  }
  return static_cast<int>(ranks.size());
}

/// Collects the tensors of one rank.
class Collector {
 public:
  Collector(const Scenario& scenario, const PlanSpec& plan, bool trains, std::int64_t lanes)
      : scenario_(scenario), model_(scenario.model), plan_(plan), trains_(trains), lanes_(lanes) {}

  PersistentMemory run(const std::vector<HeldStage>& stages) {
    for (const HeldStage& held : stages) add_stage(held);
    add_embedding_copy(stages);
    add_messages();
    return std::move(out_);
  }

 private:
  [[nodiscard]] const std::vector<LayerKind>& layers(int stage) const {
    return plan_.pipeline_layout.at(static_cast<std::size_t>(stage));
  }

  void add_stage(const HeldStage& held) {
    const ReplicaGroups groups = replica_groups(scenario_, plan_, held.holders);
    const HeldParameters p = parameters_of_stage(model_, layers(held.stage), plan_.ep);
    out_.parameters += p.total();
    add_weights(held.stage, groups);
    if (!trains_) return;
    struct Names {
      std::string_view replicated;
      std::string_view experts;
    };
    const auto flat = [&](MemoryCategory category, const Names& names, Precision precision,
                          bool sharded, std::string_view reason) {
      const auto one = [&](std::string_view name, std::int64_t count, std::int64_t replicas,
                           std::string_view of) {
        add({.name = name,
             .stage = held.stage,
             .category = category,
             .precision = precision,
             .rows = count,
             .rows_are = of,
             .shards = sharded ? replicas : 1,
             .reason = reason});
      };
      one(names.replicated, p.replicated(), groups.replicated, "replicated parameters");
      one(names.experts, p.expert, groups.experts, "parameters of experts");
    };
    const PrecisionSpec& precision = plan_.precision;
    flat(MemoryCategory::kGradients, {"gradients", "expert_gradients"}, precision.gradients,
         plan_.zero_stage >= 2, "sums over micro-batches");
    on_host_ = plan_.memory.optimizer == MemoryPlace::kHost;
    const bool sharded = plan_.zero_stage >= 1;
    flat(MemoryCategory::kOptimizer, {"master_weights", "expert_master_weights"},
         precision.master_weights, sharded, "what AdamW updates");
    flat(MemoryCategory::kOptimizer, {"first_moment", "expert_first_moment"}, precision.moments,
         sharded, "AdamW's mean of gradients");
    flat(MemoryCategory::kOptimizer, {"second_moment", "expert_second_moment"}, precision.moments,
         sharded, "AdamW's mean of their squares");
    on_host_ = plan_.memory.ema == MemoryPlace::kHost;
    if (plan_.memory.ema != MemoryPlace::kNowhere) {
      flat(MemoryCategory::kOptimizer, {"ema", "expert_ema"}, Precision::kFp32, sharded,
           "moving average of the parameters");
    }
    on_host_ = false;
  }

  /// Tensors of equal layers together.
  void add_weights(int stage, const ReplicaGroups& groups) {
    std::map<LayerKind, std::int64_t> counts;
    for (const LayerKind kind : layers(stage)) ++counts[kind];
    // The MTP module's head is the main model's, used a second time.
    if (counts.count(LayerKind::kHead) > 0) counts[LayerKind::kHead] = 1;
    const bool sharded = plan_.zero_stage >= 3;
    std::int64_t dense_scales = 0;
    std::int64_t expert_scales = 0;
    for (const auto& [kind, layers] : counts) {
      for (const ParameterTensor& t : parameters_of(model_, kind)) {
        const bool expert = t.role == TensorRole::kExpert;
        const bool linear = expert || t.role == TensorRole::kLinear;
        const std::int64_t copies = layers * (expert ? t.copies / plan_.ep : t.copies);
        if (linear) (expert ? expert_scales : dense_scales) += copies * scale_blocks(t);
        add({.name = t.name,
             .layer = kind,
             .stage = stage,
             .category = MemoryCategory::kWeights,
             .precision = linear ? plan_.precision.gemm : Precision::kBf16,
             .rows = t.rows,
             .columns = t.columns,
             .rows_are = "outputs",
             .columns_are = "inputs",
             .copies = copies,
             .copies_are = expert ? "layers x local experts" : "layers",
             .shards = sharded ? (expert ? groups.experts : groups.replicated) : 1,
             .reason = "operand of products, as they read it"});
      }
    }
    if (plan_.precision.gemm != Precision::kFp8) return;
    const auto scales = [&](std::int64_t count, std::int64_t replicas, std::string_view of) {
      add({.name = "weight_scales",
           .stage = stage,
           .category = MemoryCategory::kWeights,
           .precision = Precision::kFp32,
           .rows = count,
           .rows_are = of,
           .shards = sharded ? replicas : 1,
           .reason = "one per 128 x 128 FP8 weights"});
    };
    scales(dense_scales, groups.replicated, "blocks of linear layers");
    scales(expert_scales, groups.experts, "blocks of experts");
  }

  /// For use only; the embedding's stage updates it.
  void add_embedding_copy(const std::vector<HeldStage>& stages) {
    std::set<LayerKind> kinds;
    for (const HeldStage& held : stages) {
      kinds.insert(layers(held.stage).begin(), layers(held.stage).end());
    }
    const bool used = kinds.count(LayerKind::kMtp) > 0 ||
                      (model_.tie_word_embeddings && kinds.count(LayerKind::kHead) > 0);
    if (!used || kinds.count(LayerKind::kEmbedding) > 0) return;
    out_.parameters += model_.vocab_size * model_.hidden_size;
    MemoryTensor copy{.name = "embedding_copy",
                      .category = MemoryCategory::kWeights,
                      .precision = Precision::kBf16,
                      .rows = model_.vocab_size,
                      .columns = model_.hidden_size,
                      .rows_are = "vocab_size",
                      .columns_are = "hidden_size",
                      .reason = "used here, held by the first stage"};
    add(copy);
    if (!trains_) return;
    copy.name = "embedding_copy_gradients";
    copy.category = MemoryCategory::kGradients;
    copy.precision = plan_.precision.gradients;
    copy.reason = "sums over micro-batches, for the first stage";
    add(copy);
  }

  void add_messages() {
    if (plan_.pp == 1) return;
    add({.name = "pipeline_messages",
         .category = MemoryCategory::kCommunication,
         .precision = plan_.precision.pipeline_transfer,
         .rows = plan_.micro_batch_size * scenario_.recipe.seq_length,
         .columns = model_.hidden_size,
         .rows_are = "tokens",
         .columns_are = "hidden_size",
         .copies = lanes_ * (trains_ ? 4 : 2),
         .copies_are = trains_ ? "lanes x (activation, gradient) x (in, out)" : "lanes x (in, out)",
         .reason = "a message in and one out per lane and direction"});
  }

  void add(MemoryTensor tensor) {
    const std::int64_t elements = tensor.rows * tensor.columns * tensor.copies;
    if (elements == 0) return;
    // Weights have their scales in a tensor of their own; messages have them in their rows.
    tensor.scaled = tensor.category == MemoryCategory::kCommunication;
    tensor.bytes = tensor.scaled
                       ? tensor.copies * stored_bytes(tensor.precision, tensor.rows, tensor.columns)
                       : plain_bytes(tensor.precision, ceil_div(elements, tensor.shards));
    (on_host_ ? out_.on_host : out_.tensors).push_back(tensor);
  }

  const Scenario& scenario_;
  const ModelSpec& model_;
  const PlanSpec& plan_;
  bool trains_;
  std::int64_t lanes_;
  bool on_host_ = false;
  PersistentMemory out_;
};

}  // namespace

std::vector<HeldStage> held_stages(const Schedule& schedule, int rank) {
  std::vector<HeldStage> out;
  std::set<int> counted;
  for (const std::vector<int>& stages : schedule.stage_of) {
    const int stage = stages.at(static_cast<std::size_t>(rank));
    if (counted.insert(stage).second) out.push_back({stage, count_holders(schedule, stage)});
  }
  return out;
}

ReplicaGroups replica_groups(const Scenario& scenario, const PlanSpec& plan, int holders) {
  const int data_parallel = scenario.cluster.gpus() / (plan.tp * plan.cp * plan.pp);
  require(data_parallel > 0 && data_parallel % plan.ep == 0,
          "{} data-parallel ranks are not a multiple of ep={}", data_parallel, plan.ep);
  const std::int64_t replicas = std::int64_t{holders} * data_parallel;
  return {replicas, replicas / plan.ep};
}

PersistentMemory persistent_memory(const Scenario& scenario, const PlanSpec& plan,
                                   const Schedule& schedule, int rank) {
  Collector collector(scenario, plan, has_backward(schedule), schedule.lanes());
  return collector.run(held_stages(schedule, rank));
}

}  // namespace pipecast
