/// Curves as self-contained SVG.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace pipecast {

/// A line of it.
struct Series {
  std::string name;
  std::string_view colour;
  std::string_view dashes;                        ///< of SVG, e.g. "7 5"; empty: drawn through
  std::vector<std::pair<double, double>> points;  ///< x, y, from left to right
};

struct Chart {
  std::string title;
  std::string subtitle;
  std::string x_label;
  std::string y_label;
  bool from_zero = false;  ///< whether the vertical axis begins there
  std::vector<Series> series;
};

/// Lines over a common horizontal axis, named in an upper corner.
/// @param chart  with at least one line of at least one point; all reach from the same x to the
///               same
std::string line_chart(const Chart& chart);

}  // namespace pipecast
