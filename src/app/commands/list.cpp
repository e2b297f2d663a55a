#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <functional>
#include <map>

#include "app/commands/command.hpp"
#include "app/commands/command_line.hpp"
#include "app/config/load.hpp"
#include "app/kernel/kernel_name.hpp"
#include "model/operations/operation_kinds.hpp"
#include "model/schedules/schedule.hpp"

namespace pipecast {

namespace {

struct Item {
  std::string name;
  std::string description;
  std::vector<Item> options{};  ///< of an operation: what defines its shape
};

/// The first sentence of the first comment for people in a shipped file: its description.
std::string headline(const std::filesystem::path& path) {
  std::ifstream in(path);
  for (std::string line; std::getline(in, line);) {
    const bool comment = line.rfind("# ", 0) == 0;
    if (!comment && !line.empty()) break;
    if (comment && line.find("yaml-language-server") == std::string::npos) {
      return line.substr(2, line.find(". ") - 1);
    }
  }
  return {};
}

/// Shipped files of one folder below configs/, by name.
std::vector<Item> shipped(const std::string& folder) {
  std::vector<Item> items;
  for (const std::string& name : shipped_names(folder)) {
    items.push_back({name, headline(config_directory() / folder / (name + ".yaml"))});
  }
  return items;
}

std::vector<Item> schedules() {
  std::vector<Item> items;
  const auto& kinds = Registry<ScheduleKind>::instance();
  for (const std::string& name : kinds.names())
    items.push_back({name, std::string(kinds.find(name).description)});
  return items;
}

/// "query heads (default 128)", "format of the cache: bfloat16, fp8 (default bfloat16)".
std::string description_of(const KernelOption& option) {
  std::string out(option.meaning);
  std::vector<std::string> words;
  std::string fallback = option.fallback ? std::to_string(*option.fallback) : "";
  for (const NamedValue& named : option.names) {
    words.emplace_back(named.name);
    if (named.value == option.fallback) fallback = named.name;
  }
  if (!words.empty()) out += ": " + join(words);
  return fallback.empty() ? out : fmt::format("{} (default {})", out, fallback);
}

/// " (gemm --precision bf16)": how `pipecast kernel` calls an operation otherwise.
std::string family_note(std::string_view op) {
  for (const KernelFamily& family : kernel_families()) {
    for (std::size_t i = 0; i < family.operations.size(); ++i) {
      if (family.operations[i] != op) continue;
      const std::string name = hyphened(family.name);
      if (family.operations[1].empty()) return fmt::format(" ({})", name);
      return fmt::format(" ({} --precision {})", name, i == 0 ? "fp8" : "bf16");
    }
  }
  return "";
}

std::vector<Item> operations() {
  std::vector<Item> items;
  const auto& kernels = Registry<KernelKind>::instance();
  for (const OperationKind& kind : operation_kinds()) {
    Item& item = items.emplace_back(
        Item{std::string(kind.name), std::string(kind.description) + family_note(kind.name)});
    if (!kernels.contains(kind.name)) continue;
    for (const KernelOption& option : kernels.find(kind.name).options) {
      item.options.push_back({hyphened(option.name), description_of(option)});
    }
  }
  return items;
}

nlohmann::ordered_json json_of(const Item& item) {
  nlohmann::ordered_json out = {{"name", item.name}, {"description", item.description}};
  if (item.options.empty()) return out;
  out["options"] = nlohmann::ordered_json::array();
  for (const Item& option : item.options) out["options"].push_back(json_of(option));
  return out;
}

const std::map<std::string, std::function<std::vector<Item>()>>& lists() {
  static const std::map<std::string, std::function<std::vector<Item>()>> kLists = {
      {"schedules", schedules},
      {"operations", operations},
      {"gpus", [] { return shipped("gpus"); }},
      {"models", [] { return shipped("models"); }},
      {"scenarios", [] { return shipped("scenarios"); }},
  };
  return kLists;
}

int run_list(const std::vector<std::string>& arguments) {
  CommandLine line("list schedules|gpus|models|operations|scenarios [options]",
                   "Lists what there is, with a line on each.");
  line.add_positional("what", "what to list");
  if (!line.parse(arguments)) return 0;
  const auto it = lists().find(line.text("what"));
  std::vector<std::string> known;
  for (const auto& [name, items] : lists()) known.push_back(name);
  require(it != lists().end(), "list: unknown '{}'; there are: {}", line.text("what"), join(known));

  const std::vector<Item> items = it->second();
  nlohmann::ordered_json document = nlohmann::ordered_json::array();
  std::size_t width = 0;
  for (const Item& item : items) width = std::max(width, item.name.size());
  for (const Item& item : items) {
    document.push_back(json_of(item));
    if (!line.talks()) continue;
    fmt::print("{:<{}}  {}\n", item.name, width, item.description);
    std::size_t longest = 0;
    for (const Item& option : item.options) longest = std::max(longest, option.name.size());
    for (const Item& option : item.options) {
      fmt::print("{:<{}}    --{:<{}}  {}\n", "", width, option.name, longest, option.description);
    }
  }
  line.write_json(document);
  return 0;
}

const Register<Command> kEntry{"list",
                               {run_list, "list schedules, GPUs, models, operations or scenarios"}};

}  // namespace

}  // namespace pipecast
