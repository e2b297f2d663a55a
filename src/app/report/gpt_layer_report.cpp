#include "app/report/gpt_layer_report.hpp"

#include <fmt/format.h>

#include <utility>

#include "app/report/table.hpp"

namespace pipecast {

namespace {

using Json = nlohmann::ordered_json;

std::string megabytes(double bytes) { return fmt::format("{:.3f} MB", bytes / 1e6); }
std::string megabytes(Bytes bytes) { return megabytes(static_cast<double>(bytes.count())); }

std::string heading(const GptLayerShape& p) {
  const std::string parallel =
      p.tensor_parallel == 1
          ? "one GPU"
          : fmt::format("tensor{} parallelism over {} GPUs",
                        p.sequence_parallel ? " and sequence" : "", p.tensor_parallel);
  return fmt::format(
      "One GPT layer, s={} b={} h={} a={}, {}, recomputation: {}\n"
      "Kept for the backward pass by one GPU\n\n",
      p.sequence, p.micro_batch, p.hidden, p.heads, parallel, name_of(p.recompute));
}

Json shape_json(const GptLayerShape& p) {
  return {{"sequence", p.sequence},
          {"micro_batch", p.micro_batch},
          {"hidden", p.hidden},
          {"heads", p.heads},
          {"tensor_parallel", p.tensor_parallel},
          {"sequence_parallel", p.sequence_parallel},
          {"recompute", name_of(p.recompute)}};
}

}  // namespace

GptLayerReport gpt_layer_report(const GptLayerShape& shape) {
  GptLayerReport out;
  out.shape = shape;
  out.tensors = gpt_layer_tensors(shape);
  out.kept = sum_of(out.tensors);
  out.formula = gpt_layer_formula(shape);
  out.variants = gpt_layer_variants(shape);
  return out;
}

std::string gpt_layer_text(const GptLayerReport& report) {
  Table tensors({"tensor", "rows x columns", "bytes each", "kept", "divided by", "for"}, {4, 5});
  for (const GptTensor& t : report.tensors) {
    tensors.add({std::string(t.name), fmt::format("{} x {}", t.rows, t.columns),
                 std::to_string(t.bytes_per_element), megabytes(t.bytes()),
                 fmt::format("{} parallelism", name_of(t.split)), std::string(t.reason)});
  }
  tensors.add({"sum", "", "", megabytes(report.kept), "", ""});
  tensors.add(
      {"formula", "", "", megabytes(report.formula.bytes), "", std::string(report.formula.text)});
  Table variants({"the same layer with", "sum of tensors", "formula", ""}, {3});
  for (const GptVariant& v : report.variants) {
    variants.add({std::string(v.name), v.kept ? megabytes(*v.kept) : "t does not divide s",
                  megabytes(v.formula.bytes), std::string(v.formula.text)});
  }
  return heading(report.shape) + tensors.text() + '\n' + variants.text() +
         "Formulas: Korthikanti et al. 2022 (arXiv 2205.05198), Table 2\n";
}

Json gpt_layer_json(const GptLayerReport& report) {
  Json tensors = Json::array();
  for (const GptTensor& t : report.tensors) {
    tensors.push_back({{"name", t.name},
                       {"rows", t.rows},
                       {"columns", t.columns},
                       {"bytes_per_element", t.bytes_per_element},
                       {"bytes", t.bytes().count()},
                       {"split", name_of(t.split)},
                       {"reason", t.reason}});
  }
  Json variants = Json::array();
  for (const GptVariant& v : report.variants) {
    variants.push_back({{"name", v.name},
                        {"formula", v.formula.text},
                        {"formula_bytes", v.formula.bytes},
                        {"kept_bytes", v.kept ? Json(v.kept->count()) : Json(nullptr)}});
  }
  return {{"shape", shape_json(report.shape)},     {"tensors", std::move(tensors)},
          {"kept_bytes", report.kept.count()},     {"formula", report.formula.text},
          {"formula_bytes", report.formula.bytes}, {"variants", std::move(variants)}};
}

}  // namespace pipecast
