#include "app/forecast/provenance.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "app/forecast/step_operations.hpp"
#include "model/ops/kernel_cost.hpp"

namespace pipecast {

namespace {

const KernelEvidence* find_evidence(const CalibrationSpec& calibration, std::string_view op) {
  const auto same = [&](const KernelEvidence& kernel) { return kernel.operation == op; };
  const auto found = std::find_if(calibration.kernels.begin(), calibration.kernels.end(), same);
  return found == calibration.kernels.end() ? nullptr : &*found;
}

Provenance entry(std::string_view operation, Evidence kind, std::string source) {
  return {std::string(operation), std::string(name_of(kind)), std::move(source)};
}

Provenance provenance_of_kernel(std::string_view op, const Scenario& scenario) {
  const CalibrationSpec& calibration = scenario.calibration;
  const Constant& constant = Registry<KernelKind>::instance().find(op).constant(calibration);
  const KernelEvidence* const timed = find_evidence(calibration, op);
  if (timed == nullptr) {
    return entry(op, Evidence::kModelled,
                 "no times of its own are fitted; its constant: " + constant.source);
  }
  if (calibration.gpu != scenario.cluster.gpu.name) {
    return entry(op, Evidence::kModelled,
                 fmt::format("timed on {}, not on {}: {}", calibration.gpu,
                             scenario.cluster.gpu.name, timed->source));
  }
  const Evidence kind = std::max(timed->kind, constant.kind);
  if (kind == timed->kind) return entry(op, kind, timed->source);
  return entry(op, kind,
               fmt::format("{}, but its constant is {}: {}", timed->source, name_of(constant.kind),
                           constant.source));
}

}  // namespace

std::vector<Provenance> provenance_of(const Scenario& scenario, const PlanSpec& plan) {
  std::set<std::string_view> kinds;
  for (const Operation& operation : step_operations(scenario, plan, 1)) kinds.insert(operation.op);
  std::vector<Provenance> out;
  for (const std::string_view op : kinds) out.push_back(provenance_of_kernel(op, scenario));
  const std::string& link = scenario.calibration.link.nic.source;
  const auto transfer = [&](std::string_view name, const std::string& model) {
    out.push_back(entry(name, Evidence::kModelled, model + "; link efficiency: " + link));
  };
  if (plan.pp > 1) transfer("pipeline_transfer", "message size over the NIC's bandwidth");
  if (scenario.cluster.gpus() > plan.tp * plan.cp * plan.pp) {
    transfer("reduce_scatter", "hierarchical ring, bytes over bandwidth");
    transfer("all_gather", "hierarchical ring, bytes over bandwidth");
  }
  return out;
}

std::string provenance_text(const std::vector<Provenance>& provenance) {
  std::string out;
  for (const Evidence kind : {Evidence::kCalibrated, Evidence::kPublic, Evidence::kModelled}) {
    const auto of_kind = [kind](const Provenance& p) { return p.kind == name_of(kind); };
    const auto count = std::count_if(provenance.begin(), provenance.end(), of_kind);
    if (count == 0) continue;
    out += fmt::format("{}{} {}", out.empty() ? "" : ", ", count, name_of(kind));
  }
  return out;
}

}  // namespace pipecast
