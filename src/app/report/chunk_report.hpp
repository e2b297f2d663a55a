/// What `pipecast chunk` tells about a played chunk.
#pragma once

#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "app/chunk/chunk_comparison.hpp"
#include "app/chunk/chunk_run.hpp"
#include "app/chunk/chunk_tuning.hpp"
#include "app/chunk/chunk_utilisation.hpp"

namespace pipecast {

/// A measured chunk and where it was read.
struct MeasuredChunk {
  std::string name;
  std::vector<TraceRow> rows;
  ChunkComparison comparison;
};

struct ChunkAnswer {
  const Scenario& scenario;
  const ChunkRun& run;
  std::vector<TraceRow> rows;  ///< of the run, in order of their start
  ChunkMeasures measures;
  Utilisation utilisation;
  std::optional<MeasuredChunk> measured{};
};

ChunkAnswer chunk_answer(const Scenario& scenario, const ChunkRun& run);
/// @param rows  of the file `name`
void compare_with(ChunkAnswer& answer, const std::string& name, std::vector<TraceRow> rows);

nlohmann::ordered_json chunk_json(const ChunkAnswer& answer);

/// How a terminal shows things.
struct TextStyle {
  std::size_t width = 100;  ///< letters of a line
  bool colours = false;
};

/// Timelines, phases, streams, utilisation, what bounds the chunk, its largest kernels.
std::string chunk_text(const ChunkAnswer& answer, const TextStyle& style);

/// "overlapped chunk of 4 moe layers forward and 4 moe layers backward".
std::string description_of(const ChunkShape& shape);

/// A tuned chunk with what was tuned.
struct TuningAnswer {
  const Scenario& scenario;
  const ChunkShape& shape;
  Duration peers_late;
  const ChunkTuning& tuning;
};

nlohmann::ordered_json tuning_json(const TuningAnswer& answer);
std::string tuning_text(const TuningAnswer& answer, const TextStyle& style);

/// What the exchanges of a chunk wait for.
std::string peers_text(Duration peers_late);

/// "combine(B), attn(F), ...".
std::string order_text(const PhaseOrder& order);

}  // namespace pipecast
