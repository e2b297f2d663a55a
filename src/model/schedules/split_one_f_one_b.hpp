/// 1F1B with the backward split, on which the handcrafted zero-bubble schedules are built.
#pragma once

#include "model/schedules/schedule.hpp"

namespace pipecast {

/// Rank r runs lead x (p-1-r) forwards to warm up, then one F and one Bi in turn. From its lead x
/// r + 1st Bi on, a W follows each Bi, so that lead x r weight gradients wait until the end.
/// Counting both, every rank has lead x (p-1) + 1 micro-batches in flight.
/// @param shape  at least one rank and one micro-batch
Schedule split_one_f_one_b(const PipelineShape& shape, int lead);

}  // namespace pipecast
