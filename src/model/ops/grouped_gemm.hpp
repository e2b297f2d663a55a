/// Times of one grouped FP8 product for ever new loads of its groups, tens of nanoseconds each.
///
/// Groups follow one another, each padded to whole blocks of 128 rows (DeepGEMM's contiguous
/// layout). Tiles, waves and clock then depend on the number of row blocks alone, and the bytes on
/// it and on how many groups have rows at all, since the others' weights are not read.
#pragma once

#include <span>
#include <vector>

#include "model/ops/gemm_model.hpp"

namespace pipecast {

/// What the rows of each group come to.
struct GroupLoads {
  std::int64_t groups = 0;
  std::int64_t rows = 0;
  std::int64_t with_rows = 0;    ///< groups that have any
  std::int64_t blocks = 0;       ///< of kPaddedRows rows, each group rounded up
  std::int64_t later_bands = 0;  ///< bands of kRasterRows blocks but the first of its group

  /// Adds a group.
  void add(std::int64_t group_rows) {
    const std::int64_t group_blocks = ceil_div(group_rows, kPaddedRows);
    const std::int64_t bands = ceil_div(group_blocks, kRasterRows);
    groups += 1;
    rows += group_rows;
    with_rows += group_rows > 0 ? 1 : 0;
    blocks += group_blocks;
    later_bands += bands > 0 ? bands - 1 : 0;
  }
};

/// @param rows_per_group  each 0 or more
inline GroupLoads group_loads(std::span<const std::int64_t> rows_per_group) {
  GroupLoads loads;
  for (const std::int64_t rows : rows_per_group) loads.add(rows);
  return loads;
}

/// `rows` over `groups`, the first ones having one more where they do not divide.
GroupLoads balanced_loads(std::int64_t rows, std::int64_t groups);

/// The grouped FP8 product with those loads, for the general model.
/// @param loads  at least one row
Product contiguous_product(const GroupLoads& loads, std::int64_t n, std::int64_t k);

/// Launches of one grouped FP8 product; their times equal those of product_cost() to the
/// picosecond.
class GroupedGemm {
 public:
  struct Shape {
    std::int64_t n = 0;  ///< columns of each group's weights
    std::int64_t k = 0;  ///< depth
    std::int64_t groups = 0;
    ProductOptions options{};  ///< neither masked nor with a cast
  };

  /// Works out every number of row blocks up to `most_rows`: about 0.2 us each.
  /// @param sms        1 .. gpu.sm_count
  /// @param most_rows  the most padded rows of all groups together that will be asked for
  /// @throws Error for extents below 1, or a GPU without FP8
  GroupedGemm(const Shape& shape, const GpuSpec& gpu, const CalibrationSpec& calibration, int sms,
              std::int64_t most_rows);

  /// @param rows_per_group  of every group, 0 or more. Without any row the launch alone remains.
  [[nodiscard]] Duration time(std::span<const std::int64_t> rows_per_group) const {
    return time(group_loads(rows_per_group));
  }
  /// @param loads  of all groups
  [[nodiscard]] Duration time(const GroupLoads& loads) const;

 private:
  ProductExtents extents_;  // but the number of row blocks
  double launch_seconds_ = 0;
  double memory_rate_ = 0;       // bytes per second
  double block_bytes_ = 0;       // of A and C, per row block
  double weight_bytes_ = 0;      // per group, with scales
  double band_bytes_ = 0;        // that a later band reads again
  std::vector<double> seconds_;  // of the busiest SM, by number of row blocks
};

}  // namespace pipecast
