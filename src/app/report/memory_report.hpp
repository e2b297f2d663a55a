/// What `pipecast memory` tells.
#pragma once

#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>

#include "app/memory/memory_study.hpp"

namespace pipecast {

/// Of a category in pictures: one of Okabe and Ito's colours, which colour-blind people tell
/// apart.
std::string_view colour_of(MemoryCategory category);

struct MemoryAnswer {
  const Scenario& scenario;
  MemoryStudy study;
  std::optional<int> rank{};  ///< the one that is looked into; none: the fullest

  [[nodiscard]] int shown() const { return rank.value_or(study.memory.fullest()); }
};

/// Tables for the terminal: all ranks, then one rank's peak and its largest tensors.
/// @param tensors  how many of them
std::string memory_text(const MemoryAnswer& answer, std::size_t tensors);

/// Keys, bytes unless said:
///   capacity_bytes, fits, fullest_rank, step { time_s, schedule, micro_batches }
///   ranks [ { pipeline_rank, peak_bytes, peak_time_s, peak_step, categories { weights, gradients,
///     optimizer, activations, communication, workspace, total, capacity }, tensors [ { name,
///     bytes, precision, category, layer, stage, position, rows, rows_are, columns, columns_are,
///     copies, copies_are, shards, reason } ], host_bytes, host_tensors [ as tensors ] } ]
/// Tensors are what is held at the peak, largest first, and sum to it; `position` is that of the
/// layer in its stage. Equal tensors of layers of one kind and stage are one entry. A kernel's
/// working set has operands_bytes and results_bytes instead of rows and columns. What a tensor does
/// not have is left out.
nlohmann::ordered_json memory_json(const MemoryAnswer& answer);

/// Stacked categories over the step: of one rank, or of all beside each other.
std::string memory_svg(const MemoryAnswer& answer);

/// The arithmetic behind a category, a tensor or the total at the peak of the rank that is shown:
/// extents x bytes of an element, with scales, copies and shards, to the exact sum.
/// @throws Error as memory_named
std::string memory_explanation(const MemoryAnswer& answer, const std::string& name);

}  // namespace pipecast
