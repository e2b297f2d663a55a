/// The operations that a step executed and what each of them waited for, as a graph.
#pragma once

#include <boost/graph/compressed_sparse_row_graph.hpp>
#include <vector>

#include "sim/cluster/column.hpp"

namespace pipecast {

/// What one GPU executed, or a group together. A chunk's beginning and its end are operations that
/// take no time.
struct ExecutedOperation {
  Time start{};
  Time end{};
  int pipeline_rank = 0;
  int gpu = 0;   ///< of the column; of an exchange the one that arrived last
  int step = 0;  ///< position in the rank's schedule
  // What it consists of: one of these, or nothing.
  const Task* task = nullptr;
  const WorkShare* work = nullptr;  ///< of one kind, whatever time it says
};

/// Why an operation waited for another.
enum class Reason : std::uint8_t {
  kStreamOrder,    ///< one stream runs one task at a time
  kData,           ///< it reads what the other wrote
  kArrival,        ///< a collective starts when everybody has arrived
  kMessage,        ///< from another pipeline rank
  kPreviousChunk,  ///< a GPU plays its schedule in order
};

/// Edges lead from an operation to those that it waited for: back in time.
using OperationGraph =
    boost::compressed_sparse_row_graph<boost::directedS, ExecutedOperation, Reason,
                                       boost::no_property, std::uint32_t, std::uint32_t>;
using OperationVertex = OperationGraph::vertex_descriptor;

struct ExecutedStep {
  OperationGraph graph;
  OperationVertex end{};  ///< waited for everything else
};

/// Of the chunks that the end of the step hangs on: whatever an operation started right after is in
/// the graph, and whatever else it waited for within these chunks. Columns record no tasks, so the
/// chunks are played once more, each once.
/// Not in the graph: messages that had arrived before their receiver was ready, other chunks.
/// @param last_gpu  of the column; the optimizer waited for its last pass
ExecutedStep executed_step(const StepPlan& plan, const ColumnTimes& column, int last_gpu);

/// The path of most time from `end` back in time, its last operation first.
std::vector<OperationVertex> longest_path(const OperationGraph& graph, OperationVertex end);

}  // namespace pipecast
