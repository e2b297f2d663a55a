/// A subcommand of the program: one file in this folder, registered under its name.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/registry.hpp"

namespace pipecast {

struct Command {
  /// @param arguments  what stands after the command's name
  /// @return exit code; failures are thrown (see base/error.hpp) and turned into exit codes by main
  int (*run)(const std::vector<std::string>& arguments) = nullptr;
  std::string_view summary;  ///< one line for `pipecast --help`
};

}  // namespace pipecast
