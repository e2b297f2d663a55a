#include <catch2/catch.hpp>

#include "base/registry.hpp"

using namespace pipecast;

namespace {

struct Fruit {
  int weight = 0;
};
const Register<Fruit> kPear{"pear", {3}};
const Register<Fruit> kApple{"apple", {2}};

}  // namespace

TEST_CASE("a registry is sorted by name and lists its names when one is unknown", "[base]") {
  const auto& registry = Registry<Fruit>::instance();
  REQUIRE(registry.names() == std::vector<std::string>{"apple", "pear"});
  REQUIRE(registry.find("pear").weight == 3);
  REQUIRE(registry.contains("apple"));
  REQUIRE_THROWS_WITH(registry.find("plum"), "unknown name 'plum'; known: apple, pear");
}
