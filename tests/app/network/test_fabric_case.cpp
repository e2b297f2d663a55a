#include <catch2/catch.hpp>
#include <filesystem>
#include <fstream>

#include "app/config/load.hpp"
#include "app/network/fabric_case.hpp"
#include "sim/network/transfers.hpp"

using namespace pipecast;

namespace {

std::filesystem::path shipped_network(const std::string& name) {
  return config_directory() / "networks" / (name + ".yaml");
}

/// A file on the shipped 64-GPU cluster with these collectives.
std::filesystem::path file_with(const std::string& collectives,
                                const std::string& name = "case.yaml") {
  const auto path = std::filesystem::temp_directory_path() / ("pipecast-fabric-" + name);
  std::ofstream out(path);
  out << "format: pipecast-fabric/1\n"
      << "cluster: { extends: " << (config_directory() / "clusters/h100-64.yaml").string() << " }\n"
      << "collectives:\n"
      << collectives;
  return path;
}

std::string message_of(const std::string& collectives) {
  const auto path = file_with(collectives);
  try {
    load_fabric_case(path);
  } catch (const Error& e) {
    const std::string text = e.what();
    return text.rfind(path.string() + ":", 0) == 0 ? text.substr(path.string().size() + 1) : text;
  }
  return "";
}

double makespan(const std::filesystem::path& path, const std::vector<std::string>& sets = {}) {
  return complete_transfers(load_fabric_case(path, sets).network.plan).makespan_s;
}

}  // namespace

TEST_CASE("every shipped network loads and bears its file's name", "[network][fabric]") {
  const std::vector<std::string> names = shipped_names("networks");
  REQUIRE(names.size() == 3);
  for (const std::string& name : names) {
    CAPTURE(name);
    REQUIRE(is_fabric_case(shipped_network(name)));
    REQUIRE(load_fabric_case(shipped_network(name)).network.name == name);
  }
}

TEST_CASE("the fabric of DeepSeek-V3's cluster is counted and costed", "[network][fabric]") {
  const FabricCase fabric = load_fabric_case(shipped_network("expert-parallel-64"));
  // Per plane 256 ports below 8 leaves of 32, whose 256 up-links take 4 spines of 64 ports.
  REQUIRE(fabric.count == FabricCount{.endpoints = 2048, .switches = 8 * 12, .links = 2048});
  REQUIRE(fabric.cost == fabric_cost(fabric.count, FabricPrices{}));
}

TEST_CASE("a price of the file takes the place of the usual one", "[network][fabric]") {
  const FabricCase free =
      load_fabric_case(shipped_network("three-layer-8192"),
                       {"price.switch=0 USD", "price.link=1 USD", "price.endpoint_link=0 USD"});
  REQUIRE(free.cost == Usd(static_cast<double>(free.count.links)));
}

TEST_CASE("static ECMP over eight leaves takes more than twice as long as routing by destination",
          "[network][fabric]") {
  // 2.3 times in SimGrid; the tests of fabric_slowdown say why. Static routing by destination has
  // no collisions here, so it stands for a fabric that spreads its load.
  const auto path = shipped_network("ecmp-eight-leaves");
  const double even = makespan(path, {"cluster.fabric.routing=static"});
  REQUIRE(makespan(path) / even == Approx(2.3).epsilon(0.15));
}

TEST_CASE("GPUs are numbers, ranges and lists of both; copies shift them", "[network][fabric]") {
  const FabricCase fabric = load_fabric_case(file_with(
      "  - { name: a, kind: ring-all-gather, gpus: [0, '8-24 by 8', 63], bytes: 5 MB }\n"
      "  - { name: b, kind: point-to-point, gpus: 0-8 by 8, bytes: 1 MB, copies: 3, shift: 2 }\n"));
  const TransferPlan& plan = fabric.network.plan;
  REQUIRE(plan.groups.size() == 4);
  REQUIRE(plan.groups[3].id == "b.2");
  REQUIRE(plan.flows.size() == 5 * 4 + 3);
  REQUIRE(plan.links[plan.flows.back().links.front()].id == "n0g4.ib.up");
}

TEST_CASE("a collective starts after its time and after what it waits for", "[network][fabric]") {
  const auto path = file_with(
      "  - { name: a, kind: point-to-point, gpus: 0-1, bytes: 1 MB, start: 5 us }\n"
      "  - { name: b, kind: point-to-point, gpus: 2-3, bytes: 1 MB, after: [a] }\n");
  const Completion done = complete_transfers(load_fabric_case(path).network.plan);
  REQUIRE(done.group_s[1] - done.group_s[0] == Approx(done.group_s[0] - 5e-6));
}

TEST_CASE("JSON of the format is read like YAML", "[network][fabric]") {
  const auto path = std::filesystem::temp_directory_path() / "pipecast-fabric-case.json";
  std::ofstream(path) << R"({"format": "pipecast-fabric/1", "cluster": {"extends": ")"
                      << (config_directory() / "clusters/h100-64.yaml").string() << "\"}}";
  REQUIRE(is_fabric_case(path));
  REQUIRE(load_fabric_case(path).network.plan.flows.empty());
}

TEST_CASE("other formats are no fabric", "[network][fabric]") {
  REQUIRE_FALSE(is_fabric_case(config_directory() / "clusters/h100-64.yaml"));
  REQUIRE_FALSE(is_fabric_case("nowhere.yaml"));
}

TEST_CASE("what is wrong with a collective stands where it was written", "[network][fabric]") {
  REQUIRE(message_of("  - { name: a, kind: ring, gpus: 0-3, bytes: 1 MB }\n")
              .rfind("4:22: collectives.0.kind: is 'ring'; expected one of: combine, dispatch,",
                     0) == 0);
  REQUIRE(message_of("  - { name: a, kind: ring-all-gather, gpus: 3-0, bytes: 1 MB }\n") ==
          "4:45: collectives.0.gpus: is '3-0'; expected the number of a GPU or numbers such as "
          "'0-63' or '0-2040 by 8'");
  REQUIRE(message_of("  - { name: a, kind: ring-all-gather, gpus: 0-64, bytes: 1 MB }\n") ==
          "4:45: collectives.0: a: there is no GPU 64; the cluster has 64, from 0");
  REQUIRE(message_of("  - { name: a, kind: dispatch, gpus: 0-7, bytes: 1 kB }\n")
              .find("collectives.0.tokens: is missing; a dispatch has tokens") !=
          std::string::npos);
  REQUIRE(message_of("  - { name: a, kind: ring-all-gather, gpus: 0-7, bytes: 1 kB, tokens: 5 }\n")
              .find("collectives.0.tokens: is of no use; a ring-all-gather moves bytes") !=
          std::string::npos);
  REQUIRE(message_of("  - { name: a, kind: ring-all-gather, gpus: 0-7, bytes: 1 kB, copies: 2 }\n")
              .find("collectives.0.shift: is missing; 2 copies would have the same GPUs") !=
          std::string::npos);
}

TEST_CASE("a failure of nothing is refused where it stands", "[network][fabric]") {
  const auto path = file_with("  - { name: a, kind: point-to-point, gpus: 0-1, bytes: 1 MB }\n");
  REQUIRE_THROWS_WITH(load_fabric_case(path, {"cluster.fabric.failed=[n1g9.ib]"}),
                      "--set cluster.fabric.failed=[n1g9.ib]: cluster.fabric.failed: there is no "
                      "switch or cable 'n1g9.ib'; did you mean 'n1g0.ib'?");
}

TEST_CASE("ends that failures part make the plan impossible", "[network][fabric]") {
  const auto path = file_with("  - { name: a, kind: point-to-point, gpus: [0, 8], bytes: 1 MB }\n");
  std::vector<std::string> sets = {"cluster.fabric.failed=["};
  for (int gpu = 0; gpu < 8; ++gpu) sets[0] += fmt::format("{}n1g{}.ib", gpu == 0 ? "" : ", ", gpu);
  sets[0] += "]";
  REQUIRE_THROWS_AS(load_fabric_case(path, sets), ImpossiblePlan);
}
