/// What `pipecast calibrate` times, and what the simulator says of each beforehand.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "app/calibrate/extents.hpp"
#include "app/kernel/kernel_machine.hpp"
#include "model/specs/scenario.hpp"

namespace pipecast {

/// Which study of the fit a measurement belongs to.
enum class MeasuredFamily : std::uint8_t {
  kProducts,
  kAttention,
  kMemory,     ///< kernels that move memory, copies, an empty kernel
  kLaunchGap,  ///< what a kernel waits for after the one before it
  kClock,      ///< that the chip holds under lasting load
  kNvlink,
  kExchange,  ///< dispatch and combine
  kMachine,   ///< shown beside the GPU's description; no constant of a calibration
};

/// One thing to time.
struct PlannedMeasurement {
  std::string name{};                  ///< an operation, or a probe: "probe_l2_read"
  std::vector<NamedExtent> extents{};  ///< as the kernel's options
  std::string shape{};                 ///< shape_text(extents)
  int sms = 0;
  int gpus = 1;        ///< that have to be there
  std::string used{};  ///< where the layer has it: "q_b, kv_b"
  std::string unit = "us";
  MeasuredFamily family{};
  /// The simulator's word, in `unit`: of an operation, what `pipecast kernel` says.
  std::function<double(const CalibrationSpec&)> predict{};

  /// "gemm_fp8 m=4096 n=7168 k=2048 sms=132": what tables are searched for.
  [[nodiscard]] std::string key() const;
};

/// Probes: what no operation of a layer times by itself.
inline constexpr std::string_view kEmptyKernel = "probe_empty_kernel";
inline constexpr std::string_view kLaunchChain = "probe_launch_chain";
inline constexpr std::string_view kL2Read = "probe_l2_read";
inline constexpr std::string_view kClockUnderLoad = "probe_clock";
inline constexpr std::string_view kPeerCopy = "probe_peer_copy";
inline constexpr std::string_view kNcclAllToAll = "probe_nccl_all_to_all";

struct PlanOptions {
  int gpus = 1;                     ///< of the machine that may be used
  std::vector<std::string> only{};  ///< names; empty: everything
};

/// First the probes, then every distinct launch of the scenario's step on all SMs, on those that
/// communication leaves, and on those of communication. Launches that no options make are left out
/// (extents_of).
/// @param scenario  of which model and plan are used; shapes as at balanced routing
/// @param machine   must outlive the plan
/// @throws Error for a name in `only` that nothing of the plan has, naming the nearest
std::vector<PlannedMeasurement> measurement_plan(const Scenario& scenario,
                                                 const KernelMachine& machine,
                                                 const PlanOptions& options);

}  // namespace pipecast
