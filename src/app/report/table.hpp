/// Aligned text tables and bars for terminals and pipes.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace pipecast {

/// Collects rows, then prints columns as wide as their widest cell. The first column is set to the
/// left, the others to the right unless told otherwise.
class Table {
 public:
  /// @param left  columns besides the first that are set to the left
  explicit Table(std::vector<std::string> header, std::vector<std::size_t> left = {});

  /// @param cells  as many as the header has
  void add(std::vector<std::string> cells);

  /// The lines of the table, each ending in a newline, no line with trailing blanks.
  [[nodiscard]] std::string text() const;

 private:
  std::vector<std::vector<std::string>> rows_;  // the header first
  std::vector<bool> left_;
};

/// Characters that a terminal shows for UTF-8 text without wide or combining characters.
std::size_t display_width(std::string_view text);

/// "2,048": to the nearest whole number, with a comma between thousands.
/// @param value  from 0 on
std::string grouped(double value);

/// Whether standard output is a terminal that wants colours: NO_COLOR is not set.
bool colours_wanted();

/// Letters of a line: the terminal's width within reason, 100 where standard output is none.
std::size_t terminal_width();

/// Text in one of eight colours that colour-blind people tell apart (Okabe and Ito 2008).
/// @param colour  counts from 0 and on from the first after the last
std::string painted(const std::string& text, std::size_t colour, bool colours);

/// Black text on one of the same colours.
std::string filled(const std::string& text, std::size_t colour, bool colours);

/// One part of a bar: a share of the whole, drawn with a letter of its own.
struct BarPart {
  double share = 0;
  char letter = ' ';
};

/// A bar of exactly `width` letters; the parts get letters by largest remainder, and with colours
/// those of painted() in their order.
std::string bar(const std::vector<BarPart>& parts, std::size_t width, bool colours);

}  // namespace pipecast
