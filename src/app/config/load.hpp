/// From scenario files to the structs of src/model/specs, and back: all that the commands use.
#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "app/config/files.hpp"
#include "app/config/node.hpp"
#include "model/schedules/schedule.hpp"
#include "model/specs/scenario.hpp"

namespace pipecast {

struct LoadedScenario {
  Scenario scenario;
  config::Node resolved;  ///< every key with its value and origin, defaults included
};

/// Reads, composes, overrides and checks a scenario.
/// @param sets  arguments of `--set`, applied in order
/// @throws Error "file:line:column: dotted.path: what is wrong and what was expected"
LoadedScenario load_scenario(const std::filesystem::path& path,
                             const std::vector<std::string>& sets);

/// The same with files from elsewhere, for tests and fuzzers.
LoadedScenario load_scenario(const std::filesystem::path& path,
                             const std::vector<std::string>& sets, const config::ReadFile& read);

/// The complete configuration as YAML that loads to the same scenario; a comment behind every
/// value says where it comes from.
std::string print_config(const LoadedScenario& loaded);

/// The complete configuration as JSON, for results.
nlohmann::ordered_json config_json(const LoadedScenario& loaded);

/// A model file in YAML, or a config.json of the DeepSeek-V2/V3 family.
/// @throws Error as load_scenario
ModelSpec load_model(const std::filesystem::path& path);
ModelSpec load_model(const std::filesystem::path& path, const config::ReadFile& read);

GpuSpec load_gpu(const std::filesystem::path& path);
ClusterSpec load_cluster(const std::filesystem::path& path);
/// A layout `auto` stays empty: it needs the model. A schedule's file is not read.
PlanSpec load_plan(const std::filesystem::path& path);
CalibrationSpec load_calibration(const std::filesystem::path& path);

/// A schedule in the text format.
/// @throws Error "path:line:column: ..." where the text is wrong, or "path: " and the first
///         violation of check_schedule
Schedule load_schedule(const std::filesystem::path& path);

/// A JSON file as it stands, such as a result: one object.
/// @throws Error "file:line:column: what is wrong and what was expected"
nlohmann::json load_json(const std::filesystem::path& path);

/// JSON Schema (draft-07) of one kind of file.
/// @throws Error that lists the kinds
nlohmann::ordered_json schema(std::string_view kind);

/// What schema() knows, sorted by name.
std::vector<std::string> schema_kinds();

/// Names of the shipped files below one folder of configs/ ("gpus": a100, h100, ...), sorted.
/// @throws Error if the folder cannot be listed
std::vector<std::string> shipped_names(std::string_view folder);

/// Where the shipped files lie: the environment variable PIPECAST_CONFIGS, else the source tree
/// that the program was built from.
std::filesystem::path config_directory();

}  // namespace pipecast
