#include "app/report/memory_report.hpp"
#include "app/report/result_json.hpp"

namespace pipecast {

namespace {

using Json = nlohmann::ordered_json;

Json tensor_json(const TensorGroup& group) {
  const MemoryTensor& t = group.tensor;
  Json out = {{"name", t.name},
              {"bytes", group.bytes.count()},
              {"precision", name_of(t.precision)},
              {"category", name_of(t.category)}};
  if (t.layer) out["layer"] = name_of(*t.layer);
  if (t.stage >= 0) out["stage"] = t.stage;
  if (t.position >= 0) out["position"] = t.position;
  const bool one_tensor = t.operands + t.results == Bytes();
  if (one_tensor) {
    out["rows"] = t.rows;
    if (!t.rows_are.empty()) out["rows_are"] = t.rows_are;
    out["columns"] = t.columns;
    if (!t.columns_are.empty()) out["columns_are"] = t.columns_are;
  } else {
    out["operands_bytes"] = t.operands.count();
    out["results_bytes"] = t.results.count();
  }
  out["copies"] = group.copies;
  if (!t.copies_are.empty()) out["copies_are"] = t.copies_are;
  if (t.shards > 1) out["shards"] = t.shards;
  out["reason"] = t.reason;
  return out;
}

Json tensors_json(const std::vector<MemoryTensor>& tensors) {
  Json out = Json::array();
  for (const TensorGroup& group : tensor_groups(tensors, true)) out.push_back(tensor_json(group));
  return out;
}

}  // namespace

nlohmann::ordered_json memory_json(const MemoryAnswer& answer) {
  const MemoryStudy& study = answer.study;
  Json out = {{"capacity_bytes", study.capacity.count()},
              {"fits", study.fits()},
              {"fullest_rank", study.memory.fullest()},
              {"step",
               {{"time_s", to_seconds(study.step.times.time)},
                {"schedule", study.step.schedule},
                {"micro_batches", study.step.microbatches}}}};
  Json ranks = Json::array();
  for (int rank = 0; rank < study.memory.ranks(); ++rank) {
    const StepMemory::Peak& peak = study.memory.peak(rank);
    const PersistentMemory& persistent = study.memory.persistent(rank);
    Bytes host;
    for (const MemoryTensor& t : persistent.on_host) host += t.bytes;
    Json one = {{"pipeline_rank", rank},
                {"peak_bytes", peak.totals.total().count()},
                {"peak_time_s", to_seconds(peak.when)},
                {"peak_step", doing_at_peak(study, rank)},
                {"categories", totals_json(peak.totals, study.capacity)},
                {"tensors", tensors_json(study.memory.tensors_at_peak(rank))},
                {"host_bytes", host.count()},
                {"host_tensors", tensors_json(persistent.on_host)}};
    ranks.push_back(std::move(one));
  }
  out["ranks"] = std::move(ranks);
  return out;
}

}  // namespace pipecast
