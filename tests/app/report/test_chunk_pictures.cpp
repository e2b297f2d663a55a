#include <catch2/catch.hpp>
#include <string>

#include "app/report/chunk_svg.hpp"
#include "app/report/chunk_timeline.hpp"
#include "app/report/table.hpp"

using namespace pipecast;
using Catch::Contains;

namespace {

// Room for 20 letters behind the names of the streams.
constexpr TextStyle kStyle{.width = 32, .colours = false};

TraceRow row(const std::string& phase, const std::string& stream, const std::string& op,
             double start_us, double duration_us) {
  return {.layer = 0,
          .phase = phase,
          .stream = stream,
          .op = op,
          .start_us = start_us,
          .duration_us = duration_us};
}

const std::vector<TraceRow> kRows = {row("attn(F)", "compute", "rope", 0, 5000),
                                     row("mlp(B)", "compute", "rope", 7000, 3000),
                                     row("dispatch(F)", "comm", "ep_notify", 5000, 1000),
                                     row("dispatch(F)", "comm", "ep_dispatch", 6000, 4000)};

std::size_t count(const std::string& text, const std::string& part) {
  std::size_t out = 0;
  for (std::size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) {
    ++out;
  }
  return out;
}

}  // namespace

TEST_CASE("a timeline has a letter for each stretch of time of each stream", "[timeline]") {
  // 10 ms on 20 letters: two a millisecond.
  REQUIRE(timeline_text(kRows, range_of(kRows), kStyle) ==
          "compute     AAAAAAAAAA....mmmmmm\n"
          "comm        ..........--DDDDDDDD\n");
}

TEST_CASE("an axis has its ticks where their times are", "[timeline]") {
  // 10 ms on 40 letters, at most one tick for every 12 of them: 0 and 5, and no room for 10.
  const TextStyle wide{.width = 12 + 40, .colours = false};
  REQUIRE(timeline_axis(range_of(kRows), wide) ==
          "ms" + std::string(10, ' ') + "|0" + std::string(18, ' ') + "|5\n");
}

TEST_CASE("a timeline's letters have a legend within the width", "[timeline]") {
  const std::string legend = timeline_legend(kRows, kStyle);
  REQUIRE_THAT(legend, Contains("A attn(F)") && Contains("m mlp(B)") && Contains("D dispatch(F)") &&
                           Contains("- notify") && !Contains("M mlp(F)"));
}

TEST_CASE("colours change nothing but colours", "[timeline]") {
  std::string coloured =
      timeline_text(kRows, range_of(kRows), {.width = kStyle.width, .colours = true});
  REQUIRE_THAT(coloured, Contains("\x1b[38;5;"));
  for (std::size_t at = coloured.find('\x1b'); at != std::string::npos;
       at = coloured.find('\x1b')) {
    coloured.erase(at, coloured.find('m', at) - at + 1);
  }
  REQUIRE(coloured == timeline_text(kRows, range_of(kRows), kStyle));
  REQUIRE(painted("x", 0, false) == "x");
}

TEST_CASE("ticks are 1, 2 or 5 times a power of ten and not too many", "[timeline]") {
  const double length = GENERATE(0.003, 0.7, 1.0, 9.9, 129.0, 20000.0);
  const double most = GENERATE(1.0, 4.0, 14.0);
  const double step = tick_step(length, most);
  REQUIRE(length / step <= most * (1 + 1e-9));
  // The next smaller one would be too many: it is at least 0.4 times this one.
  REQUIRE(length / (0.4 * step) >= most * (1 - 1e-9));
}

TEST_CASE("a picture has a box for every phase that an eye can part", "[timeline]") {
  const TimelinePicture picture{
      .title = "a <b>", .subtitle = "c", .panels = {{"predicted", kRows}, {"measured", kRows}}};
  const std::string svg = timeline_svg(picture);
  REQUIRE(svg.rfind("<svg ", 0) == 0);
  REQUIRE(svg.substr(svg.size() - 7) == "</svg>\n");
  REQUIRE_THAT(svg, Contains("a &lt;b&gt;") && Contains(">measured<") && !Contains(">wgrad_side<"));
  // The ground, four boxes in each of two panels, four in the legend.
  REQUIRE(count(svg, "<rect ") == 1 + 2 * 4 + 4);
}
