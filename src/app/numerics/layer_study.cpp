#include "app/numerics/layer_study.hpp"

#include <fmt/format.h>

#include "kernels/numerics/layer_error.hpp"

namespace pipecast {

namespace {

using kernels::LayerErrors;
using kernels::LayerErrorStudy;

std::vector<double> measures_of(const LayerErrors& errors) {
  return {errors.output,  errors.input_gradient, errors.attention, errors.gate,
          errors.experts, errors.shared,         errors.norms,     errors.rerouted};
}

}  // namespace

NumericsTable study_layer(const LayerStudyRequest& request) {
  NumericsTable out{
      .study = "layer",
      .title = fmt::format("a layer of hidden size {} with {} routed experts on {} tokens",
                           request.hidden, request.experts, request.tokens),
      .settings = {{"outliers", "outliers", request.outliers},
                   {"factor", "factor", request.factor},
                   {"recipe", "recipe", request.recipe}},
      .measures = {{"output", "output"},
                   {"input_gradient", "d input"},
                   {"attention_gradient", "d attention"},
                   {"gate_gradient", "d gate"},
                   {"experts_gradient", "d experts"},
                   {"shared_gradient", "d shared"},
                   {"norms_gradient", "d norms"},
                   {"rerouted", "rerouted", true}},
      .rows = {},
      .notes =
          "Errors against FP64: root of the summed squared errors over that of the values, of the "
          "output and\n"
          "of the gradients (d) of the input and of the weights, all at the routing of FP64; "
          "rerouted: pairs\n"
          "of token and expert that the gate would choose otherwise.\n"};
  for (const std::vector<std::size_t>& chosen : combinations(out.settings))
    out.rows.push_back({chosen, {}});
  // Rows of the same input follow each other and share its layer in FP64.
  const std::size_t recipes = request.recipe.size();
  for (std::size_t first = 0; first < out.rows.size(); first += recipes) {
    const std::vector<std::size_t>& chosen = out.rows[first].settings;
    const LayerErrorStudy study({.tokens = request.tokens,
                                 .hidden = request.hidden,
                                 .experts = request.experts,
                                 .outliers = {.fraction = request.outliers[chosen[0]].value,
                                              .factor = request.factor[chosen[1]].value},
                                 .seed = request.seed});
    const auto progress = [&](std::string_view stage, double fraction) {
      request.progress(stage,
                       (static_cast<double>(first) + fraction * static_cast<double>(recipes)) /
                           static_cast<double>(out.rows.size()));
    };
    in_parallel(recipes, request.threads, progress, "recipes", [&](std::size_t i) {
      out.rows[first + i].measures = measures_of(study.errors_of(request.recipe[i].value));
    });
  }
  return out;
}

}  // namespace pipecast
