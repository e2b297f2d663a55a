#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <functional>
#include <map>

#include "app/commands/command.hpp"
#include "app/commands/command_line.hpp"
#include "app/config/load.hpp"
#include "model/operations/operation_kinds.hpp"
#include "model/schedules/schedule.hpp"

namespace pipecast {

namespace {

struct Item {
  std::string name;
  std::string description;
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
  const std::filesystem::path root = config_directory() / folder;
  std::error_code failure;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(root, failure)) {
    if (entry.path().extension() != ".yaml") continue;
    const std::filesystem::path name = entry.path().lexically_relative(root).replace_extension();
    items.push_back({name.string(), headline(entry.path())});
  }
  require(!failure,
          "{}: cannot be listed; the environment variable PIPECAST_CONFIGS says where the shipped "
          "files are",
          root.string());
  std::sort(items.begin(), items.end(),
            [](const Item& a, const Item& b) { return a.name < b.name; });
  return items;
}

std::vector<Item> schedules() {
  std::vector<Item> items;
  const auto& kinds = Registry<ScheduleKind>::instance();
  for (const std::string& name : kinds.names())
    items.push_back({name, std::string(kinds.find(name).description)});
  return items;
}

std::vector<Item> operations() {
  std::vector<Item> items;
  for (const OperationKind& kind : operation_kinds())
    items.push_back({std::string(kind.name), std::string(kind.description)});
  return items;
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
    document.push_back({{"name", item.name}, {"description", item.description}});
    if (line.talks()) fmt::print("{:<{}}  {}\n", item.name, width, item.description);
  }
  line.write_json(document);
  return 0;
}

const Register<Command> kEntry{"list",
                               {run_list, "list schedules, GPUs, models, operations or scenarios"}};

}  // namespace

}  // namespace pipecast
