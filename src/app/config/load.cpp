#include "app/config/load.hpp"

#include <algorithm>
#include <cstdlib>
#include <system_error>

#include "app/config/check_scenario.hpp"
#include "app/config/layout.hpp"
#include "app/config/sections/sections.hpp"
#include "model/schedules/checker.hpp"
#include "model/schedules/plan_schedule.hpp"
#include "model/schedules/text.hpp"

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
    plan.pipeline_layout = config::automatic_layout(model, plan.pp * stages_per_rank(plan));
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

/// @throws Error "path:line:column: ..." where the text is wrong, "path: ..." where the schedule is
Schedule parse_and_check(const std::string& text, const std::string& path) {
  Schedule out = parse_schedule(text, path);
  const std::optional<std::string> violation = check_schedule(out);
  require(!violation, "{}: {}", path, violation.value_or(""));
  return out;
}

/// Reads what `file:PATH` names.
void resolve_schedule(PlanSpec& plan, const Node& shown_plan, const std::string& path,
                      const config::ReadFile& read) {
  if (!names_file(plan.schedule)) return;
  const std::string file = plan.schedule.substr(kScheduleFile.size());
  const config::Origin& origin = shown_plan.find("schedule")->origin;
  const std::string key = config::join_path(path, "schedule");
  std::string text;
  try {
    text = read(file);
  } catch (const Error& e) {
    config::fail(origin, key, config::in_quotes(file) + " " + e.what());
  }
  try {
    plan.schedule_from_file = std::make_shared<const Schedule>(parse_and_check(text, file));
  } catch (const Error& e) {
    config::fail(origin, key, e.what());
  }
  const std::size_t ranks = plan.schedule_from_file->ranks.size();
  config::require_at(ranks == static_cast<std::size_t>(plan.pp), origin, key,
                     "{} has a schedule of {} ranks; the plan has pp = {}", config::in_quotes(file),
                     ranks, plan.pp);
}

void resolve_plan(PlanSpec& plan, Node& shown, const std::string& path, const ModelSpec& model,
                  const config::ReadFile& read) {
  resolve_schedule(plan, shown, path, read);
  resolve_layout(plan, shown, path, model);
}

void resolve_phases(Scenario& scenario, Node& shown, const config::ReadFile& read) {
  Node& phases = *shown.find("recipe")->find("phases");
  for (std::size_t i = 0; i < scenario.recipe.phases.size(); ++i) {
    PlanSpec& plan = scenario.recipe.phases[i].plan;
    Node* const overrides = phases.children[i].find("plan");
    if (overrides == nullptr) {
      plan = scenario.plan;
    } else {
      resolve_plan(plan, *overrides, fmt::format("recipe.phases.{}.plan", i), scenario.model, read);
    }
  }
}

template <class T>
T load_section(const std::filesystem::path& path, const config::ReadFile& read) {
  T out;
  config::read_value(config::load_tree(path, read), "", out, {});
  return out;
}

/// Schedules of many ranks and micro-batches are longer than any file of keys.
std::string read_schedule(const std::filesystem::path& path) {
  constexpr std::uintmax_t kMostMebibytes = 64;
  return config::read_text(path, kMostMebibytes);
}

LoadedScenario load_scenario(const std::filesystem::path& path,
                             const std::vector<std::string>& sets, const config::ReadFile& read,
                             const config::ReadFile& read_long) {
  Node root = config::load_tree(path, read);
  config::apply_sets(root, sets, read);
  inherit_plan(root);
  LoadedScenario out;
  out.resolved = config::read_value(root, "", out.scenario, {});
  resolve_plan(out.scenario.plan, *out.resolved.find("plan"), "plan", out.scenario.model,
               read_long);
  resolve_phases(out.scenario, out.resolved, read_long);
  config::check_scenario(out.scenario, out.resolved);
  return out;
}

}  // namespace

LoadedScenario load_scenario(const std::filesystem::path& path,
                             const std::vector<std::string>& sets) {
  return load_scenario(path, sets, config::read_file, read_schedule);
}

LoadedScenario load_scenario(const std::filesystem::path& path,
                             const std::vector<std::string>& sets, const config::ReadFile& read) {
  return load_scenario(path, sets, read, read);
}

Schedule load_schedule(const std::filesystem::path& path) {
  std::string text;
  try {
    text = read_schedule(path);
  } catch (const Error& e) {
    throw Error(fmt::format("{}: {}", path.string(), e.what()));
  }
  return parse_and_check(text, path.string());
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
