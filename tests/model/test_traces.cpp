#include <catch2/catch.hpp>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

namespace {

namespace fs = std::filesystem;

const fs::path kTraces = PIPECAST_SOURCE_DIR "/traces";

std::vector<std::string> cells(const std::string& line) {
  std::istringstream in(line);
  std::vector<std::string> out;
  for (std::string cell; std::getline(in, cell, ',');) out.push_back(cell);
  return out;
}

}  // namespace

TEST_CASE("every folder of measured data says where it comes from", "[traces]") {
  for (const auto& folder : fs::directory_iterator(kTraces)) {
    if (!folder.is_directory()) continue;
    CAPTURE(folder.path().string());
    std::ifstream readme(folder.path() / "README.md");
    std::stringstream text;
    text << readme.rdbuf();
    REQUIRE(text.str().find("ormat version") != std::string::npos);
    // Either fetched from a repository, or made here and measured on nothing.
    const bool synthetic = text.str().find("synthetic") != std::string::npos;
    REQUIRE((synthetic || text.str().find("commit") != std::string::npos));
    for (const auto& file : fs::directory_iterator(folder)) {
      const std::string name = file.path().filename().string();
      const std::string family = name.substr(0, name.find("_2025"));  // one file per date
      CAPTURE(name);
      REQUIRE((name == "README.md" || text.str().find("`" + family) != std::string::npos));
    }
  }
}

TEST_CASE("DeepGEMM's times follow from its printed rates", "[traces]") {
  int rows = 0;
  for (const auto& file : fs::directory_iterator(kTraces / "deepgemm")) {
    if (file.path().extension() != ".csv") continue;
    CAPTURE(file.path().string());
    std::ifstream in(file.path());
    std::string line;
    std::getline(in, line);
    const bool masked = file.path().stem() == "grouped_gemm_fp8_masked";
    REQUIRE(line == std::string("m,n,k,groups,time_us,tflops,gb_s") + (masked ? ",masked" : ""));
    while (std::getline(in, line)) {
      const std::vector<std::string> c = cells(line);
      const double flops = 2.0 * std::stod(c[0]) * std::stod(c[1]) * std::stod(c[2]);
      REQUIRE(std::stod(c[4]) == Approx(flops / std::stod(c[5]) / 1e6).margin(0.005));
      ++rows;
    }
  }
  REQUIRE(rows == 18 + 18 + 4 + 4 + 6);  // two dense, two contiguous, one masked table
}
