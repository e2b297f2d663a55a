#include "model/memory/layer_memory.hpp"

#include "base/units.hpp"
#include "model/arithmetic/parameters.hpp"
#include "model/memory/stored_weights.hpp"

namespace pipecast {

namespace {

struct PhaseWork {
  Phase phase;
  Bundle bundle;
  std::string_view name;
};
constexpr PhaseWork kWorks[] = {
    {Phase::kAttentionForward, Bundle::kAttentionForwardWork, "attn(F)_work"},
    {Phase::kMlpForward, Bundle::kMlpForwardWork, "mlp(F)_work"},
    {Phase::kMlpBackward, Bundle::kMlpBackwardWork, "mlp(B)_work"},
    {Phase::kAttentionBackward, Bundle::kAttentionBackwardWork, "attn(B)_work"},
    {Phase::kMlpWeight, Bundle::kMlpWeightWork, "mlp(W)_work"},
    {Phase::kAttentionWeight, Bundle::kAttentionWeightWork, "attn(W)_work"},
};

bool is_weight_phase(Phase phase) {
  return phase == Phase::kMlpWeight || phase == Phase::kAttentionWeight;
}

/// Weight gradients add to accumulators, which are counted as gradients.
bool accumulates(const Operation& o, Phase phase) {
  return (is_weight_phase(phase) && is_product(o)) || o.op == "gate_gemm_wgrad" ||
         o.op == "embedding_grad";
}

/// Operands and results beyond weights and accumulators, which have categories of their own.
struct Transient {
  Bytes operands;
  Bytes results;
  [[nodiscard]] Bytes bytes() const { return operands + results; }
};

Transient transient(const Operation& o, Phase phase) {
  if (accumulates(o, phase)) return {o.read - o.written, Bytes()};
  if (is_product(o)) return {stored_bytes(o.precision, o.m, o.k), o.written};
  return {o.read, o.written};
}

MemoryTensor tensor_of(const Operation& o, std::string_view name, LayerKind kind,
                       MemoryCategory category, const Transient& held, std::string_view reason) {
  return {.name = name,
          .layer = kind,
          .category = category,
          .precision = o.precision,
          .rows = o.m,
          .columns = o.n,
          .reason = reason,
          .operands = held.operands,
          .results = held.results,
          .bytes = held.bytes()};
}

class Builder {
 public:
  Builder(const ModelSpec& model, const PlanSpec& plan, LayerKind kind, const LayerLoad& load)
      : model_(model),
        plan_(plan),
        kind_(kind),
        load_(load),
        operations_(layer_operations(model, plan, kind, load)) {}

  LayerMemory run() {
    add_kept(operations_.kept, Bundle::kAttentionKept, Bundle::kMlpKept);
    add_kept(operations_.replayed, Bundle::kAttentionReplayed, Bundle::kMlpReplayed);
    for (const PhaseWork& work : kWorks) add_work(work);
    add_operands(Phase::kMlpWeight, Bundle::kMlpOperands);
    add_operands(Phase::kAttentionWeight, Bundle::kAttentionOperands);
    if (load_.ep > 1 && load_.local_experts > 0 && routed()) add_exchanges();
    add_parameters();
    return std::move(out_);
  }

 private:
  [[nodiscard]] bool routed() const { return kind_ == LayerKind::kMoe || kind_ == LayerKind::kMtp; }

  void add_kept(const std::vector<KeptTensor>& kept, Bundle attention, Bundle mlp) {
    for (const KeptTensor& t : kept) {
      out_.add(t.made_in == Phase::kAttentionForward ? attention : mlp,
               {.name = t.name,
                .layer = kind_,
                .category = MemoryCategory::kActivations,
                .precision = t.precision,
                .rows = t.rows,
                .columns = t.columns,
                .rows_are = name_of(t.rows_are),
                .columns_are = t.columns_are,
                .reason = t.reason,
                .scaled = true,
                .bytes = t.bytes});
    }
  }

  void add_work(const PhaseWork& work) {
    const Operation* largest = nullptr;
    Transient most;
    for (const Operation& o : operations_.at(work.phase)) {
      // Operands of weight gradients are there before their phase.
      const Transient held = is_weight_phase(work.phase) && accumulates(o, work.phase)
                                 ? Transient{}
                                 : transient(o, work.phase);
      if (held.bytes() <= most.bytes()) continue;
      most = held;
      largest = &o;
    }
    if (largest == nullptr) return;
    out_.add(work.bundle, tensor_of(*largest, work.name, kind_, MemoryCategory::kWorkspace, most,
                                    "operands and results of the phase's largest kernel"));
  }

  void add_operands(Phase phase, Bundle bundle) {
    for (const Operation& o : operations_.at(phase)) {
      if (!accumulates(o, phase)) continue;
      const Transient held = transient(o, phase);
      if (held.bytes() > Bytes()) {
        out_.add(bundle,
                 tensor_of(o, o.label.empty() ? o.op : o.label, kind_, MemoryCategory::kActivations,
                           held, "operands of the weight gradient"));
      }
    }
  }

  void add_exchanges() {
    const PrecisionSpec& p = plan_.precision;
    const auto buffer = [&](Bundle bundle, std::string_view name, Precision precision,
                            std::string_view reason) {
      out_.add(bundle,
               {.name = name,
                .layer = kind_,
                .category = MemoryCategory::kCommunication,
                .precision = precision,
                .rows = load_.received_tokens,
                .columns = model_.hidden_size,
                .rows_are = name_of(RowKind::kReceived),
                .columns_are = "hidden_size",
                .reason = reason,
                .scaled = true,
                .bytes = stored_bytes(precision, load_.received_tokens, model_.hidden_size)});
    };
    buffer(Bundle::kDispatched, "dispatched_tokens", p.dispatch, "from dispatch to permutation");
    buffer(Bundle::kCombining, "results_to_combine", p.combine, "from the experts to combine");
    buffer(Bundle::kDispatchedGradient, "dispatched_gradients", p.dispatch,
           "of combine's results, from their owners");
    buffer(Bundle::kCombiningGradient, "gradients_to_combine", p.combine,
           "of dispatched tokens, back to their owners");
  }

  void add_parameters() {
    const HeldParameters held = parameters_of_stage(model_, {kind_}, plan_.ep);
    if (plan_.zero_stage >= 3) {
      const std::int64_t linear = held.dense + held.expert;
      add_flat(Bundle::kGatheredWeights, "gathered_weights", plan_.precision.gemm, linear,
               "linear layers and experts, from all shards");
      add_flat(Bundle::kGatheredWeights, "gathered_weights", Precision::kBf16, held.high_precision,
               "norms, gate, embedding, head, from all shards");
      if (plan_.precision.gemm == Precision::kFp8) {
        std::int64_t scales = 0;
        for (const ParameterTensor& t : parameters_of(model_, kind_)) {
          const bool expert = t.role == TensorRole::kExpert;
          if (!expert && t.role != TensorRole::kLinear) continue;
          scales += (expert ? t.copies / plan_.ep : t.copies) * scale_blocks(t);
        }
        add_flat(Bundle::kGatheredWeights, "gathered_scales", Precision::kFp32, scales,
                 "one per 128 x 128 FP8 weights");
      }
    }
    if (plan_.zero_stage >= 2) {
      add_flat(Bundle::kWholeGradients, "whole_gradients", plan_.precision.gradients, held.total(),
               "of one micro-batch, until they are reduced to shards");
    }
  }

  void add_flat(Bundle bundle, std::string_view name, Precision precision, std::int64_t count,
                std::string_view reason) {
    if (count == 0) return;
    out_.add(bundle, {.name = name,
                      .layer = kind_,
                      .category = category_of(bundle),
                      .precision = precision,
                      .rows = count,
                      .rows_are = "parameters",
                      .reason = reason,
                      .bytes = plain_bytes(precision, count)});
  }

  const ModelSpec& model_;
  const PlanSpec& plan_;
  LayerKind kind_;
  const LayerLoad& load_;
  LayerOperations operations_;
  LayerMemory out_;
};

}  // namespace

void LayerMemory::add(Bundle bundle, const MemoryTensor& tensor) {
  BundleMemory& to = bundles_[static_cast<std::size_t>(bundle)];
  to.tensors.push_back(tensor);
  to.bytes += tensor.bytes;
  to.rounding += allocated_bytes(tensor.bytes) - tensor.bytes;
}

MemoryCategory category_of(Bundle bundle) {
  switch (bundle) {
    case Bundle::kAttentionKept:
    case Bundle::kMlpKept:
    case Bundle::kAttentionReplayed:
    case Bundle::kMlpReplayed:
    case Bundle::kAttentionOperands:
    case Bundle::kMlpOperands:
      return MemoryCategory::kActivations;
    case Bundle::kDispatched:
    case Bundle::kCombining:
    case Bundle::kDispatchedGradient:
    case Bundle::kCombiningGradient:
      return MemoryCategory::kCommunication;
    case Bundle::kAttentionForwardWork:
    case Bundle::kMlpForwardWork:
    case Bundle::kMlpBackwardWork:
    case Bundle::kAttentionBackwardWork:
    case Bundle::kMlpWeightWork:
    case Bundle::kAttentionWeightWork:
      return MemoryCategory::kWorkspace;
    case Bundle::kGatheredWeights:
      return MemoryCategory::kWeights;
    case Bundle::kWholeGradients:
      return MemoryCategory::kGradients;
  }
  return MemoryCategory::kWorkspace;
}

LayerMemory layer_memory(const ModelSpec& model, const PlanSpec& plan, LayerKind kind,
                         const LayerLoad& load) {
  return Builder(model, plan, kind, load).run();
}

}  // namespace pipecast
