#include "model/memory/rank_memory.hpp"

#include <algorithm>
#include <set>

#include "base/error.hpp"
#include "model/operations/launch_list.hpp"
#include "model/operations/layer_operations.hpp"
#include "model/schedules/live_chunks.hpp"

namespace pipecast {

namespace {

constexpr std::int64_t kBlockElements = 128 * 128;  // weights that share one FP8 scale
constexpr std::int64_t kScaleBytes = 4;

Bytes elements(Precision p, std::int64_t count) {
  return Bytes(static_cast<std::int64_t>(bytes_per_element(p) * static_cast<double>(count)));
}

Bytes weight_bytes(Precision gemm, const HeldParameters& held) {
  const std::int64_t multiplied = held.dense + held.expert;
  Bytes out = elements(gemm, multiplied) + elements(Precision::kBf16, held.high_precision);
  if (gemm == Precision::kFp8) out += Bytes(ceil_div(multiplied, kBlockElements) * kScaleBytes);
  return out;
}

bool is_weight_phase(Phase phase) {
  return phase == Phase::kMlpWeight || phase == Phase::kAttentionWeight;
}

bool is_forward_phase(Phase phase) { return phase <= Phase::kCombineForward; }

/// Weight gradients add to accumulators, which are counted as gradients.
bool accumulates(const Operation& o, Phase phase) {
  return (is_weight_phase(phase) && is_product(o)) || o.op == "gate_gemm_wgrad" ||
         o.op == "embedding_grad";
}

/// Operands and results beyond weights and accumulators, which have categories of their own.
Bytes transient(const Operation& o, Phase phase) {
  if (accumulates(o, phase)) return o.read - o.written;
  if (is_product(o)) return stored_bytes(o.precision, o.m, o.k) + o.written;
  return o.read + o.written;
}

int count_holders(const Schedule& schedule, int stage) {
  std::set<std::size_t> ranks;
  for (const std::vector<int>& stages : schedule.stage_of) {
    for (std::size_t rank = 0; rank < stages.size(); ++rank) {
      if (stages[rank] == stage) ranks.insert(rank);
    }
  }
  return static_cast<int>(ranks.size());
}

std::vector<HeldStage> held_stages(const Schedule& schedule, std::size_t rank) {
  std::vector<HeldStage> out;
  for (const std::vector<int>& stages : schedule.stage_of) {
    out.push_back({.stage = stages[rank], .holders = count_holders(schedule, stages[rank])});
  }
  return out;
}

}  // namespace

MemoryAccount::MemoryAccount(const Scenario& scenario, const PlanSpec& plan)
    : model_(scenario.model),
      plan_(plan),
      data_parallel_(scenario.cluster.gpus() / (plan.tp * plan.cp * plan.pp)) {
  require(plan.zero_stage == 0 || plan.zero_stage == 1,
          "zero_stage {} is not modelled; it is 0 or 1", plan.zero_stage);
  require(data_parallel_ > 0 && data_parallel_ % plan.ep == 0,
          "{} data-parallel ranks are not a multiple of ep={}", data_parallel_, plan.ep);
  const LayerLoad load = balanced_load(model_, plan, scenario.recipe.seq_length);
  tokens_ = load.tokens;
  received_tokens_ = load.received_tokens;
  for (const std::vector<LayerKind>& stage : plan.pipeline_layout) {
    for (const LayerKind kind : stage) {
      if (layers_.count(kind) > 0) continue;
      const LayerOperations operations = layer_operations(model_, plan, kind, load);
      Layer& layer = layers_[kind];
      for (const KeptTensor& tensor : operations.kept) layer.kept += tensor.bytes;
      for (std::size_t i = 0; i < kPhases; ++i) {
        const auto phase = static_cast<Phase>(i);
        Bytes& largest =
            is_forward_phase(phase) ? layer.forward_transient : layer.backward_transient;
        for (const Operation& o : operations.at(phase)) {
          largest = std::max(largest, transient(o, phase));
          if (is_weight_phase(phase) && accumulates(o, phase)) {
            layer.weight_operands += transient(o, phase);
          }
        }
      }
    }
  }
}

RankMemory MemoryAccount::of_rank(const std::vector<HeldStage>& stages) const {
  RankMemory out;
  std::set<int> counted;  // both directions of the middle rank of an odd pipeline share a stage
  for (const HeldStage& held : stages) {
    out.activations += activations(held);
    if (!counted.insert(held.stage).second) continue;
    add_parameters(out, parameters_of_stage(model_, layers(held.stage), plan_.ep), held.holders);
  }
  const HeldParameters copy = embedding_copy(stages);
  // For use only; the embedding's stage updates it.
  out.parameters += copy.total();
  out.weights += weight_bytes(plan_.precision.gemm, copy);
  out.gradients += elements(plan_.precision.gradients, copy.total());
  out.communication = communication(stages);
  out.workspace = workspace(stages);
  return out;
}

Bytes MemoryAccount::activations(const HeldStage& held) const {
  Bytes out;
  for (const LayerKind kind : layers(held.stage)) {
    const Layer& layer = layers_.at(kind);
    out += held.live_chunks * layer.kept + held.deferred_weights * layer.weight_operands;
  }
  return out;
}

HeldParameters MemoryAccount::embedding_copy(const std::vector<HeldStage>& stages) const {
  std::set<LayerKind> kinds;
  for (const HeldStage& held : stages) {
    kinds.insert(layers(held.stage).begin(), layers(held.stage).end());
  }
  const bool uses_embedding = kinds.count(LayerKind::kMtp) > 0 ||
                              (model_.tie_word_embeddings && kinds.count(LayerKind::kHead) > 0);
  HeldParameters out;
  if (uses_embedding && kinds.count(LayerKind::kEmbedding) == 0) {
    out.high_precision = model_.vocab_size * model_.hidden_size;
  }
  return out;
}

void MemoryAccount::add_parameters(RankMemory& out, const HeldParameters& held, int holders) const {
  const PrecisionSpec& p = plan_.precision;
  out.parameters += held.total();
  out.weights += weight_bytes(p.gemm, held);
  out.gradients += elements(p.gradients, held.total());

  const bool sharded = plan_.zero_stage == 1;
  const std::int64_t replicas = sharded ? std::int64_t{holders} * data_parallel_ : 1;
  const std::int64_t expert_replicas = sharded ? replicas / plan_.ep : 1;
  const std::int64_t shard =
      ceil_div(held.replicated(), replicas) + ceil_div(held.expert, expert_replicas);
  out.optimizer += elements(p.master_weights, shard) + 2 * elements(p.moments, shard);
}

Bytes MemoryAccount::communication(const std::vector<HeldStage>& stages) const {
  constexpr std::int64_t kExchangesAtOnce = 2;   // a forward's and a backward's
  constexpr std::int64_t kMessagesPerStage = 4;  // activation and gradient, in and out
  const PrecisionSpec& p = plan_.precision;
  Bytes out;
  if (plan_.ep > 1) {
    out += kExchangesAtOnce * (stored_bytes(p.dispatch, received_tokens_, model_.hidden_size) +
                               stored_bytes(p.combine, received_tokens_, model_.hidden_size));
  }
  if (plan_.pp > 1) {
    out += static_cast<std::int64_t>(stages.size()) * kMessagesPerStage *
           stored_bytes(p.pipeline_transfer, tokens_, model_.hidden_size);
  }
  return out;
}

Bytes MemoryAccount::workspace(const std::vector<HeldStage>& stages) const {
  Bytes forward;
  Bytes backward;
  for (const HeldStage& held : stages) {
    for (const LayerKind kind : layers(held.stage)) {
      forward = std::max(forward, layers_.at(kind).forward_transient);
      backward = std::max(backward, layers_.at(kind).backward_transient);
    }
  }
  return forward + backward;
}

std::vector<RankMemory> memory_of_ranks(const Scenario& scenario, const PlanSpec& plan,
                                        const Schedule& schedule) {
  const MemoryAccount account(scenario, plan);
  const bool trains = has_backward(schedule);
  std::vector<RankMemory> out;
  for (std::size_t rank = 0; rank < schedule.ranks.size(); ++rank) {
    LiveChunks chunks(schedule.lanes(), !trains);
    std::vector<HeldStage> held = held_stages(schedule, rank);
    std::vector<HeldStage> peak = held;
    Bytes most(-1);
    for (const Step& step : schedule.ranks[rank]) {
      chunks.start(step);
      Bytes now;
      for (std::size_t lane = 0; lane < held.size(); ++lane) {
        held[lane].live_chunks = chunks.lanes()[lane].live;
        held[lane].deferred_weights = chunks.lanes()[lane].deferred_weights;
        now += account.activations(held[lane]);
      }
      if (now > most) {
        most = now;
        peak = held;
      }
      chunks.finish(step);
    }
    RankMemory& memory = out.emplace_back(account.of_rank(peak));
    if (!trains) memory.gradients = memory.optimizer = Bytes();
  }
  return out;
}

}  // namespace pipecast
