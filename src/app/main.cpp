#include <fmt/format.h>

#include <cstdio>
#include <exception>
#include <string>
#include <string_view>
#include <vector>

#include "app/commands/command.hpp"
#include "base/error.hpp"
#include "base/text.hpp"

namespace {

using pipecast::Command;
using pipecast::Registry;

void print_overview() {
  fmt::print(
      "Usage: pipecast COMMAND [options]\n\nForecasts the training of mixture-of-experts models on "
      "GPU clusters.\n\n");
  for (const std::string& name : Registry<Command>::instance().names()) {
    fmt::print("  {:<10} {}\n", name, Registry<Command>::instance().find(name).summary);
  }
  fmt::print("\n`pipecast COMMAND --help` explains a command.\n");
}

int run(const std::vector<std::string>& arguments) {
  if (arguments.empty() || arguments[0] == "--help" || arguments[0] == "-h" ||
      arguments[0] == "help") {
    print_overview();
    return arguments.empty() ? 2 : 0;
  }
  if (arguments[0] == "--version") {
    fmt::print("pipecast {}\n", PIPECAST_VERSION);
    return 0;
  }
  const auto& commands = Registry<Command>::instance();
  if (!commands.contains(arguments[0])) {
    const std::string close = pipecast::nearest(arguments[0], commands.names());
    throw pipecast::Error(fmt::format("unknown command '{}'{}; commands: {}", arguments[0],
                                      close.empty() ? "" : fmt::format(", did you mean {}?", close),
                                      pipecast::join(commands.names())));
  }
  return commands.find(arguments[0]).run({arguments.begin() + 1, arguments.end()});
}

}  // namespace

int main(int count, char** values) {
  static constexpr std::string_view kNoOutput = "standard output cannot be written\n";
  try {
    const int code = run(std::vector<std::string>(values + (count > 0 ? 1 : 0), values + count));
    if (std::fflush(stdout) == 0 && std::ferror(stdout) == 0) return code;
    fmt::print(stderr, "{}", kNoOutput);
    return 2;
  } catch (const pipecast::ImpossiblePlan& impossible) {
    fmt::print(stderr, "impossible plan: {}\n", impossible.what());
    return 1;
  } catch (const pipecast::Error& error) {
    // Nothing before the message: editors find file:line:column at the beginning of a line.
    fmt::print(stderr, "{}\n", error.what());
    return 2;
  } catch (const std::exception& error) {
    // A full disk or a closed pipe: fmt::print reports it by an exception of its own.
    if (std::ferror(stdout) != 0) {
      fmt::print(stderr, "{}", kNoOutput);
      return 2;
    }
    fmt::print(stderr, "pipecast: internal error: {}\n", error.what());
    return 3;
  }
}
