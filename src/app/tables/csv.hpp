/// Measured tables: comma-separated values with a header line and without quotes, as in traces/.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

namespace pipecast {

class CsvTable {
 public:
  /// @throws Error with file and line for a file that cannot be read or a row of another width than
  /// the header
  explicit CsvTable(const std::filesystem::path& path);

  [[nodiscard]] std::size_t rows() const { return cells_.size(); }
  [[nodiscard]] const std::string& name() const { return name_; }
  [[nodiscard]] const std::vector<std::string>& header() const { return header_; }
  [[nodiscard]] bool has(std::string_view column) const;
  /// @throws Error if there is no such column
  [[nodiscard]] const std::string& text(std::size_t row, std::string_view column) const;
  /// @throws Error with file, line and column if the cell is not a number
  [[nodiscard]] double number(std::size_t row, std::string_view column) const;
  /// "traces/h100/gemm_bf16.csv:7:4": where a cell begins.
  [[nodiscard]] std::string place(std::size_t row, std::string_view column) const;
  [[nodiscard]] std::string place_of_header() const { return name_ + ":1:1"; }

 private:
  [[nodiscard]] std::size_t index(std::string_view column) const;

  std::string name_;
  std::vector<std::string> header_;
  std::vector<std::vector<std::string>> cells_;
};

}  // namespace pipecast
