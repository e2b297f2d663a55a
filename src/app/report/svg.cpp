#include "app/report/svg.hpp"

#include <array>

namespace pipecast {

std::string escaped(std::string_view text) {
  std::string out;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '&') {
      out += "&amp;";
    } else if (c == '<') {
      out += "&lt;";
    } else if (c == '>') {
      out += "&gt;";
    } else if (c == '"') {
      out += "&quot;";
    } else {
      out += byte < 0x20 || byte >= 0x7f ? '?' : c;
    }
  }
  return out;
}

void SvgCanvas::begin(double width, double height, std::string_view title) {
  add("<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {:g} {:g}\" width=\"{:g}\" "
      "height=\"{:g}\" font-family=\"Inter, 'Segoe UI', Roboto, 'DejaVu Sans', Arial, "
      "sans-serif\" role=\"img\">\n",
      width, height, width, height);
  add("<title>{}</title>\n", escaped(title));
  add("<rect width=\"{:g}\" height=\"{:g}\" fill=\"white\"/>\n", width, height);
}

std::string SvgCanvas::finish() {
  out_ += "</svg>\n";
  return std::move(out_);
}

void SvgCanvas::text(double x, double y, std::string_view content, int size,
                     std::string_view colour, Anchor anchor, double angle, bool bold) {
  static constexpr std::array<std::string_view, 3> kAnchors = {"start", "middle", "end"};
  const std::string safe = escaped(content);
  for (const bool rim : {true, false}) {
    add("<text x=\"{:.1f}\" y=\"{:.1f}\" font-size=\"{}\" text-anchor=\"{}\"", x, y, size,
        kAnchors[static_cast<std::size_t>(anchor)]);
    if (bold) add(" font-weight=\"600\"");
    if (angle != 0) add(" transform=\"rotate({:.2f} {:.1f} {:.1f})\"", angle, x, y);
    if (rim) {
      add(" fill=\"white\" stroke=\"white\" stroke-width=\"4\" stroke-linejoin=\"round\">");
    } else {
      add(" fill=\"{}\">", colour);
    }
    add("{}</text>\n", safe);
  }
}

void SvgCanvas::label(double x, double y, std::string_view content, int size,
                      std::string_view colour) {
  add("<text x=\"{:.1f}\" y=\"{:.1f}\" font-size=\"{}\" text-anchor=\"middle\" fill=\"{}\">{}"
      "</text>\n",
      x, y, size, colour, escaped(content));
}

void SvgCanvas::line(double x1, double y1, double x2, double y2, std::string_view colour,
                     double width, std::string_view dashes) {
  add("<path d=\"M{:.1f} {:.1f}L{:.1f} {:.1f}\" stroke=\"{}\" stroke-width=\"{:g}\"", x1, y1, x2,
      y2, colour, width);
  if (!dashes.empty()) add(" stroke-dasharray=\"{}\"", dashes);
  add(" fill=\"none\"/>\n");
}

void SvgCanvas::box(double x, double y, double width, double height, std::string_view colour,
                    double opacity) {
  add("<rect x=\"{:.2f}\" y=\"{:.1f}\" width=\"{:.2f}\" height=\"{:.1f}\" fill=\"{}\"", x, y, width,
      height, colour);
  if (opacity < 1) add(" fill-opacity=\"{:g}\"", opacity);
  add("/>\n");
}

}  // namespace pipecast
