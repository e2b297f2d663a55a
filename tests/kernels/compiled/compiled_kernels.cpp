#include "compiled_kernels.hpp"

#include <cxxabi.h>
#include <elf.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <functional>
#include <regex>
#include <sstream>
#include <stdexcept>
#include <utility>

namespace pipecast::kernels::testing {
namespace {

namespace fs = std::filesystem;

const std::map<Instruction, std::vector<int>>& opcodes() {
  static const std::map<Instruction, std::vector<int>> kOpcodes = {
      {Instruction::kFp8Product, {0x9f3, 0xdf3}},
      {Instruction::kBf16Product, {0x9f0, 0xdf0}},
      {Instruction::kLocal, {0x983, 0x387}},
      {Instruction::kTensorLoad, {0x5b4}},
      {Instruction::kFp32,
       {0x220, 0x420, 0x820, 0xc20, 0xe20, 0x221, 0x421, 0x821, 0xc21, 0xe21, 0x223, 0x423, 0x823,
        0xc23, 0xe23}},
      {Instruction::kMaximum, {0x209, 0x409, 0x809, 0xc09, 0xe09}},
      {Instruction::kSpecial, {0x308, 0x908, 0xd08}},
      {Instruction::kConvert, {0x23e}},
      {Instruction::kShared, {0x984, 0x388, 0x988}},
      {Instruction::kGlobal, {0x981, 0x986}},
      {Instruction::kShuffle, {0x389, 0x589, 0x989, 0xf89}},
  };
  return kOpcodes;
}

std::string read(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) throw std::runtime_error("cannot read " + path.string());
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

/// `void pipecast::kernels::(anonymous namespace)::name<64>(float*)` as `name<64>`.
std::string short_name(const std::string& mangled) {
  int status = 0;
  char* full = abi::__cxa_demangle(mangled.c_str(), nullptr, nullptr, &status);
  std::string name = status == 0 ? full : mangled;
  std::free(full);
  static const std::regex kNamespaces(
      R"(pipecast::kernels::|\(anonymous namespace\)::|_GLOBAL__N__\w+::|^void )");
  name = std::regex_replace(name, kNamespaces, "");
  static const std::regex kEnumerators(R"(\((\w+)\)(\d+))");  // (Major)1
  name = std::regex_replace(name, kEnumerators, "$1 $2");
  return name.substr(0, name.find('('));
}

int number(const std::string& text, const char* pattern) {
  std::smatch match;
  return std::regex_search(text, match, std::regex(pattern)) ? std::stoi(match[1]) : 0;
}

std::size_t occurrences(const std::string& text, const std::string& word) {
  std::size_t count = 0;
  for (std::size_t at = text.find(word); at != std::string::npos; at = text.find(word, at + 1)) {
    ++count;
  }
  return count;
}

/// Registers, stack and spills of each kernel, by mangled name.
void read_log(const std::string& log, std::map<std::string, CompiledKernel>& kernels) {
  static const std::regex kEntry(R"(Compiling entry function '(\w+)')");
  for (auto match = std::sregex_iterator(log.begin(), log.end(), kEntry);
       match != std::sregex_iterator(); ++match) {
    const auto from = static_cast<std::size_t>(match->position());
    const std::size_t next = log.find("Compiling entry function", from + 1);
    const std::string part = log.substr(from, next == std::string::npos ? next : next - from);
    CompiledKernel& kernel = kernels[(*match)[1]];
    kernel.registers = number(part, R"(Used (\d+) registers)");
    kernel.stack_bytes = number(part, R"((\d+) bytes stack frame)");
    kernel.spill_bytes =
        number(part, R"((\d+) bytes spill stores)") + number(part, R"((\d+) bytes spill loads)");
  }
}

void read_ptx(const std::string& ptx, std::map<std::string, CompiledKernel>& kernels) {
  static const std::regex kEntry(R"(\.entry (\w+)\()");
  for (auto match = std::sregex_iterator(ptx.begin(), ptx.end(), kEntry);
       match != std::sregex_iterator(); ++match) {
    const auto from = static_cast<std::size_t>(match->position());
    const std::size_t next = ptx.find(".entry ", from + 1);
    const std::string body = ptx.substr(from, next == std::string::npos ? next : next - from);
    CompiledKernel& kernel = kernels[(*match)[1]];
    kernel.ptx_products = static_cast<int>(occurrences(body, "wgmma.mma_async"));
    kernel.ptx_tensor_copies = static_cast<int>(occurrences(body, "cp.async.bulk.tensor"));
    kernel.ptx_streaming_loads =
        static_cast<int>(occurrences(body, "ld.global.nc.L1::no_allocate.L2::256B"));
  }
}

template <class T>
T at(const std::string& bytes, std::size_t offset) {
  if (offset + sizeof(T) > bytes.size()) throw std::runtime_error("a cubin ends early");
  T value;
  std::memcpy(&value, bytes.data() + offset, sizeof value);
  return value;
}

void count_opcodes(const std::string& code, CompiledKernel& kernel) {
  constexpr std::size_t kInstructionBytes = 16;
  for (std::size_t i = 0; i + kInstructionBytes <= code.size(); i += kInstructionBytes) {
    const int opcode = at<std::uint16_t>(code, i) & 0xfff;
    ++kernel.instructions;
    for (const auto& [instruction, codes] : opcodes()) {
      if (std::find(codes.begin(), codes.end(), opcode) != codes.end()) {
        ++kernel.counts[instruction];
      }
    }
  }
}

void read_cubin(const std::string& cubin, std::map<std::string, CompiledKernel>& kernels) {
  const auto header = at<Elf64_Ehdr>(cubin, 0);
  if (std::memcmp(header.e_ident, ELFMAG, SELFMAG) != 0) throw std::runtime_error("not a cubin");
  const auto section = [&](std::size_t index) {
    return at<Elf64_Shdr>(cubin, header.e_shoff + index * header.e_shentsize);
  };
  const Elf64_Shdr names = section(header.e_shstrndx);
  for (std::size_t i = 0; i < header.e_shnum; ++i) {
    const Elf64_Shdr code = section(i);
    const std::string name = cubin.data() + names.sh_offset + code.sh_name;
    constexpr const char* kCode = ".text.";
    if (name.rfind(kCode, 0) != 0) continue;
    count_opcodes(cubin.substr(code.sh_offset, code.sh_size),
                  kernels[name.substr(std::strlen(kCode))]);
  }
}

void for_each_log(const fs::path& logs, const std::function<void(const fs::path&)>& visit) {
  std::vector<fs::path> found;
  for (const auto& entry : fs::recursive_directory_iterator(logs)) {
    if (entry.path().string().ends_with(".cu.o.log")) found.push_back(entry.path());
  }
  std::sort(found.begin(), found.end());
  for (const fs::path& path : found) visit(path);
}

}  // namespace

std::vector<CompiledKernel> compiled_kernels(const fs::path& folder, const fs::path& logs) {
  std::vector<CompiledKernel> all;
  for_each_log(logs, [&](const fs::path& log) {
    const std::string file = log.stem().stem().stem().string();  // NAME.cu.o.log
    std::map<std::string, CompiledKernel> kernels;
    read_log(read(log), kernels);
    if (kernels.empty()) return;
    read_ptx(read(folder / (file + ".ptx")), kernels);
    read_cubin(read(folder / (file + ".cubin")), kernels);
    for (auto& [mangled, kernel] : kernels) {
      kernel.name = file + "/" + short_name(mangled);
      all.push_back(std::move(kernel));
    }
  });
  std::sort(all.begin(), all.end(),
            [](const CompiledKernel& a, const CompiledKernel& b) { return a.name < b.name; });
  return all;
}

std::string compiler_version(const fs::path& folder) {
  static const std::regex kVersion(R"(release [\d.]+, V([\d.]+))");
  for (const auto& entry : fs::directory_iterator(folder)) {
    if (entry.path().extension() != ".ptx") continue;
    const std::string ptx = read(entry.path());
    std::smatch match;
    if (std::regex_search(ptx, match, kVersion)) return match[1];
  }
  throw std::runtime_error("no PTX file states its compiler in " + folder.string());
}

std::vector<std::string> serialised_products(const fs::path& logs) {
  std::vector<std::string> found;
  for_each_log(logs, [&](const fs::path& log) {
    std::istringstream lines(read(log));
    for (std::string line; std::getline(lines, line);) {
      if (line.find("C7510") != std::string::npos || line.find("C7517") != std::string::npos) {
        found.push_back(log.filename().string() + ": " + line);
      }
    }
  });
  return found;
}

}  // namespace pipecast::kernels::testing
