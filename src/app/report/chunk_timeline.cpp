#include "app/report/chunk_timeline.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <optional>

#include "app/report/phase_style.hpp"
#include "app/report/table.hpp"
#include "model/operations/operation.hpp"

namespace pipecast {

namespace {

constexpr std::size_t kLabelWidth = 12;
constexpr double kMicrosecondsPerMillisecond = 1e3;
/// Place of notify kernels behind the phases.
constexpr std::size_t kNotify = kPhases;

/// Busy time of one letter's stretch by phase.
using Cell = std::array<double, kPhases + 1>;

std::size_t place_of(const TraceRow& row) {
  if (role_of(row) == LaunchRole::kNotify) return kNotify;
  std::size_t phase = 0;
  while (name_of(static_cast<Phase>(phase)) != row.phase) ++phase;
  return phase;
}

std::size_t columns(const TextStyle& style) {
  return style.width > kLabelWidth ? style.width - kLabelWidth : 1;
}

std::vector<Cell> cells_of(const std::vector<TraceRow>& rows, std::string_view stream,
                           const BusyInterval& range, std::size_t width) {
  std::vector<Cell> out(width);
  const double step = (range.end - range.start) / static_cast<double>(width);
  for (const TraceRow& row : rows) {
    if (row.stream != stream || step <= 0) continue;
    const double from = (row.start_us - range.start) / step;  // in letters
    const double to = from + row.duration_us / step;
    const auto last = std::min(static_cast<std::size_t>(std::ceil(to)), width);
    for (auto c = static_cast<std::size_t>(std::max(0.0, from)); c < last; ++c) {
      const auto left = static_cast<double>(c);
      out[c][place_of(row)] += std::max(0.0, std::min(to, left + 1) - std::max(from, left));
    }
  }
  return out;
}

/// What a stretch of time is busy with for most of it: nothing, if it is mostly idle.
std::optional<std::size_t> main_place(const Cell& cell) {
  double busy = 0;
  for (const double time : cell) busy += time;
  constexpr double kMostly = 0.5;
  if (busy < kMostly) return std::nullopt;
  return static_cast<std::size_t>(std::max_element(cell.begin(), cell.end()) - cell.begin());
}

/// As many letters of one kind.
std::string letters(const std::optional<std::size_t>& place, std::size_t count, bool colours) {
  if (!place) return std::string(count, '.');
  if (*place == kNotify) return std::string(count, '-');
  const PhaseStyle style = style_of(static_cast<Phase>(*place));
  return painted(std::string(count, style.letter), style.colour, colours);
}

std::string line_of(const std::vector<Cell>& cells, bool colours) {
  std::string out;
  for (std::size_t first = 0; first < cells.size();) {
    const std::optional<std::size_t> place = main_place(cells[first]);
    std::size_t last = first + 1;
    while (last < cells.size() && main_place(cells[last]) == place) ++last;
    out += letters(place, last - first, colours);
    first = last;
  }
  return out;
}

}  // namespace

BusyInterval range_of(const std::vector<TraceRow>& rows) {
  if (rows.empty()) return {};
  BusyInterval out{rows.front().start_us, 0};
  for (const TraceRow& row : rows) {
    out.start = std::min(out.start, row.start_us);
    out.end = std::max(out.end, row.start_us + row.duration_us);
  }
  return out;
}

double tick_step(double length, double most) {
  const double least = length / most;
  const double decade = std::pow(10.0, std::floor(std::log10(least)));
  for (const double digit : {1.0, 2.0, 5.0}) {
    if (digit * decade >= least) return digit * decade;
  }
  return 10 * decade;
}

std::string timeline_text(const std::vector<TraceRow>& rows, const BusyInterval& range,
                          const TextStyle& style) {
  std::string out;
  for (const Stream stream : {Stream::kCompute, Stream::kSide, Stream::kCommunication}) {
    const std::string_view name = name_of(stream);
    const bool used = std::any_of(rows.begin(), rows.end(),
                                  [&](const TraceRow& row) { return row.stream == name; });
    if (!used) continue;
    out += fmt::format("{:<{}}", name, kLabelWidth);
    out += line_of(cells_of(rows, name, range, columns(style)), style.colours) + "\n";
  }
  return out;
}

std::string timeline_axis(const BusyInterval& range, const TextStyle& style) {
  const double length = (range.end - range.start) / kMicrosecondsPerMillisecond;
  if (length <= 0) return "";
  constexpr double kLettersPerTick = 12;
  const auto width = static_cast<double>(columns(style));
  const double step = tick_step(length, std::max(1.0, width / kLettersPerTick));
  std::string line = fmt::format("{:<{}}", "ms", kLabelWidth);
  for (int tick = 0; tick * step <= length; ++tick) {
    const auto at = kLabelWidth + static_cast<std::size_t>(tick * step / length * width);
    const std::string text = fmt::format("|{:g}", tick * step);
    if (at + text.size() > style.width) break;
    line.resize(std::max(line.size(), at), ' ');
    line += text;
  }
  return line + "\n";
}

std::string timeline_legend(const std::vector<TraceRow>& rows, const TextStyle& style) {
  std::array<bool, kPhases + 1> used{};
  for (const TraceRow& row : rows) used[place_of(row)] = true;
  std::string out;
  std::size_t length = 0;
  const auto add = [&](const std::string& letter, std::string_view name) {
    const std::size_t entry = name.size() + 4;
    if (length > 0 && kLabelWidth + length + entry > style.width) {
      out += "\n";
      length = 0;
    }
    if (length == 0) out += std::string(kLabelWidth, ' ');
    out += fmt::format("{}{} {}", length == 0 ? "" : "  ", letter, name);
    length += entry;
  };
  for (std::size_t p = 0; p < kPhases; ++p) {
    const auto phase = static_cast<Phase>(p);
    const PhaseStyle s = style_of(phase);
    if (used[p]) add(painted(std::string(1, s.letter), s.colour, style.colours), name_of(phase));
  }
  if (used[kNotify]) add("-", "notify, waiting for peers");
  add(".", "idle");
  return out + "\n";
}

}  // namespace pipecast
