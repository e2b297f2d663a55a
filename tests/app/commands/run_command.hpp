/// Runs a subcommand as main does and gives its JSON.
#pragma once

#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

#include "app/commands/command.hpp"

namespace pipecast::testing {

/// A file of its own for every test program, removed at the end of the test.
class TemporaryFile {
 public:
  explicit TemporaryFile(const std::string& name)
      : path_(std::filesystem::temp_directory_path() / (name + "-" + std::to_string(::getpid()))) {}
  TemporaryFile(const TemporaryFile&) = delete;
  TemporaryFile& operator=(const TemporaryFile&) = delete;
  ~TemporaryFile() {
    std::error_code ignored;
    std::filesystem::remove(path_, ignored);
  }
  [[nodiscard]] std::string path() const { return path_.string(); }

 private:
  std::filesystem::path path_;
};

inline nlohmann::json run_command(const std::string& name, std::vector<std::string> arguments) {
  const TemporaryFile out("pipecast-test-" + name);
  arguments.insert(arguments.end(), {"--quiet", "--json", out.path()});
  const int code = Registry<Command>::instance().find(name).run(arguments);
  if (code != 0) throw std::runtime_error("exit code " + std::to_string(code));
  std::ifstream in(out.path());
  return nlohmann::json::parse(in);
}

/// The whole file.
inline std::string text_of(const std::string& path) {
  std::ifstream in(path);
  std::ostringstream out;
  out << in.rdbuf();
  return out.str();
}

/// How often a part stands in a text.
inline std::size_t count_of(const std::string& text, const std::string& part) {
  std::size_t count = 0;
  for (std::size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1))
    ++count;
  return count;
}

}  // namespace pipecast::testing
