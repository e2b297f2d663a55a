#include <catch2/catch.hpp>

#include "base/text.hpp"

using namespace pipecast;

TEST_CASE("edit distance counts insertions, deletions, substitutions and swaps", "[base]") {
  REQUIRE(edit_distance("", "") == 0);
  REQUIRE(edit_distance("abc", "abc") == 0);
  REQUIRE(edit_distance("abc", "abcd") == 1);
  REQUIRE(edit_distance("abc", "ac") == 1);
  REQUIRE(edit_distance("abc", "axc") == 1);
  REQUIRE(edit_distance("abc", "acb") == 1);
  REQUIRE(edit_distance("kitten", "sitting") == 3);
}

TEST_CASE("the nearest word is found among close ones only", "[base]") {
  const std::vector<std::string> known = {"bandwidth", "latency", "lanes"};
  REQUIRE(nearest("bandwith", known) == "bandwidth");
  REQUIRE(nearest("lane", known) == "lanes");
  REQUIRE(nearest("oversubscription", known).empty());
  REQUIRE(nearest(std::string(100'000, 'x'), known).empty());
}

TEST_CASE("join puts commas between words", "[base]") {
  REQUIRE(join({}).empty());
  REQUIRE(join({"a"}) == "a");
  REQUIRE(join({"a", "b"}) == "a, b");
}
