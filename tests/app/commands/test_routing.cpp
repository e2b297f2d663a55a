#include <catch2/catch.hpp>
#include <sstream>

#include "app/config/load.hpp"
#include "base/error.hpp"
#include "model/operations/operation.hpp"
#include "run_command.hpp"

using namespace pipecast;
using namespace pipecast::testing;
using Catch::Contains;
using Catch::Matchers::WithinAbs;
using Catch::Matchers::WithinRel;
using Json = nlohmann::json;

namespace {

const std::string kTiny = PIPECAST_SOURCE_DIR "/configs/scenarios/tiny-moe-h100.yaml";

std::vector<std::string> zipf(double exponent) {
  return {"--set", "routing.distribution=zipf", "--set",
          "routing.exponent=" + std::to_string(exponent)};
}

/// Two layers and two micro-batches of tiny-moe.
Json study(const std::vector<std::string>& more = {}) {
  std::vector<std::string> arguments = {kTiny, "--layers", "2", "--micro-batches", "2"};
  arguments.insert(arguments.end(), more.begin(), more.end());
  return run_command("routing", arguments);
}

Json study(std::vector<std::string> first, const std::vector<std::string>& then) {
  first.insert(first.end(), then.begin(), then.end());
  return study(first);
}

double time_of(const Json& study, const std::string& variant) {
  for (const Json& one : study.at("variants")) {
    if (one.at("name") == variant) return one.at("time_s").get<double>();
  }
  throw std::runtime_error("no variant " + variant);
}

}  // namespace

TEST_CASE("balanced routing is even everywhere and costs nothing", "[commands][routing]") {
  const Json out = study();
  for (const char* of : {"expert", "gpu", "node"}) {
    CAPTURE(of);
    const Json& load = out.at("load").at(of);
    REQUIRE_THAT(load.at("max_over_mean").get<double>(), WithinAbs(1, 1e-6));
    REQUIRE_THAT(load.at("gini").get<double>(), WithinAbs(0, 1e-6));
  }
  for (const char* exchange : {"dispatch", "combine"}) {
    const Json& volume = out.at("all_to_all").at(exchange);
    REQUIRE(volume.at("time_us") == volume.at("balanced_time_us"));
    REQUIRE(volume.at("nic_bytes").at("mean") == volume.at("nic_bytes").at("busiest"));
  }
  REQUIRE(out.at("step").at("time_s") == out.at("balanced").at("time_s"));
  REQUIRE(out.at("bias").is_null());
  REQUIRE(out.at("exact").empty());
}

TEST_CASE("an all-to-all carries a token once to every other node, in FP8 there and BF16 back",
          "[commands][routing]") {
  const Json out = study(zipf(0.3));
  const ModelSpec model = load_scenario(kTiny, {}).scenario.model;
  const Json& all = out.at("all_to_all");
  const auto tokens = out.at("group").at("tokens_per_gpu").get<double>();
  const auto nodes = out.at("group").at("nodes").get<double>();
  REQUIRE(nodes == 2);  // 16 GPUs, eight a node
  const double copies =
      tokens * all.at("nodes_per_token").get<double>() * (nodes - 1) / nodes;  // own node: none
  const auto bytes = [&](Precision precision) {
    return copies * static_cast<double>(stored_bytes(precision, 1, model.hidden_size).count());
  };
  constexpr double kSampled = 0.01;  // nodes per token of balanced routing come from a sample
  const auto mean = [&](const char* exchange) {
    return all.at(exchange).at("nic_bytes").at("mean").get<double>();
  };
  REQUIRE_THAT(mean("dispatch"), WithinRel(bytes(Precision::kFp8), kSampled));
  REQUIRE_THAT(mean("combine"), WithinRel(bytes(Precision::kBf16), kSampled));
  for (const char* port : {"nic_bytes", "nvlink_bytes"}) {
    REQUIRE(all.at("dispatch").at(port).at("busiest") > all.at("dispatch").at(port).at("mean"));
  }
}

TEST_CASE("a skewed gate slows the step and the bias rule brings it back", "[commands][routing]") {
  const Json out = study(zipf(0.5), {"--steps", "200"});
  const Json& violations = out.at("bias").at("max_violation");
  REQUIRE(violations.size() == 200);
  REQUIRE(out.at("bias").at("worst_layer").front() >= violations.front());
  REQUIRE(violations.back() < 0.1 * violations.front().get<double>());
  const double even = time_of(out, "balanced");
  const double skewed = time_of(out, "without the bias rule");
  const double evened = time_of(out, "zipf, as in the scenario");
  REQUIRE(even <= evened);
  REQUIRE(evened - even < 0.1 * (skewed - even));
  const Json alone = study(zipf(0.5));
  REQUIRE(time_of(alone, "zipf, as in the scenario") == skewed);
  REQUIRE(out.at("config").at("routing").at("bias").at("steps") == 200);
}

TEST_CASE("loads of all draws are the means of the layers'", "[commands][routing]") {
  const Json out = study(zipf(0.5));
  for (const char* of : {"expert", "gpu", "node"}) {
    for (const char* key : {"max_over_mean", "max_violation", "gini", "coefficient_of_variation"}) {
      CAPTURE(of, key);
      const auto layer = [&](std::size_t i) {
        return out.at("layers").at(i).at(of).at(key).get<double>();
      };
      REQUIRE_THAT(out.at("load").at(of).at(key).get<double>(),
                   WithinRel((layer(0) + layer(1)) / 2, 1e-12));
    }
    const Json& load = out.at("load").at(of);
    REQUIRE(load.at("worst") >= load.at("max_over_mean"));
  }
}

TEST_CASE("a capacity factor drops what an expert is asked for beyond it", "[commands][routing]") {
  const TemporaryFile record("pipecast-test-record");
  const Json out =
      study(zipf(0.5), {"--set", "routing.capacity_factor=1.25", "--record", record.path()});
  std::istringstream lines(text_of(record.path()));
  std::string line;
  std::getline(lines, line);
  REQUIRE(line == "step,layer,rank,expert,tokens");
  std::vector<double> counts;
  while (std::getline(lines, line)) counts.push_back(std::stod(line.substr(line.rfind(',') + 1)));
  const auto experts = out.at("group").at("experts").get<std::size_t>();
  REQUIRE(counts.size() == 2 * 2 * experts);
  double all = 0;
  for (const double count : counts) all += count;
  const double capacity = 1.25 * all / static_cast<double>(counts.size());
  double dropped = 0;
  for (const double count : counts) dropped += std::max(0.0, count - capacity);
  REQUIRE(dropped > 0);
  constexpr double kRounded = 1e-3;  // the record has whole tokens
  REQUIRE_THAT(out.at("load").at("dropped_share").get<double>(),
               WithinRel(dropped / all, kRounded));
  REQUIRE(time_of(out, "without dropping") > time_of(out, "zipf, as in the scenario"));
}

TEST_CASE("redundant experts even the load of GPUs", "[commands][routing]") {
  const Json out = study(zipf(0.5), {"--set", "routing.redundant_experts=16"});
  REQUIRE(time_of(out, "zipf, as in the scenario") < time_of(out, "without redundant experts"));
}

TEST_CASE("a recorded trace is replayed", "[commands][routing]") {
  const TemporaryFile record("pipecast-test-replay");
  study({"--record", record.path()});
  const std::vector<std::string> replay = {"--set", "routing.distribution=trace", "--set",
                                           "routing.trace=" + record.path()};
  const Json out = study(replay);
  constexpr double kNoise =
      0.05;  // 8,192 pairs an expert: standard deviation 1.1 %, of 64 the largest
  REQUIRE_THAT(out.at("load").at("expert").at("max_over_mean").get<double>(), WithinAbs(1, kNoise));
  REQUIRE(out.at("load").at("expert").at("max_over_mean") > 1);
  std::ofstream(record.path()) << "step,layer,rank,expert,tokens\n0,0,0,64,1\n";
  REQUIRE_THROWS_WITH(study(replay), Contains(record.path() + ":2:7: expert: '64' is no whole"));
}

TEST_CASE("the exact sampler stands beside the fast one", "[commands][routing]") {
  const Json out = study(
      {"--exact", "--set", "routing.distribution=dirichlet", "--set", "routing.concentration=10"});
  REQUIRE(out.at("exact").size() == 2);
  constexpr double kAgree = 0.04;  // the fast sampler's error, tests/model/routing
  for (const Json& row : out.at("exact").at(0).at("quantities")) {
    CAPTURE(row.dump());
    const auto exact = row.at("exact").get<double>();
    REQUIRE_THAT(row.at("fast").get<double>(),
                 WithinAbs(exact, kAgree * exact + 3 * row.at("fast_spread").get<double>()));
  }
}

TEST_CASE("the heat map has a cell for every load and is the same every time",
          "[commands][routing]") {
  const TemporaryFile picture("pipecast-test-heat-map");
  const auto boxes = [&](const std::vector<std::string>& more) {
    std::vector<std::string> arguments = zipf(0.5);
    arguments.insert(arguments.end(), {"--svg", picture.path()});
    study(arguments, more);
    const std::string svg = text_of(picture.path());
    REQUIRE_THAT(svg, Catch::StartsWith("<svg ") && Catch::EndsWith("</svg>\n") &&
                          Contains("over the mean of the row"));
    REQUIRE_FALSE(std::filesystem::exists(picture.path() + ".part"));
    return count_of(svg, "<rect ");
  };
  const std::size_t gpus = boxes({});
  REQUIRE(boxes({"--columns", "experts"}) - gpus == 2 * (64 - 16));
  const std::string first = text_of(picture.path());
  REQUIRE(boxes({"--columns", "experts"}) == gpus + 2 * (64 - 16));
  REQUIRE(text_of(picture.path()) == first);
  run_command("routing", {kTiny, "--layers", "1", "--micro-batches", "3", "--rows", "micro-batches",
                          "--svg", picture.path()});
  REQUIRE(count_of(text_of(picture.path()), "<rect ") == gpus + 16);
}

TEST_CASE("the same seed gives the same study, in full mode on any number of threads",
          "[commands][routing]") {
  const std::vector<std::string> uneven = {"--set", "routing.distribution=dirichlet", "--set",
                                           "routing.concentration=10"};
  REQUIRE(study(uneven) == study(uneven));
  REQUIRE(study(uneven, {"--seed", "2"}).at("load") != study(uneven).at("load"));
  REQUIRE(study(uneven, {"--mode", "full", "--threads", "1"}) ==
          study(uneven, {"--mode", "full", "--threads", "2"}));
}

TEST_CASE("the step grows with the Zipf exponent, less with the bias rule", "[commands][routing]") {
  const TemporaryFile picture("pipecast-test-zipf");
  const Json out = study({"--zipf-curve", "--steps", "200", "--svg", picture.path()});
  REQUIRE(out.at("points").size() == 11);
  const auto time = [&](std::size_t point, const char* with) {
    return out.at("points").at(point).at(with).at("time_s").get<double>();
  };
  for (std::size_t i = 1; i < 11; ++i) REQUIRE(time(i, "skewed") > time(i - 1, "skewed"));
  REQUIRE(time(10, "balanced") < time(10, "skewed"));
  REQUIRE(time(0, "skewed") >= out.at("balanced_time_s").get<double>());
  REQUIRE(out.at("points").at(0).at("skewed").at("max_violation").get<double>() < 1e-6);
  REQUIRE_THAT(text_of(picture.path()),
               Contains("Zipf exponent") && Contains("after 200 training steps of the bias rule"));
}

TEST_CASE("`routing` refuses what it cannot study", "[commands][routing]") {
  REQUIRE_THROWS_WITH(study({"--mode", "half"}), "--mode: unknown 'half'; it is folded or full");
  REQUIRE_THROWS_WITH(study({"--rows", "x"}), "--rows: unknown 'x'; it is layers or micro-batches");
  REQUIRE_THROWS_WITH(study({"--columns", "x"}), "--columns: unknown 'x'; it is gpus or experts");
  REQUIRE_THROWS_WITH(study({"--steps", "0"}), "--steps: 0 is not positive");
  REQUIRE_THROWS_WITH(run_command("routing", {kTiny, "--layers", "13"}),
                      "routing: 13 layers are asked for; the model has 12 with experts");
  REQUIRE_THROWS_WITH(run_command("routing", {kTiny, "--zipf-curve", "--layers", "13"}),
                      "routing: 13 layers are asked for; the model has 12 with experts");
  REQUIRE_THROWS_WITH(run_command("routing", {kTiny, "--micro-batches", "0"}),
                      "--micro-batches: 0 is not positive");
  REQUIRE_THROWS_WITH(run_command("routing", {kTiny, "--micro-batches", "100001"}),
                      "--micro-batches: at most 100000");
  REQUIRE_THROWS_WITH(study({"--threads", "0"}), "--threads: 0 is not positive");
  REQUIRE_THROWS_WITH(study({"--bias-svg", "x.svg"}), Contains("--bias-svg: no bias rule runs"));
  REQUIRE_THROWS_WITH(study({"--zipf-curve", "--exact"}),
                      "--exact is of one routing; --zipf-curve studies many");
  REQUIRE_THROWS_WITH(
      study({"--record", "x.csv", "--set", "routing.redundant_experts=16"}),
      "--record: redundant experts change the experts' order; set routing.redundant_experts=0");
  REQUIRE_THROWS_WITH(study({"--svg", "/nowhere/x.svg"}), "/nowhere/x.svg: cannot be written");
}
