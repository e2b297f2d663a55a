/// Shared memory of the kernels that docs/kernel-model.md shows: as their launches ask for it, and
/// within what a block may have.
///
///   PIPECAST_REGENERATE=1 build/release/test_kernels "[shared_memory]"    writes the list anew
#include <catch2/catch.hpp>
#include <cstdlib>
#include <fstream>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "kernels/attention/attention_bwd.hpp"
#include "kernels/attention/attention_fwd.hpp"
#include "kernels/gemm/bf16_gemm.hpp"
#include "kernels/gemm/fp8_gemm.hpp"
#include "kernels/gemm/fp8_wgrad_gemm.hpp"
#include "kernels/gemm/ring.hpp"
#include "run.hpp"

namespace pipecast::kernels {
namespace {

using namespace testing;

const std::string kPath =
    std::string(PIPECAST_SOURCE_DIR) + "/tests/kernels/compiled/shared_memory.csv";

constexpr int kExtent = 128;

/// A launch of each kernel, named as in budget.csv. The values do not matter.
struct Launches {
  Buffer<E4m3> codes{std::vector<E4m3>(kExtent * kExtent, E4m3{0})};
  Buffer<Bf16> values{std::vector<Bf16>(kExtent * 192, Bf16{0})};
  Buffer<float> scales{std::vector<float>(kExtent, 1.0F)};
  Buffer<Bf16> result{std::vector<Bf16>(kExtent * 256, Bf16{0})};
  Buffer<float> gradient{std::vector<float>(kExtent * 256, 0.0F)};
  Buffer<int> bounds{std::vector<int>{0, 1}};

  std::map<std::string, std::function<void()>> by_name() {
    const auto fp8 = [this](int rows) {
      gemm_fp8({codes.data(), codes.data(), scales.data(), scales.data(), result.data(), kExtent,
                kExtent, kExtent, 0, rows});
    };
    const AttentionSequences one{bounds.data(), bounds.data(), 1, 1, 1, 1, 1, 1, 1.0F, true};
    return {
        {"fp8_gemm/gemm_fp8_kernel<1, DenseTiles>", [fp8] { fp8(64); }},
        {"fp8_gemm/gemm_fp8_kernel<2, DenseTiles>", [fp8] { fp8(128); }},
        {"fp8_wgrad_gemm/gemm_fp8_wgrad_kernel",
         [this] {
           gemm_fp8_wgrad({codes.data(), codes.data(), scales.data(), scales.data(),
                           gradient.data(), kExtent, kExtent, kExtent, 0});
         }},
        {"bf16_gemm/gemm_bf16_kernel<Form<Major 0, Major 0, Bf16, 256>, DenseTiles>",
         [this] {
           gemm_bf16({values.data(), values.data(), false, false, result.data(), nullptr, false,
                      kExtent, kExtent, kExtent, 0, 256});
         }},
        {"attention_fwd/attention_fwd_kernel",
         [this, one] {
           attention_fwd({values.data(), values.data(), values.data(), result.data(),
                          gradient.data(), one, 0});
         }},
        {"attention_bwd/attention_bwd_kernel",
         [this, one] {
           const AttentionBwdWorkspace sizes = attention_bwd_workspace(one);
           Buffer<float> statistics(sizes.row_statistics);
           Buffer<float> sums(sizes.query_sums);
           Buffer<std::uint32_t> turns(sizes.query_turns);
           const AttentionBwd problem{values.data(), values.data(),
                                      values.data(), values.data(),
                                      scales.data(), values.data(),
                                      result.data(), result.data(),
                                      result.data(), statistics.data(),
                                      sums.data(),   turns.data(),
                                      one,           0};
           attention_bwd_preprocess(problem);
           attention_bwd(problem);
         }},
    };
  }
};

std::map<std::string, std::size_t> recorded() {
  std::ifstream file(kPath);
  std::map<std::string, std::size_t> bytes;
  std::string line;
  std::getline(file, line);  // the columns
  while (std::getline(file, line)) {
    const std::size_t separator = line.find(';');
    bytes[line.substr(0, separator)] = std::stoul(line.substr(separator + 1));
  }
  return bytes;
}

}  // namespace

TEST_CASE("shared memory of products and attention is the recorded one, and fits an SM",
          "[shared_memory]") {
  Launches launches;
  std::map<std::string, std::size_t> bytes;
  for (const auto& [name, launch] : launches.by_name()) {
    launch();
    bytes[name] = emulation::last_launch().shared_bytes;
    CAPTURE(name);
    REQUIRE(bytes[name] <= static_cast<std::size_t>(kMostSharedBytes));
  }
  if (std::getenv("PIPECAST_REGENERATE") != nullptr) {
    std::ofstream file(kPath);
    file << "kernel;shared_bytes\n";
    for (const auto& [name, count] : bytes) file << name << ';' << count << '\n';
  }
  REQUIRE(bytes == recorded());
}

}  // namespace pipecast::kernels
