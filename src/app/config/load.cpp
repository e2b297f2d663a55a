#include "app/config/load.hpp"

#include <algorithm>
#include <cstdlib>
#include <system_error>

#include "app/config/check_scenario.hpp"
#include "app/config/layout.hpp"
#include "app/config/sections/sections.hpp"

namespace pipecast {

namespace {

using config::Node;

/// Completes the plan overrides of every phase by the scenario's plan.
void inherit_plan(Node& root) {
  if (!root.is_map()) return;
  const Node* const plan = root.find("plan");
  Node* const recipe = root.find("recipe");
  if (plan == nullptr || recipe == nullptr || !recipe->is_map()) return;
  Node* const phases = recipe->find("phases");
  if (phases == nullptr || !phases->is_list()) return;
  for (Node& phase : phases->children) {
    Node* const overrides = phase.is_map() ? phase.find("plan") : nullptr;
    if (overrides != nullptr) *overrides = config::merge(*plan, std::move(*overrides));
  }
}

/// Puts stages in the place of `auto`, in the plan and in what is shown of it.
void resolve_layout(PlanSpec& plan, Node& shown_plan, const std::string& path,
                    const ModelSpec& model) {
  if (!plan.pipeline_layout.empty()) return;
  Node& shown = *shown_plan.find("pipeline_layout");
  try {
    plan.pipeline_layout = config::automatic_layout(model, plan.pp);
  } catch (const Error& e) {
    config::fail(shown.origin, config::join_path(path, "pipeline_layout"), e.what());
  }
  shown.kind = config::Kind::kList;
  for (const auto& stage : plan.pipeline_layout) {
    Node& item = shown.children.emplace_back();
    item.kind = config::Kind::kText;
    item.text = config::stage_to_text(stage);
    item.origin = shown.origin;
  }
  shown.text.clear();
}

void resolve_phases(Scenario& scenario, Node& shown) {
  Node& phases = *shown.find("recipe")->find("phases");
  for (std::size_t i = 0; i < scenario.recipe.phases.size(); ++i) {
    PlanSpec& plan = scenario.recipe.phases[i].plan;
    Node* const overrides = phases.children[i].find("plan");
    if (overrides == nullptr) {
      plan = scenario.plan;
    } else {
      resolve_layout(plan, *overrides, fmt::format("recipe.phases.{}.plan", i), scenario.model);
    }
  }
}

template <class T>
T load_section(const std::filesystem::path& path, const config::ReadFile& read) {
  T out;
  config::read_value(config::load_tree(path, read), "", out, {});
  return out;
}

}  // namespace

LoadedScenario load_scenario(const std::filesystem::path& path,
                             const std::vector<std::string>& sets) {
  return load_scenario(path, sets, config::read_file);
}

LoadedScenario load_scenario(const std::filesystem::path& path,
                             const std::vector<std::string>& sets, const config::ReadFile& read) {
  Node root = config::load_tree(path, read);
  config::apply_sets(root, sets, read);
  inherit_plan(root);
  LoadedScenario out;
  out.resolved = config::read_value(root, "", out.scenario, {});
  resolve_layout(out.scenario.plan, *out.resolved.find("plan"), "plan", out.scenario.model);
  resolve_phases(out.scenario, out.resolved);
  config::check_scenario(out.scenario, out.resolved);
  return out;
}

ModelSpec load_model(const std::filesystem::path& path) {
  return load_model(path, config::read_file);
}
ModelSpec load_model(const std::filesystem::path& path, const config::ReadFile& read) {
  return load_section<ModelSpec>(path, read);
}
GpuSpec load_gpu(const std::filesystem::path& path) {
  return load_section<GpuSpec>(path, config::read_file);
}
ClusterSpec load_cluster(const std::filesystem::path& path) {
  return load_section<ClusterSpec>(path, config::read_file);
}
PlanSpec load_plan(const std::filesystem::path& path) {
  return load_section<PlanSpec>(path, config::read_file);
}
CalibrationSpec load_calibration(const std::filesystem::path& path) {
  return load_section<CalibrationSpec>(path, config::read_file);
}

std::vector<std::string> shipped_names(std::string_view folder) {
  namespace fs = std::filesystem;
  std::vector<std::string> names;
  const fs::path root = config_directory() / folder;
  std::error_code failure;
  for (const auto& entry : fs::recursive_directory_iterator(root, failure)) {
    if (entry.path().extension() != ".yaml") continue;
    names.push_back(entry.path().lexically_relative(root).replace_extension().string());
  }
  require(!failure,
          "{}: cannot be listed; the environment variable PIPECAST_CONFIGS says where the shipped "
          "files are",
          root.string());
  std::sort(names.begin(), names.end());
  return names;
}

std::filesystem::path config_directory() {
  const char* const chosen = std::getenv("PIPECAST_CONFIGS");
  return chosen != nullptr && *chosen != '\0' ? chosen : PIPECAST_CONFIG_DIRECTORY;
}

}  // namespace pipecast
