/// What kernels need of one GPU, each distinct kernel once.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "model/operations/operation.hpp"
#include "model/ops/kernel_memo.hpp"
#include "model/ops/training.hpp"
#include "model/routing/balanced.hpp"
#include "model/specs/scenario.hpp"

namespace pipecast {

/// Which SMs a kernel runs on.
enum class SmUse : std::uint8_t {
  kGrid,  ///< those that it was launched for: one thread block each, which stays to the end
  kFree,  ///< all that are free: thread blocks that come and go
  kNone,  ///< none: an engine beside the SMs
};

struct GpuKernel {
  Operation operation;
  SmUse use = SmUse::kFree;
  int grid = 0;           ///< SMs that it was launched for, where that is its way
  bool transfer = false;  ///< dispatch or combine: paced by links, entered by a whole group of GPUs
};

/// A kernel alone on so many SMs: its time, and the bytes that it moves through what kernels share.
struct GpuKernelCost {
  int sms = 0;
  Duration time;
  Duration beside{};  ///< of a transfer: its time with computation beside it
  double hbm_bytes = 0;
  double l2_bytes = 0;          ///< between L2 and the SMs
  double nvlink_bytes = 0;      ///< sent
  double nic_bytes = 0;         ///< sent
  std::string_view limited_by;  ///< tensor, hbm, ..., nic, nvlink, issue
};

/// Kernels of one plan on one GPU of its cluster, in a training step. Not for use by several
/// threads at once.
class KernelTable {
 public:
  /// @param scenario, plan  must outlive the table and not change
  /// @param peers_late      wait in every notification for the last peer; where GPUs are simulated
  ///                        by themselves, their waits follow from that
  KernelTable(const Scenario& scenario, const PlanSpec& plan, const RoutingStatistics& routing,
              Duration peers_late = {});

  KernelTable(const KernelTable&) = delete;
  KernelTable& operator=(const KernelTable&) = delete;

  /// The kernel of an operation; the same for equal operations.
  /// @param split  whether matrix products leave the plan's communication SMs free
  int add(const Operation& operation, bool split);

  [[nodiscard]] const GpuKernel& at(int kernel) const {
    return kernels_[static_cast<std::size_t>(kernel)];
  }
  [[nodiscard]] int size() const { return static_cast<int>(kernels_.size()); }

  /// @param sms  from 1 on; what uses none has the same cost for any number
  /// @returns valid until the next call
  /// @throws Error for what the GPU cannot run
  const GpuKernelCost& cost(int kernel, int sms);

  /// Bytes per second that HBM, L2, NVLink and NIC carry.
  [[nodiscard]] const std::array<double, 4>& links() const { return links_; }
  [[nodiscard]] const Scenario& scenario() const { return scenario_; }
  [[nodiscard]] const PlanSpec& plan() const { return plan_; }

 private:
  struct Key {
    Operation operation;
    bool split = false;
    bool operator==(const Key&) const = default;
  };
  struct Hash {
    std::size_t operator()(const Key& key) const { return hash_of(key.operation); }
  };
  GpuKernelCost fresh_cost(const GpuKernel& kernel, int sms);
  GpuKernelCost transfer_cost(const Operation& operation) const;

  const Scenario& scenario_;
  const PlanSpec& plan_;
  RoutingStatistics routing_;
  Duration peers_late_;
  double balanced_copies_;  ///< of tokens, received by each GPU of the group
  TrainingMachine machine_;
  std::array<double, 4> links_;
  KernelMemo memo_;
  std::unordered_map<Key, int, Hash> known_;
  std::vector<GpuKernel> kernels_;
  std::vector<std::vector<GpuKernelCost>> costs_;  // [kernel], few numbers of SMs each
};

}  // namespace pipecast
