/// What all commands share on their command lines, on top of Boost.Program_options.
#pragma once

#include <boost/program_options.hpp>
#include <cstdint>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

namespace pipecast {

/// The command line of one subcommand. Declare options with add(), then parse() once, then read.
class CommandLine {
 public:
  /// @param usage    what follows the program's name, e.g. "run SCENARIO.yaml [options]"
  /// @param summary  one sentence for --help
  CommandLine(std::string usage, std::string summary);

  /// Declares --set, --seed and --print-config, which every command with a scenario has.
  void add_scenario_options();

  boost::program_options::options_description& options() { return options_; }

  /// Declares the positional arguments by name, in order; all are required unless `optional`.
  void add_positional(const std::string& name, const std::string& description,
                      bool optional = false);

  /// @return false if --help or --version was given and answered: the command then returns 0
  /// @throws Error for unknown options (naming the nearest), missing or superfluous arguments
  bool parse(const std::vector<std::string>& arguments);

  [[nodiscard]] bool has(const std::string& option) const { return values_.count(option) > 0; }
  [[nodiscard]] std::string text(const std::string& option) const {
    return values_[option].as<std::string>();
  }
  template <class T>
  [[nodiscard]] T get(const std::string& option) const {
    return values_[option].as<T>();
  }

  [[nodiscard]] bool quiet() const { return has("quiet"); }
  /// Whether standard output is free for people: not quiet, and not taken by `--json -`.
  [[nodiscard]] bool talks() const { return !quiet() && !(has("json") && text("json") == "-"); }
  [[nodiscard]] std::vector<std::string> sets() const;
  [[nodiscard]] std::uint64_t seed() const { return get<std::uint64_t>("seed"); }

  /// Writes where --json says, if it was given.
  void write_json(const nlohmann::ordered_json& document) const;

 private:
  [[nodiscard]] std::vector<std::string> unknown_options(
      const std::vector<std::string>& arguments) const;
  void refuse_unknown(const std::vector<std::string>& unrecognised) const;
  [[nodiscard]] std::string help() const;

  std::string usage_;
  std::string summary_;
  boost::program_options::options_description options_{"Options"};
  boost::program_options::options_description hidden_;
  boost::program_options::positional_options_description positional_;
  std::vector<std::string> required_;
  boost::program_options::variables_map values_;
};

/// Writes beside the target and renames, so that a reader never sees half a file.
/// @throws Error if the file cannot be written
void write_file(const std::filesystem::path& path, const std::string& content);

}  // namespace pipecast
