#include <catch2/catch.hpp>
#include <filesystem>
#include <fstream>
#include <map>

#include "app/config/files.hpp"
#include "app/config/load.hpp"

using namespace pipecast;
using namespace pipecast::config;

namespace {

using Files = std::map<std::string, std::string>;

ReadFile reader(const Files& files) {
  return [&files](const std::filesystem::path& path) {
    const auto it = files.find(path.string());
    require(it != files.end(), "cannot be read: no such file");
    return it->second;
  };
}

/// "a.b: value (origin)" for every scalar of the tree.
std::string flat(const Node& node, const std::string& path = "") {
  if (node.is_scalar()) return path + ": " + node.text + " (" + to_text(node.origin) + ")\n";
  std::string out;
  for (std::size_t i = 0; i < node.children.size(); ++i) {
    const std::string key = node.is_map() ? node.keys[i].name : std::to_string(i);
    out += flat(node.children[i], join_path(path, key));
  }
  return out;
}

std::string composed(const Files& files, const std::vector<std::string>& sets = {}) {
  const ReadFile read = reader(files);
  Node root = load_tree("s/main.yaml", read);
  apply_sets(root, sets, read);
  return flat(root);
}

LoadedScenario load_tiny(const std::vector<std::string>& sets) {
  return load_scenario(config_directory() / "scenarios" / "tiny-moe-h100.yaml", sets);
}

}  // namespace

TEST_CASE("extends takes a file's keys, and keys beside it override them", "[config]") {
  REQUIRE(composed({{"s/main.yaml", "extends: ../b/base.yaml\nb: { y: 3 }\n"},
                    {"b/base.yaml", "a: 1\nb: { x: 2, y: 2 }\n"}}) ==
          "a: 1 (b/base.yaml:1:4)\n"
          "b.x: 2 (b/base.yaml:2:9)\n"
          "b.y: 3 (s/main.yaml:2:9)\n");
}

TEST_CASE("extends works at any level, relative to the file it stands in, in chains", "[config]") {
  REQUIRE(composed({{"s/main.yaml", "k: { extends: ../b/one.yaml }\n"},
                    {"b/one.yaml", "extends: c/two.yaml\nv: 1\n"},
                    {"b/c/two.yaml", "v: 0\nw: 2\n"}}) ==
          "k.v: 1 (b/one.yaml:2:4)\n"
          "k.w: 2 (b/c/two.yaml:2:4)\n");
}

TEST_CASE("lists are replaced as wholes, and their elements may extend files", "[config]") {
  REQUIRE(composed({{"s/main.yaml", "extends: base.yaml\nl: [ { extends: e.yaml } ]\n"},
                    {"s/base.yaml", "l: [ 1, 2 ]\n"},
                    {"s/e.yaml", "x: 1\n"}}) == "l.0.x: 1 (s/e.yaml:1:4)\n");
}

TEST_CASE("a chain of files may have 16 of them, no more", "[config]") {
  const auto chain = [](int files) {
    Files out{{"s/main.yaml", "extends: 1.yaml\n"}};
    for (int i = 1; i < files; ++i)
      out["s/" + std::to_string(i) + ".yaml"] = "extends: " + std::to_string(i + 1) + ".yaml\n";
    out["s/" + std::to_string(files - 1) + ".yaml"] = "v: 1\n";
    return out;
  };
  REQUIRE(composed(chain(16)) == "v: 1 (s/15.yaml:1:4)\n");
  REQUIRE_THROWS_WITH(composed(chain(17)),
                      "s/15.yaml:1:10: extends: 's/16.yaml' is the end of a chain of more than 16 "
                      "files");
}

TEST_CASE("files that multiply each other end at 4 MiB of text", "[config]") {
  // Each level takes the next one ten times: ten levels would be 10^10 files.
  Files files;
  for (int i = 0; i < 10; ++i) {
    const std::string next = "{ extends: " + std::to_string(i + 1) + ".yaml }";
    std::string text = "#" + std::string(1'000, ' ') + "\nl:\n";
    for (int j = 0; j < 10; ++j) text += "  - " + next + "\n";
    files["s/" + (i == 0 ? "main" : std::to_string(i)) + ".yaml"] = text;
  }
  files["s/10.yaml"] = "v: 1\n";
  REQUIRE_THROWS_WITH(composed(files),
                      Catch::EndsWith("makes more than 4 MiB of text in all files together"));
}

TEST_CASE("option --set replaces values, list elements by index, and adds keys", "[config]") {
  const Files files{{"s/main.yaml", "a: { b: 1, c: 2 }\nl: [ x, y ]\n"}, {"n.yaml", "b: 7\n"}};
  REQUIRE(composed(files, {"a.b=5", "l.1=z", "a.d=[1]"}) ==
          "a.b: 5 (--set a.b=5)\na.c: 2 (s/main.yaml:1:15)\na.d.0: 1 (--set a.d=[1])\n"
          "l.0: x (s/main.yaml:2:6)\nl.1: z (--set l.1=z)\n");
  // Maps merge as in files, and names of files are relative to the working directory.
  REQUIRE(composed(files, {"a={b: 6}", "l=[]"}) ==
          "a.b: 6 (--set a={b: 6})\na.c: 2 (s/main.yaml:1:15)\n");
  REQUIRE(composed(files, {"a.extends=n.yaml", "l=[]"}) ==
          "a.b: 7 (n.yaml:1:4)\na.c: 2 (s/main.yaml:1:15)\n");
  REQUIRE(composed(files, {"a={extends: n.yaml}", "l=[]"}) ==
          "a.b: 7 (n.yaml:1:4)\na.c: 2 (s/main.yaml:1:15)\n");
  // The last one wins.
  REQUIRE(composed(files, {"a=1", "a=2", "l=[]"}) == "a: 2 (--set a=2)\n");
}

TEST_CASE("a wrong --set names itself", "[config]") {
  const auto message = [](const std::string& set) {
    try {
      load_tiny({set});
    } catch (const Error& e) {
      return std::string(e.what());
    }
    return std::string("no error");
  };
  REQUIRE(message("plan.pp") == "--set plan.pp: expected dotted.path=value, such as plan.pp=8");
  REQUIRE(message("=8") == "--set =8: expected dotted.path=value, such as plan.pp=8");
  REQUIRE(message("plan..pp=8") == "--set plan..pp=8: the path has an empty part");
  REQUIRE(message("plan.=8") == "--set plan.=8: the path has an empty part");
  REQUIRE(message("plan.pp=5") ==
          "--set plan.pp=5: plan.pp: 5 pipeline ranks do not divide the cluster's 64 GPUs");
  REQUIRE(message("plan.pp=") == "--set plan.pp=: plan.pp: is empty; expected a whole number");
  REQUIRE(message("plan.pp=\"4") == "--set plan.pp=\"4: not valid YAML: illegal EOF in scalar");
  REQUIRE(message("plan.pp.x=1") ==
          "--set plan.pp.x=1: plan.pp.x: stands below a value; expected a map");
  REQUIRE(message("recipe.phases.7.name=a") ==
          "--set recipe.phases.7.name=a: recipe.phases.7: there is no such element; the list has "
          "1, counted from 0");
  REQUIRE(message("recipe.phases.first=a") ==
          "--set recipe.phases.first=a: recipe.phases.first: there is no such element; the list "
          "has 1, counted from 0");
  REQUIRE_THAT(message("plan.size=4"),
               Catch::StartsWith("--set plan.size=4: plan.size: unknown key; known keys: "));
  REQUIRE(message("cluster.extends=none.yaml") ==
          "--set cluster.extends=none.yaml: cluster.extends: 'none.yaml' cannot be read: no such "
          "file");
}

TEST_CASE("option --set changes the scenario", "[config]") {
  const Scenario s =
      load_tiny({"cluster.nic.bandwidth=200 Gb/s", "plan.precision={gemm: bf16}",
                 "recipe.phases.0.tokens=1T", "recipe.phases.0.plan.micro_batch_size=4"})
          .scenario;
  REQUIRE(s.cluster.nic.bandwidth == Bandwidth(25e9));
  REQUIRE(s.plan.precision.gemm == Precision::kBf16);
  REQUIRE(s.recipe.phases[0].tokens == Tokens(1'000'000'000'000));
  REQUIRE(s.plan.micro_batch_size == 2);
  REQUIRE(s.recipe.phases[0].plan.micro_batch_size == 4);
  REQUIRE(s.recipe.phases[0].plan.pp == s.plan.pp);
}

TEST_CASE("a phase's plan overrides the scenario's, its layout too", "[config]") {
  const Scenario s = load_tiny({"recipe.phases.0.plan={pp: 2, ep: 32}"}).scenario;
  REQUIRE(s.plan.pipeline_layout.size() == 4);
  REQUIRE(s.recipe.phases[0].plan.pipeline_layout.size() == 2);
  REQUIRE(s.recipe.phases[0].plan.schedule == s.plan.schedule);
}

TEST_CASE("what is no readable file of up to 1 MiB is refused", "[config]") {
  const auto folder = std::filesystem::temp_directory_path() / "pipecast-test-files";
  std::filesystem::create_directories(folder);
  const auto large = folder / "large.yaml";
  std::ofstream(large) << std::string((1 << 20) + 1, ' ');
  REQUIRE_THROWS_WITH(load_tree(large, read_file),
                      large.string() + ": cannot be read: it has more than 1 MiB");
  REQUIRE_THROWS_WITH(load_tree(folder, read_file),
                      folder.string() + ": cannot be read: it is a directory");
  REQUIRE_THROWS_WITH(load_tree(folder / "none", read_file),
                      (folder / "none").string() + ": cannot be read: no such file");
  REQUIRE_THROWS_WITH(load_tree("/dev/null", read_file),
                      "/dev/null: cannot be read: it is no regular file");
  std::filesystem::remove_all(folder);
}
