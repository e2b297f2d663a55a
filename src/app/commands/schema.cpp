#include <fmt/format.h>

#include "app/commands/command.hpp"
#include "app/commands/command_line.hpp"
#include "app/config/load.hpp"

namespace pipecast {

namespace {

int run_schema(const std::vector<std::string>& arguments) {
  CommandLine line("schema " + join(schema_kinds()) + " [options]",
                   "Prints the JSON Schema (draft-07) of a kind of file, for editors and scripts.");
  line.add_positional("kind", "kind of file");
  if (!line.parse(arguments)) return 0;
  const nlohmann::ordered_json document = schema(line.text("kind"));
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
