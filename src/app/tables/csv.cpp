#include "app/tables/csv.hpp"

#include <algorithm>
#include <charconv>
#include <fstream>

#include "base/error.hpp"
#include "base/text.hpp"

namespace pipecast {

namespace {

std::vector<std::string> split(const std::string& line) {
  std::vector<std::string> cells;
  std::size_t begin = 0;
  while (true) {
    const std::size_t comma = line.find(',', begin);
    cells.push_back(line.substr(begin, comma - begin));
    if (comma == std::string::npos) return cells;
    begin = comma + 1;
  }
}

}  // namespace

CsvTable::CsvTable(const std::filesystem::path& path) : name_(path.string()) {
  // Devices may never end a line.
  std::error_code ignored;
  const auto type = std::filesystem::status(path, ignored).type();
  const bool finite =
      type == std::filesystem::file_type::regular || type == std::filesystem::file_type::fifo;
  std::ifstream in;
  if (finite) in.open(path);
  std::string line;
  require(finite && std::getline(in, line), "{}: cannot be read or is empty", name_);
  const auto strip = [](std::string& text) {
    if (!text.empty() && text.back() == '\r') text.pop_back();
  };
  strip(line);
  header_ = split(line);
  for (int number = 2; std::getline(in, line); ++number) {
    strip(line);
    cells_.push_back(split(line));
    require(cells_.back().size() == header_.size(), "{}:{}:1: {} cells; the header has {}", name_,
            number, cells_.back().size(), header_.size());
  }
}

bool CsvTable::has(std::string_view column) const {
  return std::find(header_.begin(), header_.end(), column) != header_.end();
}

std::size_t CsvTable::index(std::string_view column) const {
  const auto it = std::find(header_.begin(), header_.end(), column);
  require(it != header_.end(), "{}:1:1: no column '{}'; columns: {}", name_, column, join(header_));
  return static_cast<std::size_t>(it - header_.begin());
}

const std::string& CsvTable::text(std::size_t row, std::string_view column) const {
  return cells_.at(row)[index(column)];
}

double CsvTable::number(std::size_t row, std::string_view column) const {
  const std::string& cell = text(row, column);
  double value = 0;
  const auto [end, failure] = std::from_chars(cell.data(), cell.data() + cell.size(), value);
  const bool valid = failure == std::errc() && end == cell.data() + cell.size();
  if (valid) return value;
  throw Error(fmt::format("{}: {}: '{}' is not a number", place(row, column), column, cell));
}

std::string CsvTable::place(std::size_t row, std::string_view column) const {
  const std::vector<std::string>& cells = cells_.at(row);
  const std::size_t last = index(column);
  std::size_t begin = 1;
  for (std::size_t c = 0; c < last; ++c) begin += cells[c].size() + 1;
  return fmt::format("{}:{}:{}", name_, row + 2, begin);
}

}  // namespace pipecast
