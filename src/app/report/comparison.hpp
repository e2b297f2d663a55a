/// Two results of this program side by side: what was asked differently, and what came out
/// different.
#pragma once

#include <cstddef>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

namespace pipecast {

/// Where a value stands in a result.
struct ResultPath {
  std::string key;     ///< "step.ranks[3].time_s", "critical_path[gemm_fp8, tensor, 3].seconds"
  std::string family;  ///< the same for every pipeline rank: "step.ranks[*].time_s"
};

/// Something asked differently: an input, a text, a switch, or values of different kinds.
struct SettingChange {
  ResultPath path;
  nlohmann::json a;
  nlohmann::json b;
};

/// A number that both results have.
struct NumberChange {
  ResultPath path;
  nlohmann::json a;
  nlohmann::json b;
  double difference = 0;           ///< b - a; infinite beyond a double's range
  std::optional<double> relative;  ///< (b - a) / |a|; none for a = 0 and beyond a double's range
  /// |b - a| over the largest value with the same unit in the same section (step, run, network,
  /// ...) of both results; without a unit in its name, among its siblings. So 300 % of a nanosecond
  /// comes after 5 % of the step, and bytes of the network do not hide bytes of memory.
  double weight = 0;
};

struct Comparison {
  std::vector<SettingChange> settings;    ///< config first, then by key
  std::vector<NumberChange> headline;     ///< of a run, as far as both have them; equal ones too
  std::vector<NumberChange> differences;  ///< unequal numbers by falling weight, then by key
  std::vector<ResultPath> only_a;         ///< by key; of a branch only its root
  std::vector<ResultPath> only_b;
  std::size_t numbers = 0;  ///< that both have, inputs aside

  [[nodiscard]] bool identical() const {
    return settings.empty() && differences.empty() && only_a.empty() && only_b.empty();
  }
};

/// Compares value by value. Elements of a list that say what they are (by name, key, quantity,
/// operation, resource, pipeline rank) are matched by that, others by position. `version` and
/// `simulator` are not compared: they tell of the program, not of the simulated machine.
/// @param a, b  objects, as any command writes them with --json
Comparison compare_results(const nlohmann::json& a, const nlohmann::json& b);

}  // namespace pipecast
