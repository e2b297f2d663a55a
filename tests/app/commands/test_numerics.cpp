#include <catch2/catch.hpp>

#include "base/error.hpp"
#include "run_command.hpp"

using namespace pipecast;
using namespace pipecast::testing;
using Catch::Contains;
using Json = nlohmann::json;

namespace {

using Words = std::vector<std::string>;

Json study(const std::string& name, Words more) {
  more.insert(more.begin(), name);
  return run_command("numerics", more);
}

void require_refused(const Words& arguments, const std::string& reason) {
  CAPTURE(reason);
  REQUIRE_THROWS_WITH(run_command("numerics", arguments), Contains(reason));
}

const Words kSmallProduct = {"--k", "256,512", "--rows", "16", "--columns", "16"};

Words small_product(const Words& more) {
  Words out = kSmallProduct;
  out.insert(out.end(), more.begin(), more.end());
  return out;
}

}  // namespace

TEST_CASE("lists give a row for each combination, the last setting fastest",
          "[commands][numerics]") {
  const Json out = study("gemm", small_product({"--bits", "10,13"}));
  REQUIRE(out.at("format") == "pipecast-numerics/1");
  REQUIRE(out.at("study") == "gemm");
  const Json& rows = out.at("rows");
  REQUIRE(rows.size() == 8);  // two of k, by promotion none and 128, by two of bits
  REQUIRE(rows[0].at("k") == 256);
  REQUIRE(rows[0].at("promotion") == "none");
  REQUIRE(rows[0].at("bits") == 10);
  REQUIRE(rows[1].at("bits") == 13);
  REQUIRE(rows[2].at("promotion") == 128);
  REQUIRE(rows[7].at("k") == 512);
  REQUIRE(rows[0].at("tile") == "tensor");
  for (const Json& row : rows) REQUIRE(row.at("accumulation_relative_rms").get<double>() > 0);
}

TEST_CASE("a report's two per cent: K = 4,096 without and with promotion", "[commands][numerics]") {
  // U(0, 1) at K = 4,096: 7.9e-2 and 6.6e-4 in an independent trial, on other numbers.
  const Json rows =
      study("gemm", {"--distribution", "uniform", "--rows", "32", "--columns", "32"}).at("rows");
  REQUIRE(rows[0].at("accumulation_largest_relative").get<double>() == Approx(7.9e-2).epsilon(0.1));
  REQUIRE(rows[1].at("accumulation_largest_relative").get<double>() == Approx(6.6e-4).epsilon(0.1));
}

TEST_CASE("every study gives the same to the last bit on any number of threads",
          "[commands][numerics]") {
  const auto same = [](const std::string& name, Words arguments) {
    arguments.insert(arguments.end(), {"--threads", "1"});
    const Json alone = study(name, arguments);
    arguments.back() = "5";
    REQUIRE(study(name, arguments) == alone);
    arguments.insert(arguments.end(), {"--seed", "2"});
    REQUIRE(study(name, arguments).at("rows") != alone.at("rows"));
  };
  same("gemm", kSmallProduct);
  same("quantise", {"--rows", "64", "--columns", "128", "--outliers", "0,0.01"});
  same("moments", {"--steps", "20,10", "--beta2", "0.95"});
  same("layer", {"--tokens", "16", "--hidden", "128", "--recipe", "bf16,deepseek-v3,gate-fp8"});
}

TEST_CASE("checkpoints of moments stand in their order", "[commands][numerics]") {
  const Json rows =
      study("moments", {"--steps", "20,10", "--beta2", "0.95", "--format", "bf16"}).at("rows");
  REQUIRE(rows.size() == 2);
  REQUIRE(rows[0].at("steps") == 10);
  REQUIRE(rows[1].at("steps") == 20);
}

TEST_CASE("a picture has a line for each combination besides its axis", "[commands][numerics]") {
  const TemporaryFile picture("pipecast-numerics.svg");
  study("gemm", small_product({"--svg", picture.path()}));
  const std::string text = text_of(picture.path());
  REQUIRE_THAT(text, Catch::StartsWith("<svg") && Catch::EndsWith("</svg>\n"));
  // Each name stands twice, with and without its rim; each of two lines has two points.
  REQUIRE(count_of(text, ">promotion none<") == 2);
  REQUIRE(count_of(text, ">promotion 128<") == 2);
  REQUIRE(count_of(text, "<circle") == 4);
  REQUIRE_THAT(text, Contains("bits 13, format e4m3"));
}

TEST_CASE("bad values of the laboratory are refused with what was expected",
          "[commands][numerics]") {
  require_refused({"gem"},
                  "unknown study 'gem', did you mean gemm?; studies: gemm, quantise, "
                  "layer, moments");
  require_refused({}, "STUDY is missing; usage: pipecast numerics gemm|quantise|layer|moments");
  require_refused({"--seed", "5", "gem"}, "unknown study 'gem', did you mean gemm?");
  require_refused({"--svg", "gemm", "quantise"}, "the study's name comes first: numerics quantise");
  require_refused({"gemm", "--k", "100"}, "k = 100: a positive multiple of 32 is expected");
  require_refused({"gemm", "--k", "x"}, "--k: 'x': a whole number from 32 to 1048576 is expected");
  require_refused({"gemm", "--k", "64,64"}, "--k: '64' stands twice");
  require_refused({"gemm", "--k", ""}, "--k: '': a whole number");
  require_refused({"gemm", "--promotion", "never"}, "or none is expected");
  require_refused({"gemm", "--bits", "24"}, "--bits: '24': a whole number from 1 to 23");
  require_refused({"gemm", "--tile", "1x128"}, "need promotion every 128");
  require_refused({"gemm", "--tile", "1x"}, "tensor, row, or ROWSxCOLUMNS such as 1x128");
  require_refused({"gemm", "--format", "bf16"}, "--format: 'bf16': e4m3, e5m2 are expected");
  require_refused({"gemm", "--rows", "8,16"}, "--rows: one number is expected, not a list");
  require_refused({"gemm", "--k", "1048576"}, "operands of at most 67108864 numbers");
  require_refused({"gemm", "--threads", "0"}, "--threads: '0': a whole number from 1 to 1024");
  require_refused({"gemm", "--measure", "x"}, "--measure is of a picture; give --svg too");
  require_refused({"quantise", "--format", "e9m3"}, "or eXmY with X from 2 to 8");
  require_refused({"quantise", "--format", "eXmY"}, "or eXmY with X from 2 to 8");
  require_refused({"quantise", "--outliers", "2"}, "--outliers: '2': a number from 0 to 1");
  require_refused({"quantise", "--outliers", "nan"}, "--outliers: 'nan': a number from 0 to 1");
  require_refused({"quantise", "--scales", "int8"}, "fp32, power-of-two, none are expected");
  require_refused({"quantise", "--rows", "100000", "--columns", "100000"},
                  "tensors of at most 16777216 numbers");
  require_refused({"layer", "--hidden", "200"}, "hidden size 200: a positive multiple of 128");
  require_refused({"layer", "--recipe", "fp4"}, "--recipe: 'fp4': bf16-tensors, ");
  require_refused({"moments", "--rate", "-1"}, "--rate: '-1': a number from 1e-09 to 1");
  require_refused({"moments", "--beta2", "1"}, "--beta2: '1': a number from 0 to 0.9999");
  const TemporaryFile picture("pipecast-numerics-refused.svg");
  require_refused({"gemm", "--k", "64", "--svg", picture.path()},
                  "no option has several values that are all numbers");
  require_refused({"gemm", "--k", "64,128", "--svg", picture.path(), "--measure", "x"},
                  "--measure: unknown 'x'; of this study are accumulation_largest_over_mean, ");
}

TEST_CASE("a chart of what is nowhere above zero and too many lines are refused",
          "[commands][numerics]") {
  const TemporaryFile picture("pipecast-numerics-empty.svg");
  const Words quantise = {"quantise", "--rows",       "16",       "--columns", "128",
                          "--svg",    picture.path(), "--factor", "1,10"};
  Words lost = quantise;
  lost.insert(lost.end(), {"--measure", "lost_to_zero", "--format", "bf16"});
  require_refused(lost, "nothing is above zero");
  Words many = quantise;
  many.insert(many.end(), {"--tile", "tensor,row,1x16,2x16,4x16"});
  require_refused(many, "more than 12 lines cannot be told apart");
  Words long_lists = {"quantise", "--factor"};
  std::string factors = "0";
  for (int i = 1; i < 1000; ++i) factors += "," + std::to_string(i);
  long_lists.push_back(factors);
  require_refused(long_lists, "more than 10000 combinations");
}
