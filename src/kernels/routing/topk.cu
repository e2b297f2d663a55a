#include "kernels/routing/selection.hpp"
#include "kernels/routing/topk.hpp"
#include "kernels/simt/pieces.hpp"
#include "kernels/simt/simt.hpp"

namespace pipecast::kernels {
namespace {

constexpr int kThreads = 256;
constexpr int kWarps = kThreads / kWarpSize;
constexpr int kBlocksPerSm = 8;

template <int kPerLane>
__global__ void __launch_bounds__(kThreads)
    topk_kernel(const float* __restrict__ scores, float* __restrict__ values,
                int* __restrict__ indices, int rows, int chosen) {
  constexpr int kColumns = kPerLane * kWarpSize;
  const int lane = lane_index();
  for (int row = block_index() * kWarps + warp_index(); row < rows; row += grid_size() * kWarps) {
    const float* from = scores + static_cast<std::int64_t>(row) * kColumns;
    const auto own = reinterpret_cast<const Elements<float, kPerLane>*>(from)[lane];
    const int index = select_best(own.values, Selection{1, 1, chosen});
    if (lane < chosen) {
      const std::int64_t at = static_cast<std::int64_t>(row) * chosen + lane;
      indices[at] = index;
      values[at] = from[index];
    }
  }
}

template <int kPerLane>
__global__ void __launch_bounds__(kThreads)
    group_topk_sum_kernel(const float* __restrict__ scores, float* __restrict__ sums, int rows,
                          int groups) {
  constexpr int kColumns = kPerLane * kWarpSize;
  const int lanes = kWarpSize / groups;
  for (int row = block_index() * kWarps + warp_index(); row < rows; row += grid_size() * kWarps) {
    const float* from = scores + static_cast<std::int64_t>(row) * kColumns;
    const auto own = reinterpret_cast<const Elements<float, kPerLane>*>(from)[lane_index()];
    const float sum = two_best(own.values, lanes);
    if (lane_index() % lanes == 0) {
      sums[static_cast<std::int64_t>(row) * groups + lane_index() / lanes] = sum;
    }
  }
}

template <int kPerLane>
void launch_rows(const TopK& p) {
  launch(topk_kernel<kPerLane>,
         {persistent_grid((p.rows + kWarps - 1) / kWarps, p.sms, kBlocksPerSm), kThreads, 0},
         p.scores, p.values, p.indices, p.rows, p.chosen);
}
template <int kPerLane>
void launch_rows(const GroupTopkSum& p) {
  launch(group_topk_sum_kernel<kPerLane>,
         {persistent_grid((p.rows + kWarps - 1) / kWarps, p.sms, kBlocksPerSm), kThreads, 0},
         p.scores, p.sums, p.rows, p.groups);
}

template <class Problem>
void launch_for_columns(const char* what, const Problem& p) {
  if (p.rows < 0) throw DeviceError(std::string(what) + ": a negative number of rows");
  if (p.rows == 0) return;
  switch (p.columns) {
    case 32:
      return launch_rows<1>(p);
    case 64:
      return launch_rows<2>(p);
    case 128:
      return launch_rows<4>(p);
    case 256:
      return launch_rows<8>(p);
    case 512:
      return launch_rows<16>(p);
    default:
      throw DeviceError(std::string(what) + ": 32 to 512 columns, a power of two");
  }
}

}  // namespace

void topk(const TopK& p) {
  if (p.chosen < 1 || p.chosen > kWarpSize) throw DeviceError("topk: 1 to 32 choices");
  launch_for_columns("topk", p);
}

void group_topk_sum(const GroupTopkSum& p) {
  if (p.groups < 1 || kWarpSize % p.groups != 0) {
    throw DeviceError("group_topk_sum: groups divide 32");
  }
  launch_for_columns("group_topk_sum", p);
}

}  // namespace pipecast::kernels
