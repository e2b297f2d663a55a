/// Costs of kernels on one GPU, each computed once.
#pragma once

#include <cstddef>
#include <unordered_map>

#include "model/ops/kernel_cost.hpp"

namespace pipecast {

/// Mixes the numbers that tell most kernels apart.
std::size_t hash_of(const Operation& operation);

/// kernel_cost() of one GPU and calibration, remembered by operation and number of SMs. What does
/// not change a kernel's time, its label and its stream, does not tell operations apart. Not for
/// use by several threads at once.
class KernelMemo {
 public:
  /// @param gpu, calibration  must outlive the memo and not change
  KernelMemo(const GpuSpec& gpu, const CalibrationSpec& calibration)
      : gpu_(gpu), calibration_(calibration) {}

  /// @returns the cost, valid as long as the memo
  /// @throws Error as kernel_cost(); failures are not remembered
  const KernelCost& cost(const Operation& operation, int sms);

  /// Different operations and numbers of SMs so far.
  [[nodiscard]] std::size_t size() const { return costs_.size(); }

 private:
  struct Key {
    Operation operation;
    int sms = 0;
    bool operator==(const Key&) const = default;
  };
  struct Hash {
    std::size_t operator()(const Key& key) const {
      return hash_of(key.operation) * 31 + static_cast<std::size_t>(key.sms);
    }
  };

  const GpuSpec& gpu_;
  const CalibrationSpec& calibration_;
  std::unordered_map<Key, KernelCost, Hash> costs_;
};

}  // namespace pipecast
