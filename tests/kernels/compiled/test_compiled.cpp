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

/// The counted instructions, in the order of the budget's columns.
const std::vector<std::pair<std::string, Instruction>> kColumns = {
    {"fp8_products", Instruction::kFp8Product},
    {"bf16_products", Instruction::kBf16Product},
    {"fp32", Instruction::kFp32},
    {"maximum", Instruction::kMaximum},
    {"special", Instruction::kSpecial},
    {"convert", Instruction::kConvert},
    {"shared", Instruction::kShared},
    {"global", Instruction::kGlobal},
    {"shuffle", Instruction::kShuffle}};

/// A line of the budget: at most so many registers, at least so many copies and streaming loads in
/// the PTX; the machine instructions by kind, as the compiler of the file's first line makes them.
struct Budget {
  int registers = 0;
  int tensor_copies = 0;
  int streaming_loads = 0;
  int instructions = 0;
  std::vector<int> counts;
};

struct BudgetFile {
  std::string compiler;
  std::map<std::string, Budget> kernels;
};

const std::vector<CompiledKernel>& kernels() {
  static const std::vector<CompiledKernel> kAll = compiled_kernels(kFolder, kLogs);
  return kAll;
}

BudgetFile read_budget() {
  std::ifstream file(kBudgetPath);
  BudgetFile budget;
  std::string line;
  std::getline(file, line);
  budget.compiler = line.substr(line.rfind(' ') + 1);
  std::getline(file, line);  // the columns
  while (std::getline(file, line)) {
    std::istringstream row(line);
    std::string name;
    std::getline(row, name, ';');
    std::vector<int> numbers;
    for (std::string field; std::getline(row, field, ';');) numbers.push_back(std::stoi(field));
    REQUIRE(numbers.size() == 4 + kColumns.size());
    budget.kernels[name] = {numbers[0], numbers[1], numbers[2], numbers[3],
                            std::vector<int>(numbers.begin() + 4, numbers.end())};
  }
  return budget;
}

void write_budget() {
  std::ofstream file(kBudgetPath);
  file << "# Written by PIPECAST_REGENERATE=1 build/release/test_compiled_kernels with nvcc "
       << compiler_version(kFolder) << '\n';
  file << "kernel;registers;tensor_copies;streaming_loads;instructions";
  for (const auto& [column, instruction] : kColumns) file << ';' << column;
  file << '\n';
  for (const CompiledKernel& kernel : kernels()) {
    file << kernel.name << ';' << kernel.registers << ';' << kernel.ptx_tensor_copies << ';'
         << kernel.ptx_streaming_loads << ';' << kernel.instructions;
    for (const auto& [column, instruction] : kColumns) file << ';' << kernel.count(instruction);
    file << '\n';
  }
}

}  // namespace

TEST_CASE("every compiled kernel keeps to its budget, and every budget has its kernel", "[cubin]") {
  if (std::getenv("PIPECAST_REGENERATE") != nullptr) write_budget();
  const BudgetFile budget = read_budget();
  std::set<std::string> seen;
  for (const CompiledKernel& kernel : kernels()) {
    CAPTURE(kernel.name);
    seen.insert(kernel.name);
    REQUIRE(budget.kernels.count(kernel.name) == 1);
    const Budget& limits = budget.kernels.at(kernel.name);
    CHECK(kernel.registers > 0);
    CHECK(kernel.registers <= limits.registers);
    CHECK(kernel.ptx_tensor_copies >= limits.tensor_copies);
    CHECK(kernel.ptx_streaming_loads >= limits.streaming_loads);
  }
  for (const auto& [name, limits] : budget.kernels) {
    CAPTURE(name);
    CHECK(seen.count(name) == 1);
  }
}

TEST_CASE("the instruction mix is the one that docs/kernel-model.md shows", "[cubin]") {
  const BudgetFile budget = read_budget();
  const bool same_compiler = budget.compiler == compiler_version(kFolder);
  for (const CompiledKernel& kernel : kernels()) {
    CAPTURE(kernel.name);
    REQUIRE(budget.kernels.count(kernel.name) == 1);
    const Budget& recorded = budget.kernels.at(kernel.name);
    for (std::size_t i = 0; i < kColumns.size(); ++i) {
      const auto& [column, instruction] = kColumns[i];
      CAPTURE(column);
      const int found = kernel.count(instruction);
      // Another compiler unrolls and schedules in its own way, but uses the same units.
      if (same_compiler) {
        CHECK(found == recorded.counts[i]);
      } else {
        CHECK((found > 0) == (recorded.counts[i] > 0));
      }
    }
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

TEST_CASE("every matrix product and attention uses tensor cores, every exchange streams",
          "[cubin]") {
  struct Need {
    const char* kernel;  // beginning of its name
    int (*quantity)(const CompiledKernel&);
  };
  const auto fp8 = [](const CompiledKernel& k) { return k.count(Instruction::kFp8Product); };
  const auto bf16 = [](const CompiledKernel& k) { return k.count(Instruction::kBf16Product); };
  const auto streaming = [](const CompiledKernel& k) { return k.ptx_streaming_loads; };
  for (const Need& need :
       {Need{"fp8_gemm/gemm_fp8_kernel", fp8}, Need{"fp8_wgrad_gemm/gemm_fp8_wgrad_kernel", fp8},
        Need{"bf16_gemm/gemm_bf16_kernel", bf16}, Need{"attention_fwd/attention_fwd_kernel", bf16},
        Need{"attention_bwd/attention_bwd_kernel", bf16},
        Need{"attention_decode/attention_decode_kernel", bf16}, Need{"dispatch/", streaming},
        Need{"combine/", streaming}}) {
    CAPTURE(need.kernel);
    int found = 0;
    for (const CompiledKernel& kernel : kernels()) {
      if (kernel.name.rfind(need.kernel, 0) != 0) continue;
      ++found;
      CAPTURE(kernel.name);
      CHECK(need.quantity(kernel) > 0);
    }
    CHECK(found > 0);
  }
}

}  // namespace pipecast::kernels::testing
