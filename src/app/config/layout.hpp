/// The grammar of `plan.pipeline_layout`.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "model/specs/model.hpp"
#include "model/specs/plan.hpp"

namespace pipecast::config {

/// "embedding dense*3 moe": layers of one stage, each kind with an optional `*N`.
/// @throws Error without any origin
std::vector<LayerKind> parse_stage(std::string_view text);

/// The inverse of parse_stage.
std::string stage_to_text(const std::vector<LayerKind>& stage);

/// The order in which a micro-batch passes the model: embedding, dense layers, mixture-of-experts
/// layers, head, then for every module of multi-token prediction the module and the head again.
std::vector<LayerKind> layers_of(const ModelSpec& model);

/// What `auto` stands for. Every layer, MTP module and use of the head counts one, the embedding
/// nothing; these counts are spread as evenly as possible, the larger shares first. The last stage
/// holds all MTP modules and heads and as many layers as its share leaves, maybe none.
/// @throws Error without any origin if a stage would stay empty
PipelineLayout automatic_layout(const ModelSpec& model, int stages);

/// @throws Error without any origin unless the layout has as many stages as the ranks hold, none of
/// them empty, that hold exactly the model's layers in their order
void check_layout(const PipelineLayout& layout, const ModelSpec& model, int ranks,
                  int stages_per_rank);

}  // namespace pipecast::config
