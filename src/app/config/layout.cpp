#include "app/config/layout.hpp"

#include <algorithm>
#include <array>
#include <charconv>

#include "app/config/node.hpp"
#include "app/config/quantity.hpp"
#include "base/text.hpp"

namespace pipecast::config {

namespace {

constexpr std::array kKinds = {LayerKind::kEmbedding, LayerKind::kDense, LayerKind::kMoe,
                               LayerKind::kMtp, LayerKind::kHead};
constexpr std::int64_t kMostRepeats = 4'096;  // as many as a model may have layers

LayerKind parse_kind(std::string_view word) {
  std::vector<std::string> known;
  for (const LayerKind kind : kKinds) {
    if (name_of(kind) == word) return kind;
    known.emplace_back(name_of(kind));
  }
  throw Error(
      fmt::format("{} is no kind of layer; expected one of: {}", in_quotes(word), join(known)));
}

std::int64_t count(const std::vector<LayerKind>& layers, LayerKind kind) {
  return std::count(layers.begin(), layers.end(), kind);
}

}  // namespace

std::vector<LayerKind> parse_stage(std::string_view text) {
  std::vector<LayerKind> out;
  std::size_t at = 0;
  while (true) {
    at = text.find_first_not_of(' ', at);
    if (at == std::string_view::npos) break;
    const std::size_t end = std::min(text.find(' ', at), text.size());
    const std::string_view word = text.substr(at, end - at);
    const std::size_t star = word.find('*');
    std::int64_t repeats = 1;
    if (star != std::string_view::npos) {
      repeats = parse_integer(word.substr(star + 1));
      require(repeats >= 1 && repeats <= kMostRepeats, "{} repeats {} times; expected 1 to {}",
              in_quotes(word), repeats, kMostRepeats);
    }
    out.insert(out.end(), static_cast<std::size_t>(repeats), parse_kind(word.substr(0, star)));
    require(out.size() <= static_cast<std::size_t>(kMostRepeats), "holds more than {} layers",
            kMostRepeats);
    at = end;
  }
  require(!out.empty(), "is an empty stage; expected layers such as 'embedding dense*3 moe'");
  return out;
}

std::string stage_to_text(const std::vector<LayerKind>& stage) {
  std::string out;
  for (auto it = stage.begin(); it != stage.end();) {
    const auto next = std::find_if(it, stage.end(), [&](LayerKind kind) { return kind != *it; });
    if (!out.empty()) out += ' ';
    out += name_of(*it);
    if (next - it > 1) out += fmt::format("*{}", next - it);
    it = next;
  }
  return out;
}

std::vector<LayerKind> layers_of(const ModelSpec& model) {
  std::vector<LayerKind> out = {LayerKind::kEmbedding};
  out.insert(out.end(), static_cast<std::size_t>(model.first_k_dense_replace), LayerKind::kDense);
  out.insert(out.end(), static_cast<std::size_t>(model.moe_layers()), LayerKind::kMoe);
  out.push_back(LayerKind::kHead);
  for (std::int64_t i = 0; i < model.num_nextn_predict_layers; ++i) {
    out.push_back(LayerKind::kMtp);
    out.push_back(LayerKind::kHead);
  }
  return out;
}

PipelineLayout automatic_layout(const ModelSpec& model, int stages) {
  const std::int64_t tail = 1 + 2 * model.num_nextn_predict_layers;  // heads and MTP modules
  const std::int64_t share = (model.num_hidden_layers + tail) / stages;
  std::int64_t last =
      stages == 1 ? model.num_hidden_layers : std::max<std::int64_t>(share - tail, 0);
  const std::int64_t front = model.num_hidden_layers - last;
  require(stages == 1 || front >= stages - 1, "{} layers are too few for {} stages",
          model.num_hidden_layers, stages);

  const std::vector<LayerKind> layers = layers_of(model);
  PipelineLayout out;
  auto next = layers.begin();
  for (int stage = 0; stage + 1 < stages; ++stage) {
    const bool larger = stage < front % (stages - 1);
    const std::int64_t size = front / (stages - 1) + (larger ? 1 : 0) + (stage == 0 ? 1 : 0);
    out.emplace_back(next, next + size);
    next += size;
  }
  out.emplace_back(next, layers.end());
  return out;
}

void check_layout(const PipelineLayout& layout, const ModelSpec& model, int ranks,
                  int stages_per_rank) {
  const int stages = ranks * stages_per_rank;
  const std::string share = stages_per_rank == 1 ? "one" : std::to_string(stages_per_rank);
  require(layout.size() == static_cast<std::size_t>(stages),
          "has {} stages; the schedule puts {} on each of the pp = {} pipeline ranks: expected {}, "
          "or auto (--set plan.pipeline_layout=auto)",
          layout.size(), share, ranks, stages);
  std::vector<LayerKind> given;
  for (const auto& stage : layout) given.insert(given.end(), stage.begin(), stage.end());
  const std::vector<LayerKind> expected = layers_of(model);
  for (const LayerKind kind : kKinds) {
    require(count(given, kind) == count(expected, kind), "holds {} times '{}'; the model has {}",
            count(given, kind), name_of(kind), count(expected, kind));
  }
  require(given == expected, "has the layers in a wrong order; expected {}",
          in_quotes(stage_to_text(expected)));
}

}  // namespace pipecast::config
