#include "app/numerics/numerics_table.hpp"

#include <tbb/global_control.h>
#include <tbb/parallel_for.h>

#include <atomic>

#include "base/error.hpp"

namespace pipecast {

std::vector<std::vector<std::size_t>> combinations(const std::vector<NumericsSetting>& settings) {
  constexpr std::size_t kMost = 10'000;
  std::vector<std::vector<std::size_t>> out = {{}};
  for (const NumericsSetting& setting : settings) {
    require(out.size() * setting.texts.size() <= kMost,
            "the lists have more than {} combinations; give shorter ones", kMost);
    std::vector<std::vector<std::size_t>> longer;
    for (const std::vector<std::size_t>& one : out) {
      for (std::size_t value = 0; value < setting.texts.size(); ++value) {
        longer.push_back(one);
        longer.back().push_back(value);
      }
    }
    out = std::move(longer);
  }
  return out;
}

void in_parallel(std::size_t count, int threads, const NumericsProgress& progress,
                 std::string_view stage, const std::function<void(std::size_t)>& work) {
  std::atomic<std::size_t> done = 0;
  const tbb::global_control limit(tbb::global_control::max_allowed_parallelism,
                                  static_cast<std::size_t>(threads));
  tbb::parallel_for(std::size_t{0}, count, [&](std::size_t i) {
    work(i);
    progress(stage, static_cast<double>(++done) / static_cast<double>(count));
  });
}

}  // namespace pipecast
