/// Pictures as self-contained SVG: the little that the reports' drawings have in common.
#pragma once

#include <fmt/format.h>

#include <iterator>
#include <string>
#include <string_view>
#include <utility>

namespace pipecast {

/// Text and lines; paler ones.
inline constexpr std::string_view kInk = "#222222";
inline constexpr std::string_view kPale = "#6B6B6B";
inline constexpr std::string_view kGridLine = "#E4E4E4";
// Okabe and Ito 2008: colours that colour-blind people tell apart.
inline constexpr std::string_view kBlue = "#0072B2";
inline constexpr std::string_view kGreen = "#009E73";
inline constexpr std::string_view kVermilion = "#D55E00";

/// Text as markup has it; characters beyond ASCII become question marks.
std::string escaped(std::string_view text);

enum class Anchor { kStart, kMiddle, kEnd };

/// A drawing in pixels, from the upper left corner. Texts are escaped().
class SvgCanvas {
 public:
  /// Opens the picture with a white ground; its title is for those who cannot see it.
  void begin(double width, double height, std::string_view title);

  /// @returns the whole picture
  std::string finish();

  /// Text with a white rim, so that it can be read across lines.
  /// @param y  of the base line
  void text(double x, double y, std::string_view content, int size, std::string_view colour,
            Anchor anchor = Anchor::kStart, double angle = 0, bool bold = false);

  /// Text without a rim, for filled shapes.
  void label(double x, double y, std::string_view content, int size, std::string_view colour);

  void line(double x1, double y1, double x2, double y2, std::string_view colour, double width,
            std::string_view dashes = "");

  void box(double x, double y, double width, double height, std::string_view colour,
           double opacity = 1);

 protected:
  /// Appends markup as it is.
  template <class... Args>
  void add(fmt::format_string<Args...> format, Args&&... args) {
    fmt::format_to(std::back_inserter(out_), format, std::forward<Args>(args)...);
  }

 private:
  std::string out_;
};

}  // namespace pipecast
