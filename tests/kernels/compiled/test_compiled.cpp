/// Holds what nvcc makes of the kernels to budget.csv: a kernel that grows over its registers,
/// spills, or loses its tensor core, tensor copy or streaming load instructions fails here, without
/// a GPU.
///
///   PIPECAST_REGENERATE=1 build/release/test_compiled_kernels    writes the budget anew
#include <catch2/catch.hpp>
#include <cstdlib>
#include <fstream>
#include <map>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include "compiled_kernels.hpp"

namespace pipecast::kernels::testing {
namespace {

const std::filesystem::path kFolder = PIPECAST_COMPILED_KERNELS;
const std::filesystem::path kLogs = PIPECAST_COMPILED_LOGS;
const std::string kBudgetPath =
    std::string(PIPECAST_SOURCE_DIR) + "/tests/kernels/compiled/budget.csv";

/// A line of the budget: at most so many registers, at least so many of each instruction in the
/// PTX.
struct Budget {
  int registers = 0;
  std::string product;  // fp8, bf16 or none
  int tensor_copies = 0;
  int streaming_loads = 0;
};

const std::vector<CompiledKernel>& kernels() {
  static const std::vector<CompiledKernel> kAll = compiled_kernels(kFolder, kLogs);
  return kAll;
}

std::string product_of(const CompiledKernel& kernel) {
  if (kernel.count(Instruction::kFp8Product) > 0) return "fp8";
  return kernel.count(Instruction::kBf16Product) > 0 ? "bf16" : "none";
}

std::map<std::string, Budget> read_budget() {
  std::ifstream file(kBudgetPath);
  std::map<std::string, Budget> budget;
  std::string line;
  std::getline(file, line);  // the header
  while (std::getline(file, line)) {
    std::istringstream row(line);
    std::string name;
    std::getline(row, name, ';');
    Budget limits;
    char separator = 0;
    row >> limits.registers >> separator;
    std::getline(row, limits.product, ';');
    row >> limits.tensor_copies >> separator >> limits.streaming_loads;
    REQUIRE(!row.fail());
    budget[name] = limits;
  }
  return budget;
}

void write_budget() {
  std::ofstream file(kBudgetPath);
  file << "kernel;registers;product;tensor_copies;streaming_loads\n";
  for (const CompiledKernel& kernel : kernels()) {
    file << kernel.name << ';' << kernel.registers << ';' << product_of(kernel) << ';'
         << kernel.ptx_tensor_copies << ';' << kernel.ptx_streaming_loads << '\n';
  }
}

}  // namespace

TEST_CASE("every compiled kernel keeps to its budget, and every budget has its kernel", "[cubin]") {
  if (std::getenv("PIPECAST_REGENERATE") != nullptr) write_budget();
  const auto budget = read_budget();
  std::set<std::string> seen;
  for (const CompiledKernel& kernel : kernels()) {
    CAPTURE(kernel.name);
    seen.insert(kernel.name);
    REQUIRE(budget.count(kernel.name) == 1);
    const Budget& limits = budget.at(kernel.name);
    CHECK(kernel.registers > 0);
    CHECK(kernel.registers <= limits.registers);
    CHECK(product_of(kernel) == limits.product);
    CHECK(kernel.ptx_tensor_copies >= limits.tensor_copies);
    CHECK(kernel.ptx_streaming_loads >= limits.streaming_loads);
  }
  for (const auto& [name, limits] : budget) {
    CAPTURE(name);
    CHECK(seen.count(name) == 1);
  }
}

TEST_CASE("no kernel spills or uses the stack", "[cubin]") {
  for (const CompiledKernel& kernel : kernels()) {
    CAPTURE(kernel.name);
    CHECK(kernel.instructions > 0);
    CHECK(kernel.spill_bytes == 0);
    CHECK(kernel.stack_bytes == 0);
    CHECK(kernel.count(Instruction::kLocal) == 0);
  }
}

TEST_CASE("no wgmma is serialised by the compiler", "[cubin]") {
  for (const std::string& line : serialised_products(kLogs)) FAIL_CHECK(line);
  SUCCEED();
}

TEST_CASE("every wgmma of the PTX is a tensor core instruction of the machine code", "[cubin]") {
  for (const CompiledKernel& kernel : kernels()) {
    CAPTURE(kernel.name);
    const int machine =
        kernel.count(Instruction::kFp8Product) + kernel.count(Instruction::kBf16Product);
    CHECK((kernel.ptx_products > 0) == (machine > 0));
    // A product without tensor copies would feed its tensor cores by hand.
    if (kernel.ptx_products > 0) CHECK(kernel.ptx_tensor_copies > 0);
  }
}

TEST_CASE("the families that must use tensor cores or streaming loads do", "[cubin]") {
  const auto uses = [](const std::string& file, const auto& quantity) {
    bool any = false;
    for (const CompiledKernel& kernel : kernels()) {
      if (kernel.name.rfind(file + "/", 0) == 0 && quantity(kernel) > 0) any = true;
    }
    return any;
  };
  const auto fp8 = [](const CompiledKernel& k) { return k.count(Instruction::kFp8Product); };
  for (const char* file : {"fp8_gemm"}) {
    CAPTURE(file);
    CHECK(uses(file, fp8));
  }
}

}  // namespace pipecast::kernels::testing
