#pragma once

#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <string>

namespace pipecast::testing {

/// A table with these bytes, removed at the end of the test.
class TableFile {
 public:
  explicit TableFile(const std::string& content)
      : path_(std::filesystem::temp_directory_path() /
              ("pipecast-table-" + std::to_string(::getpid()) + ".csv")) {
    std::ofstream(path_, std::ios::binary) << content;
  }
  TableFile(const TableFile&) = delete;
  TableFile& operator=(const TableFile&) = delete;
  ~TableFile() {
    std::error_code ignored;
    std::filesystem::remove(path_, ignored);
  }
  [[nodiscard]] std::string path() const { return path_.string(); }

 private:
  std::filesystem::path path_;
};

}  // namespace pipecast::testing
