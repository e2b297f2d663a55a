#include "app/report/table.hpp"

#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdlib>
#include <numeric>

#include "base/assert.hpp"

namespace pipecast {

namespace {

/// 256-colour codes nearest to Okabe and Ito's palette.
constexpr std::array<int, 8> kPalette = {33, 214, 36, 220, 75, 166, 175, 245};

}  // namespace

Table::Table(std::vector<std::string> header, std::vector<std::size_t> left)
    : left_(header.size()) {
  PIPECAST_ASSERT(!header.empty());
  left_[0] = true;
  for (const std::size_t column : left) left_.at(column) = true;
  rows_.push_back(std::move(header));
}

void Table::add(std::vector<std::string> cells) {
  PIPECAST_ASSERT(cells.size() == left_.size());
  rows_.push_back(std::move(cells));
}

std::string Table::text() const {
  std::vector<std::size_t> widths(left_.size());
  for (const auto& row : rows_) {
    for (std::size_t c = 0; c < row.size(); ++c)
      widths[c] = std::max(widths[c], display_width(row[c]));
  }
  std::string out;
  for (std::size_t r = 0; r < rows_.size(); ++r) {
    std::string line;
    for (std::size_t c = 0; c < left_.size(); ++c) {
      const std::string padding(widths[c] - display_width(rows_[r][c]), ' ');
      line += c == 0 ? "" : "  ";
      line += left_[c] ? rows_[r][c] + padding : padding + rows_[r][c];
    }
    line.erase(line.find_last_not_of(' ') + 1);
    out += line + "\n";
    if (r > 0) continue;
    const std::size_t gaps = 2 * (widths.size() - 1);
    out += std::string(std::accumulate(widths.begin(), widths.end(), gaps), '-') + "\n";
  }
  return out;
}

std::size_t display_width(std::string_view text) {
  return static_cast<std::size_t>(std::count_if(text.begin(), text.end(), [](char c) {
    return (static_cast<unsigned char>(c) & 0xC0U) != 0x80U;  // continuation bytes take no place
  }));
}

std::string grouped(double value) {
  const std::string digits = fmt::format("{:.0f}", value);
  std::string out;
  for (std::size_t i = 0; i < digits.size(); ++i) {
    if (i > 0 && (digits.size() - i) % 3 == 0) out.push_back(',');
    out.push_back(digits[i]);
  }
  return out;
}

bool colours_wanted() {
  const char* no_color = std::getenv("NO_COLOR");
  return isatty(STDOUT_FILENO) != 0 && (no_color == nullptr || *no_color == '\0');
}

std::size_t terminal_width() {
  constexpr std::size_t kDefault = 100;
  constexpr std::size_t kLeast = 40;
  constexpr std::size_t kMost = 240;
  winsize size{};
  const bool known = ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0;
  return known ? std::clamp(static_cast<std::size_t>(size.ws_col), kLeast, kMost) : kDefault;
}

std::string painted(const std::string& text, std::size_t colour, bool colours) {
  if (!colours) return text;
  return fmt::format("\x1b[38;5;{}m{}\x1b[0m", kPalette[colour % kPalette.size()], text);
}

std::string filled(const std::string& text, std::size_t colour, bool colours) {
  constexpr int kBlack = 16;
  if (!colours) return text;
  return fmt::format("\x1b[38;5;{};48;5;{}m{}\x1b[0m", kBlack, kPalette[colour % kPalette.size()],
                     text);
}

std::string bar(const std::vector<BarPart>& parts, std::size_t width, bool colours) {
  double total = 0;
  for (const BarPart& part : parts) total += part.share;
  if (total <= 0) return std::string(width, ' ');

  std::vector<std::size_t> lengths;
  std::vector<std::pair<double, std::size_t>> remainders;
  std::size_t used = 0;
  for (std::size_t i = 0; i < parts.size(); ++i) {
    const double exact = parts[i].share / total * static_cast<double>(width);
    lengths.push_back(static_cast<std::size_t>(exact));
    remainders.emplace_back(exact - std::floor(exact), i);
    used += lengths.back();
  }
  std::stable_sort(remainders.begin(), remainders.end(),
                   [](const auto& a, const auto& b) { return a.first > b.first; });
  for (std::size_t i = 0; used < width; ++i, ++used) ++lengths[remainders[i].second];

  std::string out;
  for (std::size_t i = 0; i < parts.size(); ++i) {
    if (lengths[i] == 0) continue;
    out += painted(std::string(lengths[i], parts[i].letter), i, colours);
  }
  return out;
}

}  // namespace pipecast
