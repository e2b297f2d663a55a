/// Time of one kernel alone on some of a GPU's SMs: what every model of a kernel says, and where it
/// registers.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

#include "base/registry.hpp"
#include "model/operations/operation.hpp"
#include "model/specs/calibration.hpp"
#include "model/specs/gpu.hpp"

namespace pipecast {

/// What limits a kernel: the resource that the largest part of its time waits for.
enum class Limit : std::uint8_t {
  kTensor,     ///< tensor-core issue
  kHbm,        ///< bytes from or to HBM
  kL2,         ///< bytes between L2 and the SMs
  kSmem,       ///< bytes between shared memory and the tensor cores
  kPromotion,  ///< partial sums to FP32 on the CUDA cores
  kIssue,      ///< instructions of the CUDA cores
  kLatency,    ///< launch, prologue, pipeline fill
  kOccupancy,  ///< SMs that idle because there are too few thread blocks
};

std::string_view name_of(Limit limit);

/// A named share of a kernel's cycles.
struct KernelPart {
  std::string_view name{};
  double cycles = 0;
};

/// How a kernel's work is cut into thread blocks. All zero where the model does not count them.
struct KernelTiling {
  std::int64_t block_m = 0;  ///< rows of an output tile
  std::int64_t block_n = 0;  ///< columns of an output tile
  std::int64_t blocks = 0;   ///< thread blocks, or tiles of a persistent kernel
  std::int64_t waves = 0;
};

inline constexpr std::size_t kMaxKernelParts = 8;

struct KernelCost {
  Duration time;
  double cycles = 0;  ///< SM clocks in `time`, at `clock`
  Frequency clock{};  ///< what the chip sustains under this load
  Flops flops;
  Bytes hbm_bytes;
  Bytes l2_bytes{};  ///< between L2 and the SMs
  Limit limited_by{};
  KernelTiling tiling{};
  /// What the critical SM does when; adds up to `cycles`. Unused ones, at the end, have no name.
  std::array<KernelPart, kMaxKernelParts> parts{};
};

/// A value of an option that is a word: `bfloat16`, `fp8`.
struct NamedValue {
  std::string_view name;
  std::int64_t value = 0;
};

/// An extent that defines an operation's shape: `--NAME` on the command line, a column of a table,
/// where `-` and `_` are the same. Values are whole numbers from 0 on, or words:
///
///     constexpr NamedValue kFormats[] = {{"bfloat16", 0}, {"fp8", 1}};
///     constexpr KernelOption kOptions[] = {
///         {"heads", "query heads"},
///         {"kv_dtype", "format of the cache", 0, kFormats},
///     };
struct KernelOption {
  std::string_view name;
  std::string_view meaning;
  std::optional<std::int64_t> fallback{};  ///< none: must be given
  /// Where there are any, users write one of these words and no number; the kernel gets its value.
  std::span<const NamedValue> names{};
  /// Its value for a table that says nothing of it, where that depends on how the tables were timed
  /// that the constants were fitted on; otherwise the fallback.
  std::int64_t (*in_tables)(const CalibrationSpec&) = nullptr;
};

/// What a kernel's file registers, under the operation's name.
struct KernelKind {
  /// @param sms  SMs that the kernel may use, 1 .. gpu.sm_count
  /// @throws Error if the GPU lacks the precision
  KernelCost (*cost)(const Operation&, const GpuSpec&, const CalibrationSpec&, int sms) = nullptr;
  /// The measured constant that decides the time of a large one.
  const Constant& (*constant)(const CalibrationSpec&) = nullptr;
  std::span<const KernelOption> options{};
  /// The operation of that shape.
  /// @param values  one per option, in their order
  /// @throws Error if an extent makes no sense
  Operation (*make)(std::string_view op, std::span<const std::int64_t> values) = nullptr;
};

/// Cost of `operation` by the kernel registered under its name.
/// @throws Error for an operation without a kernel, naming the known ones
KernelCost kernel_cost(const Operation& operation, const GpuSpec& gpu,
                       const CalibrationSpec& calibration, int sms);

/// FP32 multiply-adds per clock and SM of Hopper (CUDA programming guide, compute capability 9.0).
/// Not modelled: Ampere's 64.
inline constexpr double kFp32LanesPerSm = 128;

}  // namespace pipecast
