#include "app/numerics/moments_study.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "kernels/numerics/moments.hpp"

namespace pipecast {

NumericsTable study_moments(const MomentsStudyRequest& request) {
  std::vector<ListedValue<int>> steps = request.steps;
  std::sort(steps.begin(), steps.end(),
            [](const auto& a, const auto& b) { return a.value < b.value; });
  std::vector<int> checkpoints;
  for (const ListedValue<int>& one : steps) checkpoints.push_back(one.value);
  NumericsTable out{
      .study = "moments",
      .title = fmt::format(
          "AdamW with stored moments, learning rate {:g}: a small network learns from another",
          request.learning_rate),
      .settings = {{"format", "format", request.format},
                   {"beta2", "beta2", request.beta2},
                   {"steps", "steps", steps}},
      .measures = {{"weight_divergence", "weights off by"},
                   {"loss", "loss"},
                   {"exact_loss", "exact"},
                   {"second_moment_ratio", "2nd moment / exact"}},
      .rows = {},
      .notes =
          "weights off by: distance from the weights that exact moments give, over the way that "
          "these have\n"
          "gone; loss: on inputs of its own; exact: with exact moments; the last column is a mean "
          "over the\n"
          "weights.\n"};
  for (const std::vector<std::size_t>& chosen : combinations(out.settings))
    out.rows.push_back({chosen, {}});
  // Rows of one training follow each other.
  in_parallel(out.rows.size() / steps.size(), request.threads, request.progress, "trainings",
              [&](std::size_t training) {
                const std::size_t first = training * steps.size();
                const std::vector<std::size_t>& chosen = out.rows[first].settings;
                const auto found =
                    kernels::moments_error({.format = request.format[chosen[0]].value,
                                            .beta2 = request.beta2[chosen[1]].value,
                                            .learning_rate = request.learning_rate,
                                            .checkpoints = checkpoints,
                                            .seed = request.seed});
                for (std::size_t i = 0; i < found.size(); ++i) {
                  out.rows[first + i].measures = {found[i].divergence, found[i].loss,
                                                  found[i].exact_loss, found[i].second_moment};
                }
              });
  return out;
}

}  // namespace pipecast
