/// Published and measured values to compare predictions with: validate/published.yaml.
#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "model/arithmetic/gqa_model.hpp"

namespace pipecast {

struct PublishedValue {
  std::string quantity;  ///< for people, with the definition where there are several
  std::string unit;      ///< a name of unit_size()
  double published = 0;  ///< in that unit
  std::string kind;      ///< exact, measured, derived
  std::string predict;   ///< name of the prediction that stands beside it
  std::string source;
};

struct PublishedValues {
  std::map<std::string, GqaModel> dense_models;
  std::vector<PublishedValue> values;
};

/// @throws Error "file:line:column: path: what is wrong"
PublishedValues load_published(const std::filesystem::path& path);

/// How many of the base unit (parameters, FLOP, bytes, hours, dollars, ...) one `unit` is.
/// @throws Error that lists the known units
double unit_size(const std::string& unit);

/// The folder validate/ of the source tree that the program was built from.
std::filesystem::path validation_directory();

}  // namespace pipecast
