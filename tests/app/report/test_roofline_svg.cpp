#include <catch2/catch.hpp>
#include <cmath>
#include <regex>
#include <string>

#include "app/report/roofline_svg.hpp"

using namespace pipecast;
using Catch::Contains;

namespace {

/// A terabyte and 100 teraflop a second: the corner is at 100 flop a byte.
RooflinePicture picture() {
  return {.title = "product",
          .subtitle = "a shape",
          .slopes = {{"HBM", Bandwidth(1e12)}},
          .ceilings = {{"peak", FlopRate(100e12)}},
          .predicted = {{200, FlopRate(50e12)}}};
}

std::size_t count(const std::string& text, const std::string& part) {
  std::size_t out = 0;
  for (auto at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) ++out;
  return out;
}

}  // namespace

TEST_CASE("tags are balanced and nothing is fetched from elsewhere", "[svg]") {
  RooflinePicture some = picture();
  some.measured = {{10, FlopRate(5e12)}};
  some.slopes.push_back({"L2", Bandwidth(5e12)});
  some.ceilings.push_back({"sustained", FlopRate(80e12)});
  const std::string svg = roofline_svg(some);
  REQUIRE(svg.rfind("<svg ", 0) == 0);
  REQUIRE(svg.substr(svg.size() - 7) == "</svg>\n");
  REQUIRE(count(svg, "<text") == count(svg, "</text>"));
  REQUIRE(count(svg, "<") == 2 * count(svg, "<text") + count(svg, "/>") + 4);  // svg and title
  REQUIRE(count(svg, "http") == 1);                                            // the name space
  for (const char* part : {"HBM 1 TB/s", "L2 5 TB/s", "peak: 100 TFLOP/s", "sustained: 80 TFLOP/s",
                           "predicted", "measured", "FLOP per byte from or to HBM"}) {
    REQUIRE_THAT(svg, Contains(part));
  }
}

TEST_CASE("all coordinates are numbers inside the picture", "[svg][property]") {
  const double intensity = GENERATE(1e-6, 0.3, 100, 1e9);
  const double rate = GENERATE(1e3, 1e12, 90e12);
  RooflinePicture some = picture();
  some.predicted = {{intensity, FlopRate(rate)}, {1, FlopRate(1e12)}};
  const std::string svg = roofline_svg(some);
  CAPTURE(intensity, rate);
  REQUIRE_THAT(svg, !Contains("nan") && !Contains("inf"));
  const std::regex point("[ML](-?[0-9.]+) (-?[0-9.]+)");
  for (auto it = std::sregex_iterator(svg.begin(), svg.end(), point); it != std::sregex_iterator();
       ++it) {
    const double x = std::stod((*it)[1]);
    const double y = std::stod((*it)[2]);
    REQUIRE((x >= 0 && x <= 960 && y >= 0 && y <= 640));
  }
}

TEST_CASE("points at the corner of the roof touch it", "[svg]") {
  // Intensity 100 at 100 TFLOP/s is the corner, where the ceiling's line begins.
  RooflinePicture some = picture();
  some.predicted = {{100, FlopRate(100e12)}, {150, FlopRate(1e12)}};
  const std::string svg = roofline_svg(some);
  std::smatch ceiling;
  REQUIRE(std::regex_search(svg, ceiling,
                            std::regex("M([0-9.]+ [0-9.]+)L[0-9.]+ [0-9.]+\" stroke=\"#222222\" "
                                       "stroke-width=\"2.5\" fill=\"none\"/>\n<text x=\"920.0\"")));
  REQUIRE_THAT(svg, Contains("M" + ceiling[1].str() + "h0"));
}

TEST_CASE("points on one spot are drawn once", "[svg]") {
  RooflinePicture some = picture();
  some.predicted.assign(1000, {200, FlopRate(50e12)});
  REQUIRE(count(roofline_svg(some), "h0") == 1);
}

TEST_CASE("texts from elsewhere cannot break the picture", "[svg]") {
  RooflinePicture some = picture();
  some.title = "<a & \"b\">\n\xff";
  const std::string svg = roofline_svg(some);
  REQUIRE_THAT(svg, Contains("&lt;a &amp; &quot;b&quot;&gt;??"));
}

TEST_CASE("a single point has its label, many have a legend", "[svg]") {
  RooflinePicture some = picture();
  some.label = {"12 us", "limited by HBM"};
  REQUIRE_THAT(roofline_svg(some),
               Contains("12 us") && Contains("limited by HBM") && !Contains("predicted"));
  some.predicted.push_back({10, FlopRate(1e12)});
  REQUIRE_THAT(roofline_svg(some), !Contains("12 us") && Contains("predicted"));
}

TEST_CASE("a point may stand a second time, by the bytes of the second slope", "[svg]") {
  RooflinePicture some = picture();
  some.slopes.push_back({"L2", Bandwidth(5e12)});
  REQUIRE_THAT(roofline_svg(some), !Contains("ring: by the bytes of L2"));
  some.second = RooflinePoint{20, FlopRate(50e12)};
  const std::string svg = roofline_svg(some);
  REQUIRE_THAT(svg, Contains("ring: by the bytes of L2"));
  const std::regex circle("<circle cx=\"([0-9.]+)\" cy=\"([0-9.]+)\"");
  std::sregex_iterator it(svg.begin(), svg.end(), circle);
  const std::smatch ring = *it;
  const std::smatch point = *++it;
  REQUIRE(std::stod(ring[1]) < std::stod(point[1]));  // more bytes, less intensity
  REQUIRE(ring[2] == point[2]);                       // the same rate
}
