/// "tp=4,ep=32,weights=fp8": what the memory command's studies are asked for on the command line.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "model/memory/gpt_layer.hpp"
#include "model/memory/inference_memory.hpp"

namespace pipecast {

/// Keys tp, dense_tp, pp, dp, ep, extra_experts, weights (fp8, bf16), cache (bf16, fp8) and the
/// word shared_as_routed; "" leaves everything as in InferencePlan.
/// @throws Error that names the nearest key, or says what was expected
InferencePlan parse_inference_plan(std::string_view text);

/// "4096,32768": tokens of requests, each positive.
/// @throws Error that says what was expected
std::vector<std::int64_t> parse_contexts(std::string_view text);

/// Keys s, b, h, a, t, recompute (none, selective, full) and the word sequence_parallel.
/// @throws Error likewise, and if s, h or a is missing
GptLayerShape parse_gpt_layer(std::string_view text);

}  // namespace pipecast
