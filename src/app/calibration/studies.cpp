#include "app/calibration/studies.hpp"

#include <set>

#include "app/calibration/study_parts.hpp"
#include "app/forecast/assumptions.hpp"
#include "base/error.hpp"

namespace pipecast {

namespace {

/// Tables of kernels alone. What the H800's do not tell is taken from the H100's.
std::vector<FitStudy> isolated_kernels(const StudyInput& input) {
  const std::vector<FitStudy> on_h100 = {products_on_h100(input), attention_on_h100(input)};
  if (input.gpu().name == "h100") return on_h100;
  CalibrationSpec h100;
  for (const FitStudy& study : on_h100) {
    start_study(study, h100);
    run_study(study, h100);
  }
  FitStudy products = products_on_h800(input, h100);
  products.stated_kernels = evidence_of(on_h100);
  for (KernelEvidence& kernel : products.stated_kernels) {
    kernel.source = "as on H100: " + kernel.source;
  }
  return {std::move(products), attention_forward_on_h800(input, h100),
          attention_decode_on_h800(input)};
}

}  // namespace

std::vector<FitStudy> studies_of(const MeasuredCase& measured,
                                 const std::filesystem::path& traces) {
  const std::string& gpu = measured.cluster.gpu.name;
  require(gpu == "h800" || gpu == "h100", "no tables of kernels on '{}'", gpu);
  const StudyInput input{.measured = measured,
                         .traces = traces,
                         .trace = read_trace(traces / kTraceFile),
                         .traced = traced_kernels(traces, measured.model, measured.plan)};
  std::vector<FitStudy> out = isolated_kernels(input);
  for (FitStudy& study : std::vector<FitStudy>{
           memory_bound(input), launch_gap(input), exchange_kernels(input), nic(input),
           nvlink(input), notification(input), late_peers(input), training_clock(input),
           weight_gradients(input), attention_in_training(input, "attention_fwd"),
           attention_in_training(input, "attention_bwd"),
           transfer_beside(input, {.name = "dispatch",
                                  .constant = &ContentionConstants::dispatch,
                                  .op = "ep_dispatch",
                                  .phase = "dispatch(F)"}),
           transfer_beside(input, {.name = "cached_dispatch",
                                  .constant = &ContentionConstants::cached_dispatch,
                                  .op = "ep_dispatch",
                                  .phase = "combine(B)"}),
           transfer_beside(input, {.name = "combine",
                                  .constant = &ContentionConstants::combine,
                                  .op = "ep_combine"})}) {
    out.push_back(std::move(study));
  }
  return out;
}

FittedCalibration fit_calibration(const std::string& gpu, const std::vector<FitStudy>& studies) {
  FittedCalibration out;
  out.calibration.gpu = gpu;
  std::set<std::string> fitted;
  for (const FitStudy& study : studies) {
    for (const FreeConstant& free : study.constants) {
      require(fitted.insert(free.name).second, "study '{}': '{}' is fitted already", study.name,
              free.name);
    }
    for (const StatedConstant& stated : study.stated) {
      require(fitted.insert(stated.name).second, "study '{}': '{}' is fitted already", study.name,
              stated.name);
    }
    start_study(study, out.calibration);
  }
  for (const NamedConstant& named : constants_of(out.calibration)) {
    require(fitted.count(named.name) > 0, "no study fits '{}'", named.name);
  }
  for (const FitStudy& study : studies) search_study(study, out.calibration);
  for (const FitStudy& study : studies) out.studies.push_back(run_study(study, out.calibration));
  out.calibration.kernels = evidence_of(studies);
  return out;
}

}  // namespace pipecast
