/// Runs built programs as a shell does and keeps what they print.
#pragma once

#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <stdexcept>
#include <string>

namespace pipecast::testing {

inline std::string text_of(const std::filesystem::path& path) {
  std::ifstream in(path, std::ios::binary);
  std::ostringstream out;
  out << in.rdbuf();
  return out.str();
}

/// A folder of its own for every test, removed at its end.
class TemporaryFolder {
 public:
  TemporaryFolder() {
    std::string pattern = (std::filesystem::temp_directory_path() / "pipecast-XXXXXX").string();
    if (::mkdtemp(pattern.data()) == nullptr) throw std::runtime_error("no temporary folder");
    path_ = pattern;
  }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  ~TemporaryFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  [[nodiscard]] std::string file(const std::string& name) const { return (path_ / name).string(); }
  [[nodiscard]] std::string path() const { return path_.string(); }

 private:
  std::filesystem::path path_;
};

struct Outcome {
  int code = -1;
  std::string out;
  std::string err;
};

/// @param command  program and arguments, as typed into a shell in the project's folder
inline Outcome shell(const std::string& command) {
  const TemporaryFolder folder;
  const std::string line = "cd '" PIPECAST_SOURCE_DIR "' && " + command + " >'" +
                           folder.file("out") + "' 2>'" + folder.file("err") + "' </dev/null";
  const int status = std::system(line.c_str());
  return {.code = WIFEXITED(status) ? WEXITSTATUS(status) : -1,
          .out = text_of(folder.file("out")),
          .err = text_of(folder.file("err"))};
}

inline Outcome run_program(const std::string& arguments) {
  return shell("'" PIPECAST_PROGRAM "' " + arguments);
}

}  // namespace pipecast::testing
