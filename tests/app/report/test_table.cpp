#include <unistd.h>

#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <cstdlib>
#include <string>
#include <vector>

#include "app/report/table.hpp"

using namespace pipecast;

TEST_CASE("columns are as wide as their widest cell, text left and numbers right", "[table]") {
  Table table({"part", "s", "note"}, {2});
  table.add({"forward", "12.5", "x"});
  table.add({"b", "3.25", "longer"});
  REQUIRE(table.text() ==
          "part        s  note\n"
          "---------------------\n"
          "forward  12.5  x\n"
          "b        3.25  longer\n");
}

TEST_CASE("a column is aligned by what a terminal shows, not by bytes", "[table]") {
  REQUIRE(display_width("µs") == 2);
  REQUIRE(display_width("plain") == 5);
  REQUIRE(display_width("") == 0);
  Table table({"a", "b"});
  table.add({"µ", "1"});
  table.add({"m", "2"});
  REQUIRE(table.text() == "a  b\n----\nµ  1\nm  2\n");
}

TEST_CASE("a bar is exactly as wide as asked and shares by largest remainder",
          "[table][property]") {
  const std::size_t width = GENERATE(as<std::size_t>{}, 1, 7, 60, 200);
  const std::vector<BarPart> parts = {{1, 'a'}, {0, 'b'}, {1e-9, 'c'}, {2.5, 'd'}, {1, 'e'}};
  const std::string drawn = bar(parts, width, false);
  REQUIRE(drawn.size() == width);
  REQUIRE(std::is_sorted(drawn.begin(), drawn.end()));  // parts keep their order
  const double total = 4.5 + 1e-9;
  for (const BarPart& part : parts) {
    const auto count = static_cast<double>(std::count(drawn.begin(), drawn.end(), part.letter));
    REQUIRE(std::abs(count - part.share / total * static_cast<double>(width)) < 1);
  }
}

TEST_CASE("a bar of nothing is blank", "[table]") {
  REQUIRE(bar({}, 4, true) == "    ");
  REQUIRE(bar({{0, 'a'}}, 4, true) == "    ");
}

TEST_CASE("colours only add to the letters", "[table]") {
  const std::vector<BarPart> parts = {{1, 'a'}, {3, 'b'}};
  std::string plain;
  bool in_code = false;
  for (const char c : bar(parts, 8, true)) {
    if (c == '\x1b') in_code = true;
    if (!in_code) plain += c;
    if (c == 'm') in_code = false;
  }
  REQUIRE(plain == bar(parts, 8, false));
  REQUIRE(plain == "aabbbbbb");
}

TEST_CASE("NO_COLOR and a pipe take the colours away", "[table]") {
  // Tests run without a terminal on standard output, so whatever NO_COLOR says there are none.
  if (isatty(STDOUT_FILENO) == 0) REQUIRE_FALSE(colours_wanted());
  setenv("NO_COLOR", "1", 1);
  REQUIRE_FALSE(colours_wanted());
  unsetenv("NO_COLOR");
}
