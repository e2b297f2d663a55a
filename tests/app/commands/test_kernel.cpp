#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <set>
#include <sstream>

#include "app/kernel/kernel_table.hpp"
#include "app/report/kernel_report.hpp"
#include "base/error.hpp"
#include "model/machines.hpp"
#include "run_command.hpp"

using namespace pipecast;
using namespace pipecast::testing;
using Catch::Contains;
using Json = nlohmann::json;

namespace {

const std::vector<std::string> kProduct = {"gemm", "--m", "4096", "--n", "7168", "--k", "2048"};

Json kernel(std::vector<std::string> arguments, const std::vector<std::string>& more = {}) {
  arguments.insert(arguments.end(), more.begin(), more.end());
  return run_command("kernel", arguments);
}

/// A table on disk and what the command makes of it.
Json table(const std::string& content, std::vector<std::string> arguments) {
  const TemporaryFile file("kernel-table");
  std::ofstream(file.path()) << content;
  arguments.insert(arguments.end(), {"--table", file.path()});
  return kernel(arguments);
}

/// A cost in which every number is another, so that a text cannot confuse them.
KernelAnswer answer() {
  KernelAnswer out;
  out.prediction.operation = {.op = "gemm_fp8",
                              .precision = Precision::kFp8,
                              .m = 1024,
                              .n = 2048,
                              .k = 4096,
                              .flops = Flops(2.0 * 1024 * 2048 * 4096)};
  out.prediction.sms = 100;
  KernelCost& cost = out.prediction.cost;
  cost.time = microseconds(125);
  cost.clock = Frequency(0.8e9);
  cost.cycles = 100'000;
  cost.flops = out.prediction.operation.flops;
  cost.hbm_bytes = Bytes(12'500'000);
  cost.l2_bytes = Bytes(50'000'000);
  cost.limited_by = Limit::kPromotion;
  cost.tiling = {.block_m = 128, .block_n = 96, .blocks = 176, .waves = 2};
  cost.parts = {KernelPart{"prologue", 10'000}, KernelPart{"tensor", 60'000},
                KernelPart{"promotion", 30'000}, KernelPart{"feed", 0}};
  out.shape = {{"m", "1024"}, {"n", "2048"}, {"k", "4096"}, {"groups", "1", true}};
  return out;
}

KernelMachine machine() {
  return {.gpu = round_gpu(), .calibration = ideal_calibration(), .calibration_file = "ideal.yaml"};
}

}  // namespace

TEST_CASE("`kernel` gives the keys of the contract", "[commands][kernel]") {
  const Json out = kernel(kProduct);
  REQUIRE(out.at("op") == "gemm_fp8");
  REQUIRE(out.at("gpu") == "h800");
  REQUIRE(out.at("sms") == 132);
  REQUIRE(out.at("shape").at("m") == 4096);
  REQUIRE(out.at("shape").at("n") == 7168);
  REQUIRE(out.at("shape").at("k") == 2048);
  const double flops = 2.0 * 4096 * 7168 * 2048;
  REQUIRE(out.at("flops") == flops);
  const double time_us = out.at("time_us");
  REQUIRE(out.at("tflops").get<double>() == Approx(flops / time_us * 1e-6));
  REQUIRE(out.at("cycles").get<double>() ==
          Approx(time_us * 1e3 * out.at("clock_ghz").get<double>()).epsilon(1e-6));
  REQUIRE(out.at("bytes_hbm").get<double>() > 0);
  REQUIRE(out.at("bytes_l2").get<double>() >= 0);
  REQUIRE(time_us >= out.at("roofline_us").get<double>());
  REQUIRE(out.at("calibration").at("measured_on_this_gpu") == true);
  REQUIRE_FALSE(out.at("calibration").at("source").get<std::string>().empty());
  for (const char* key : {"block_m", "block_n", "blocks", "waves"}) {
    REQUIRE(out.at("tiling").at(key).get<std::int64_t>() >= 0);
  }
  const std::vector<std::string> limits = {"tensor",    "hbm",   "l2",      "smem",
                                           "promotion", "issue", "latency", "occupancy"};
  REQUIRE(std::count(limits.begin(), limits.end(), out.at("limited_by")) == 1);
}

TEST_CASE("the parts of a kernel's cycles add up to them", "[commands][kernel][property]") {
  const std::string m = GENERATE("1", "128", "4096", "5000");
  const std::string k = GENERATE("64", "7168");
  const std::string precision = GENERATE("fp8", "bf16");
  const Json out = kernel({"gemm", "--m", m, "--n", "7168", "--k", k, "--precision", precision});
  double sum = 0;
  for (const auto& [name, cycles] : out.at("parts").items()) sum += cycles.get<double>();
  CAPTURE(m, k, precision);
  REQUIRE(sum == Approx(out.at("cycles").get<double>()).epsilon(1e-6));
}

TEST_CASE("options of the command line choose kernel, SMs and GPU", "[commands][kernel]") {
  REQUIRE(kernel(kProduct, {"--precision=bf16"}).at("op") == "gemm_bf16");
  REQUIRE(kernel(kProduct, {"--groups", "8"}).at("op") == "grouped_gemm_fp8");
  REQUIRE(kernel(kProduct, {"--groups", "1"}).at("op") == "gemm_fp8");
  REQUIRE(kernel({"--gpu", "h100", "gemm-bf16-wgrad", "--m=128", "--n=128", "--k=128"}).at("op") ==
          "gemm_bf16_wgrad");
  const Json half = kernel(kProduct, {"--sms", "66"});
  REQUIRE(half.at("sms") == 66);
  REQUIRE(half.at("time_us") > kernel(kProduct).at("time_us"));
  const Json foreign = kernel(kProduct, {"--gpu", "a100", "--precision", "bf16"});
  REQUIRE(foreign.at("gpu") == "a100");
  REQUIRE(foreign.at("calibration").at("gpu") == "h800");
  REQUIRE(foreign.at("calibration").at("measured_on_this_gpu") == false);
  const std::string h100 = PIPECAST_SOURCE_DIR "/configs/calibration/h100.yaml";
  REQUIRE(kernel(kProduct, {"--calibration", h100}).at("calibration").at("file") == h100);
}

TEST_CASE("`kernel` refuses what makes no prediction", "[commands][kernel]") {
  // The usage names the operation's options.
  const std::string usage = "; usage: pipecast kernel gemm --m M --n N --k K [--groups GROUPS]";
  REQUIRE_THROWS_WITH(
      kernel(kProduct, {"--group", "8"}),
      Catch::StartsWith("unknown option '--group', did you mean --groups?" + usage));
  REQUIRE_THROWS_WITH(kernel(kProduct, {"--heads", "8"}),
                      Contains("unknown option '--heads'") && Contains(usage));
  REQUIRE_THROWS_WITH(kernel({}), "OP is missing; usage: pipecast kernel OP [options]");
  REQUIRE_THROWS_WITH(kernel({"gemm", "--m", "1", "--n", "1"}),
                      Catch::StartsWith("--k is missing: depth"));
  REQUIRE_THROWS_WITH(kernel({"gemm", "--m", "many", "--n", "1", "--k", "1"}),
                      "m: 'many' is not a whole number from 0 on");
  REQUIRE_THROWS_WITH(kernel({"gemm", "--m", "0", "--n", "1", "--k", "1"}),
                      "gemm_fp8: extents must be positive: m=0 n=1 k=1 groups=1");
  REQUIRE_THROWS_WITH(kernel(kProduct, {"--sms", "133"}),
                      "sms: 133 is not within 1 and the 132 of a h800");
  REQUIRE_THROWS_WITH(kernel(kProduct, {"--sms", "all"}),
                      "sms: 'all' is not a whole number from 0 on");
  REQUIRE_THROWS_WITH(kernel(kProduct, {"--gpu", "a100"}),
                      Contains("a100 has no fp8 tensor cores"));
  REQUIRE_THROWS_WITH(kernel(kProduct, {"--worst", "3"}),
                      "--worst counts rows of a table; give --table too");
  REQUIRE_THROWS_WITH(kernel({"gemm", "--table", "a.csv", "--explain"}),
                      "--explain is for one shape, --table for many");
  REQUIRE_THROWS_WITH(kernel({"gemm", "--table", "nowhere.csv"}), Contains("nowhere.csv"));
}

TEST_CASE("every operation with options is predicted by them", "[commands][kernel]") {
  const auto& kernels = Registry<KernelKind>::instance();
  for (const std::string& name : kernels.names()) {
    const KernelKind& kind = kernels.find(name);
    if (kind.make == nullptr) continue;
    std::vector<std::string> arguments = {hyphened(name)};
    for (const KernelOption& option : kind.options) {
      if (option.fallback) continue;
      arguments.push_back("--" + hyphened(option.name));
      arguments.push_back(option.names.empty() ? "128" : std::string(option.names.front().name));
    }
    CAPTURE(name);
    REQUIRE(kernel(arguments).at("op") == name);
  }
}

TEST_CASE("rows of a table keep their order and columns, numbers as numbers",
          "[commands][kernel]") {
  const Json out = table(
      "note,k,m,n,groups,weight\n"
      "a,512,4096,4096,1,0.5\n"
      "7,128,64,128,1,\n",
      {"gemm"});
  const Json& rows = out.at("rows");
  REQUIRE(rows.size() == 2);
  REQUIRE(rows[0].at("note") == "a");
  REQUIRE(rows[0].at("k") == 512);
  REQUIRE(rows[0].at("weight") == 0.5);
  REQUIRE(rows[1].at("note") == 7);
  REQUIRE(rows[1].at("weight") == "");
  REQUIRE_FALSE(out.contains("errors"));
  const Json single = kernel({"gemm", "--m", "4096", "--n", "4096", "--k", "512"});
  REQUIRE(rows[0].at("predicted_us") == single.at("time_us"));
}

TEST_CASE("a row of several groups is a grouped product", "[commands][kernel]") {
  const Json out = table("m,n,k,groups\n4096,4096,512,8\n4096,4096,512,1\n", {"gemm"});
  REQUIRE(out.at("op") == "gemm_fp8, grouped_gemm_fp8");
  const std::vector<std::string> shape = {"--m", "4096", "--n", "4096", "--k", "512"};
  std::vector<std::string> grouped = {"grouped-gemm", "--groups", "8"};
  REQUIRE(out.at("rows")[0].at("predicted_us") == kernel(grouped, shape).at("time_us"));
  REQUIRE(out.at("rows")[1].at("predicted_us") == kernel({"gemm"}, shape).at("time_us"));
}

TEST_CASE("errors of a measured table are those of its rows", "[commands][kernel]") {
  const std::string file = PIPECAST_SOURCE_DIR "/traces/deepgemm/gemm_fp8_2025-03-25.csv";
  const Json out = kernel({"gemm", "--table", file});
  std::vector<double> all;
  std::vector<double> large;
  double bias = 0;
  for (const Json& row : out.at("rows")) {
    const double error = row.at("predicted_us").get<double>() / row.at("time_us").get<double>() - 1;
    const double flop =
        2 * row.at("m").get<double>() * row.at("n").get<double>() * row.at("k").get<double>();
    bias += error;
    all.push_back(std::abs(error));
    if (flop >= 20e9) large.push_back(std::abs(error));
  }
  const auto worst = [](const std::vector<double>& e) {
    return *std::max_element(e.begin(), e.end());
  };
  const Json& errors = out.at("errors");
  REQUIRE(errors.at("rows") == all.size());
  REQUIRE(errors.at("worst").get<double>() == Approx(worst(all)));
  REQUIRE(errors.at("bias").get<double>() == Approx(bias / static_cast<double>(all.size())));
  REQUIRE(errors.at("p90") >= errors.at("median"));
  REQUIRE(errors.at("worst") >= errors.at("p90"));
  REQUIRE(out.at("errors_large").at("rows") == large.size());
  REQUIRE(out.at("errors_large").at("worst").get<double>() == Approx(worst(large)));
  REQUIRE(out.at("errors_small").at("rows") == all.size() - large.size());
}

TEST_CASE("where no row is large there is nothing to say of large ones", "[commands][kernel]") {
  const Json out = table("m,n,k,time_us\n64,64,64,3\n", {"gemm"});
  REQUIRE(out.at("errors_large") == Json{{"rows", 0}});
  REQUIRE(out.at("errors_small").at("rows") == 1);
}

TEST_CASE("the table of the worst rows begins with the worst and is as long as asked",
          "[commands][kernel]") {
  const TemporaryFile file("kernel-table");
  std::ofstream(file.path()) << "m,n,k,time_us\n64,64,64,3\n64,64,64,1000000\n64,64,64,0.5\n";
  const CsvTable csv(file.path());
  const KernelName name = kernel_name("gemm", {});
  const KernelMachine h800 = kernel_machine("h800", {});
  const std::vector<KernelTableRow> rows = predict_table(
      csv, name, {std::vector<std::optional<std::int64_t>>(options_of(name).size()), {}}, h800);
  const KernelTableAnswer answer{name, csv, rows};
  const auto text = [&](std::size_t worst) { return kernel_table_text(answer, h800, worst); };
  REQUIRE_THAT(text(0), Contains("3 rows of gemm_fp8 on h800") && !Contains("worst rows"));
  REQUIRE_THAT(text(2), Contains("The 2 worst rows"));
  REQUIRE_THAT(text(9), Contains("The 3 worst rows"));
  std::istringstream lines(text(1).substr(text(1).find("The 1 worst rows")));
  std::string line;
  for (int i = 0; i < 5; ++i) std::getline(lines, line);  // title, blank, header, rule, row
  // Half a microsecond is less than any kernel takes: the relative error has no bound above.
  REQUIRE_THAT(line, Catch::StartsWith("4 "));
}

TEST_CASE("a prediction's text has its numbers once with their units", "[commands][kernel]") {
  // 2 * 1024 * 2048 * 4096 flop in 125 us are 137 TFLOP/s of the round machine's 200.
  const std::string text = kernel_text(answer(), machine());
  for (const char* part :
       {"m=1024 n=2048 k=4096", "round, all 100 SMs", "125.00 us, 100,000 cycles at 0.800 GHz",
        "promotion to FP32", "137 TFLOP/s, 68.7 % of peak", "12.5 MB, 100 GB/s",
        "50.0 MB, 400 GB/s", "ideal.yaml, measured on round"}) {
    REQUIRE_THAT(text, Contains(part));
  }
  REQUIRE_THAT(text, !Contains("groups=1"));  // what holds anyway is left out
}

TEST_CASE("an explanation tells tiles, waves, limit, bytes, cycles and clock",
          "[commands][kernel]") {
  const std::string text = kernel_explanation(answer(), machine());
  for (const char* part : {
           "gemm_fp8 on round, all 100 SMs: m=1024 n=2048 k=4096",
           "125.00 us at 0.800 GHz are 100,000 cycles", "Promotion: the partial sums",
           "176 tiles of 128 x 96 elements", "in 2 waves",
           "the last wave has 76 of them",  // 176 = 100 + 76
           "leaves 24 SMs idle",
           "88.0 %",  // 176 of 200 places
           "sum        100,000  100.0 %",
           "tensor      60,000   60.0 %  ##################\n",  // 60 % of 30
           "100 GB/s   10.0 %          1,374",                   // flop over 12.5 MB
           "400 GB/s                     344", "68.7 % of the fp8 peak",
           "85.9 % of what they could do at the sustained clock",  // 137.4 of 160
       }) {
    REQUIRE_THAT(text, Contains(part));
  }
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) REQUIRE(line.size() <= 100);
  REQUIRE_THAT(text, !Contains("feed"));    // a part without cycles
  REQUIRE_THAT(text, !Contains("\n  % "));  // a number and its unit stay together
}

TEST_CASE("every limit is explained in words of its own", "[commands][kernel][property]") {
  std::set<std::string> texts;
  for (const Limit limit : {Limit::kTensor, Limit::kHbm, Limit::kL2, Limit::kSmem,
                            Limit::kPromotion, Limit::kIssue, Limit::kLatency, Limit::kOccupancy}) {
    KernelAnswer some = answer();
    some.prediction.cost.limited_by = limit;
    texts.insert(kernel_explanation(some, machine()));
  }
  REQUIRE(texts.size() == 8);
}

TEST_CASE("an explanation copes with kernels that count no blocks or no operations",
          "[commands][kernel]") {
  KernelAnswer copy = answer();
  copy.prediction.operation.precision = Precision::kFp32;
  copy.prediction.cost.flops = {};
  copy.prediction.cost.tiling = {};
  const std::string text = kernel_explanation(copy, machine());
  REQUIRE_THAT(text, Contains("counts no thread blocks") && !Contains("TFLOP/s") &&
                         !Contains("nan") && !Contains("inf"));
  KernelAnswer many = answer();
  many.prediction.cost.tiling = {.blocks = 4096, .waves = 6};
  REQUIRE_THAT(
      kernel_explanation(many, machine()),
      Contains("cut into 4,096 thread blocks") && Contains("in 6 waves, 6.8 of them on an SM"));
  KernelAnswer few = answer();
  few.prediction.cost.tiling = {.block_m = 64, .block_n = 64, .blocks = 7, .waves = 1};
  REQUIRE_THAT(kernel_explanation(few, machine()), Contains("all run at once, on 7 of 100 SMs"));
}

TEST_CASE("constants of another GPU are named as such", "[commands][kernel]") {
  KernelMachine other = machine();
  other.gpu.name = "new";
  REQUIRE_THAT(kernel_text(answer(), other), Contains("measured on round and not on new"));
  REQUIRE_THAT(kernel_explanation(answer(), other), Contains("measured on round and not on new"));
}

TEST_CASE("`kernel --roofline` draws one prediction, or all of a table", "[commands][kernel]") {
  const TemporaryFile file("roofline");
  kernel(kProduct, {"--roofline", file.path()});
  const std::string one = text_of(file.path());
  REQUIRE_THAT(one, Catch::StartsWith("<svg ") && Contains("gemm_fp8 on h800") &&
                        Contains("m=4096 n=7168 k=2048") && Contains("limited by"));
  table("m,n,k,time_us\n64,64,64,3\n4096,4096,4096,100\n", {"gemm", "--roofline", file.path()});
  REQUIRE_THAT(text_of(file.path()), Contains("2 shapes, all 132 SMs") && Contains("measured"));
  REQUIRE_THROWS_WITH(kernel(kProduct, {"--roofline", "/nowhere/a.svg"}),
                      "/nowhere/a.svg: cannot be written");
}

TEST_CASE("a roofline picture has the vendor's roof and the sustained clock's",
          "[commands][kernel]") {
  const RooflinePicture picture = roofline_picture(answer(), machine());
  REQUIRE(picture.slopes.at(0).bandwidth.count() == 1e12);
  REQUIRE(picture.ceilings.size() == 2);
  REQUIRE(picture.ceilings[0].rate.count() == 200e12);
  REQUIRE(picture.ceilings[1].rate.count() == Approx(160e12));  // 0.8 of 1 GHz
  REQUIRE(picture.predicted.at(0).intensity == Approx(2.0 * 1024 * 2048 * 4096 / 12.5e6));
  KernelAnswer copy = answer();
  copy.prediction.cost.flops = {};
  REQUIRE_THROWS_WITH(roofline_picture(copy, machine()),
                      "--roofline: gemm_fp8 computes nothing that could be drawn");
}

TEST_CASE("`list operations` tells every operation's options", "[commands][kernel]") {
  const Json list = run_command("list", {"operations"});
  const auto named = [&](const std::string& name) {
    return *std::find_if(list.begin(), list.end(),
                         [&](const Json& item) { return item.at("name") == name; });
  };
  const Json& gemm = named("grouped_gemm_fp8");
  REQUIRE_THAT(gemm.at("description").get<std::string>(), Contains("grouped-gemm --precision fp8"));
  const auto& kernels = Registry<KernelKind>::instance();
  for (const std::string& name : kernels.names()) {
    const std::span<const KernelOption> options = kernels.find(name).options;
    const Json& item = named(name);
    REQUIRE(item.contains("options") == !options.empty());
    for (std::size_t i = 0; i < options.size(); ++i) {
      const Json& option = item.at("options").at(i);
      const std::string description = option.at("description");
      REQUIRE(option.at("name") == hyphened(options[i].name));
      REQUIRE_THAT(description, Catch::StartsWith(std::string(options[i].meaning)));
      REQUIRE((description.find("(default ") != std::string::npos) ==
              options[i].fallback.has_value());
      for (const NamedValue& word : options[i].names) {
        REQUIRE_THAT(description, Contains(std::string(word.name)));
      }
    }
  }
}
