#include <fmt/format.h>

#include <algorithm>

#include "app/commands/command.hpp"
#include "app/commands/command_line.hpp"
#include "app/config/load.hpp"
#include "app/report/result_schema.hpp"

namespace pipecast {

namespace {

/// Files that are read, and the one that is written.
std::vector<std::string> all_kinds() {
  std::vector<std::string> kinds = schema_kinds();
  kinds.emplace_back("result");
  std::sort(kinds.begin(), kinds.end());
  return kinds;
}

nlohmann::ordered_json schema_of(const std::string& kind) {
  const std::vector<std::string> kinds = all_kinds();
  require(std::find(kinds.begin(), kinds.end(), kind) != kinds.end(),
          "unknown kind of schema '{}'; known: {}", kind, join(kinds));
  return kind == "result" ? result_schema() : schema(kind);
}

int run_schema(const std::vector<std::string>& arguments) {
  CommandLine line(fmt::format("schema {} [options]", fmt::join(all_kinds(), "|")),
                   "Prints the JSON Schema (draft-07) of a kind of file, for editors and scripts.");
  line.add_positional("kind", "kind of file");
  if (!line.parse(arguments)) return 0;
  const nlohmann::ordered_json document = schema_of(line.text("kind"));
  if (line.has("json")) {
    line.write_json(document);
  } else if (!line.quiet()) {
    fmt::print("{}\n", document.dump(2));
  }
  return 0;
}

const Register<Command> kEntry{"schema", {run_schema, "print the JSON Schema of a kind of file"}};

}  // namespace

}  // namespace pipecast
