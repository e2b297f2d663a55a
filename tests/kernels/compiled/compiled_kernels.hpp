#pragma once

/// What nvcc made of the kernels: read from the compiler's remarks, the PTX and the machine code.
#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

namespace pipecast::kernels::testing {

/// Machine instructions that are counted. An instruction of sm_90 has 16 bytes, its opcode the low
/// 12 bits; the codes were read off nvdisasm 13.0 on these kernels. Where operands come from
/// constant memory, registers or an immediate the upper bits differ, so a name has several codes.
enum class Instruction {
  kFp8Product,   // QGMMA
  kBf16Product,  // HGMMA
  kLocal,        // LDL, STL
  kTensorLoad,   // UTMALDG
  kFp32,         // FFMA, FMUL, FADD
  kMaximum,      // FMNMX
  kSpecial,      // MUFU: exponentials, reciprocals, square roots
  kConvert,      // F2FP
  kShared,       // LDS, STS
  kGlobal,       // LDG, STG
  kShuffle,      // SHFL
};

struct CompiledKernel {
  std::string name;  // file/kernel, with template arguments
  int registers = 0;
  int stack_bytes = 0;
  int spill_bytes = 0;
  int ptx_products = 0;         // wgmma.mma_async
  int ptx_tensor_copies = 0;    // cp.async.bulk.tensor
  int ptx_streaming_loads = 0;  // ld.global.nc.L1::no_allocate.L2::256B
  int instructions = 0;
  std::map<Instruction, int> counts;

  int count(Instruction instruction) const {
    const auto found = counts.find(instruction);
    return found == counts.end() ? 0 : found->second;
  }
};

/// Every kernel of a folder with NAME.ptx and NAME.cubin, and of the logs NAME.cu.o.log under
/// `logs`; sorted by name.
std::vector<CompiledKernel> compiled_kernels(const std::filesystem::path& folder,
                                             const std::filesystem::path& logs);

/// The compiler's own version, as the PTX files state it: "13.0.88".
std::string compiler_version(const std::filesystem::path& folder);

/// Lines of the logs with the compiler's remarks that wgmma is serialised (C7510, C7517).
std::vector<std::string> serialised_products(const std::filesystem::path& logs);

}  // namespace pipecast::kernels::testing
