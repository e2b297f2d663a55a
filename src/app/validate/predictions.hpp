/// Everything that can be compared with a publication, by name.
#pragma once

#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "app/forecast/forecast.hpp"
#include "app/kernel/kernel_table.hpp"
#include "app/validate/published.hpp"
#include "model/fabric/fabric_kind.hpp"

namespace pipecast {

/// What is predicted about.
struct Subjects {
  ModelSpec deepseek_v2;
  Scenario deepseek_v3;  ///< the shipped scenario
  std::map<std::string, GqaModel> dense_models;
};

/// Predictions in base units: parameters, FLOP, bytes, ticks, chunks, GPU hours, days, dollars,
/// fractions, switches, cables, ports. The scenario is simulated (folded) when the first value of
/// the run is asked for.
class Predictions {
 public:
  explicit Predictions(Subjects subjects);
  Predictions(const Predictions&) = delete;  // predictions refer to the subjects held here
  Predictions& operator=(const Predictions&) = delete;

  /// @throws Error with the nearest known name
  [[nodiscard]] double at(const std::string& name);
  [[nodiscard]] std::vector<std::string> names() const;

 private:
  using Prediction = std::function<double()>;
  void add_model(const std::string& name, const ModelSpec& model);
  void add_parameters(const std::string& name, const ModelSpec& model);
  void add_dense_model(const std::string& name, const GqaModel& model);
  void add_schedule(const std::string& name);
  void add_run();
  void add_fabric(const std::string& name, const FabricCount& count);
  const Forecast& run();

  Subjects subjects_;
  std::map<std::string, Prediction> predictions_;
  std::optional<Forecast> run_;
};

/// One line of the comparison.
struct ValidationRow {
  PublishedValue value;
  double predicted = 0;                   ///< in the value's unit
  double error = 0;                       ///< predicted over published, less 1
  std::optional<ErrorSummary> kernels{};  ///< of a table of kernels, whose total the line shows
};

std::vector<ValidationRow> compare(const std::vector<PublishedValue>& values,
                                   Predictions& predictions);

}  // namespace pipecast
