#include <algorithm>
#include <array>
#include <filesystem>
#include <utility>

#include "app/config/layout.hpp"
#include "app/config/sections/sections.hpp"
#include "base/registry.hpp"
#include "base/text.hpp"
#include "model/schedules/plan_schedule.hpp"

namespace pipecast::config {

namespace {

constexpr Range kRanks{.low = 1, .high = 1'000'000};

constexpr std::array kModules = {
    std::pair{std::string_view("layernorm"), &RecomputeSpec::layernorm},
    std::pair{std::string_view("mla_up_proj"), &RecomputeSpec::mla_up_proj},
    std::pair{std::string_view("moe_act"), &RecomputeSpec::moe_act},
    std::pair{std::string_view("core_attn"), &RecomputeSpec::core_attn},
};

constexpr std::array kRecomputeWords = {
    std::pair{std::string_view("none"), RecomputeSpec{}},
    std::pair{std::string_view("selective"), RecomputeSpec{.core_attn = true}},
    std::pair{std::string_view("full"), RecomputeSpec{.full = true}},
};

std::vector<std::string> module_names() {
  std::vector<std::string> out;
  for (const auto& [name, member] : kModules) out.emplace_back(name);
  return out;
}

std::vector<Choice<Precision>> precisions(const std::vector<Precision>& list) {
  std::vector<Choice<Precision>> out;
  for (const Precision p : list) out.push_back({name_of(p), p});
  return out;
}

std::vector<Choice<Phase>> phases() {
  std::vector<Choice<Phase>> out;
  for (int i = 0; i < kPhases; ++i) {
    const auto phase = static_cast<Phase>(i);
    out.push_back({name_of(phase), phase});
  }
  return out;
}

/// No phase may stand before one that it needs.
void check_order(Fields& f, std::string_view key, const std::array<Phase, kPhases>& order) {
  for (auto it = order.begin(); it != order.end(); ++it) {
    const std::optional<Phase> needed = needed_before(*it);
    if (!needed) continue;
    const std::string place = fmt::format("{}.{}", key, it - order.begin());
    f.check(std::find(order.begin(), it, *needed) != it, place,
            "'{}' stands before '{}', which it needs; expected it after", name_of(*it),
            name_of(*needed));
  }
}

/// A kind of schedule, or a file, which is relative to the one that names it; on the command line
/// to the working directory.
struct ScheduleName {
  std::string text;
};

Node read_value(const Node& in, const std::string& path, ScheduleName& out, const Range& range) {
  Node shown = config::read_value(in, path, out.text, range);
  if (!names_file(out.text)) return shown;
  const std::string file = out.text.substr(kScheduleFile.size());
  require_at(!file.empty(), in.origin, path, "names no file; expected file:PATH");
  if (in.origin.source != nullptr && in.origin.line > 0) {
    const std::filesystem::path named_in = *in.origin.source;
    out.text = kScheduleFile;
    out.text += (named_in.parent_path() / file).lexically_normal().string();
    shown.text = out.text;
  }
  return shown;
}

Json value_schema(const ScheduleName*, const Range& range) {
  const std::string* const text = nullptr;
  return config::value_schema(text, range);
}

bool searches(const std::string& schedule) {
  const auto& registry = Registry<ScheduleKind>::instance();
  return registry.contains(schedule) && registry.find(schedule).searches;
}

void check_schedule(Fields& f, std::string_view key, const std::string& name,
                    std::string_view others = "") {
  const auto& registry = Registry<ScheduleKind>::instance();
  f.check(registry.contains(name), key, "unknown schedule {}; known: {}{}", in_quotes(name),
          join(registry.names()), others);
}

void check_virtual_stages(Fields& f, const PlanSpec& plan) {
  if (!plan.vpp) return;
  f.check(!names_file(plan.schedule), "vpp",
          "how many stages a rank has is in the file of the schedule; expected no vpp");
  const auto& kinds = Registry<ScheduleKind>::instance();
  if (!kinds.contains(plan.schedule)) return;
  const ScheduleKind& kind = kinds.find(plan.schedule);
  f.check(kind.takes_virtual_stages || *plan.vpp == kind.virtual_stages, "vpp",
          "{} stages on a rank; schedule {} always has {}", *plan.vpp, plan.schedule,
          kind.virtual_stages);
}

}  // namespace

Node read_value(const Node& in, const std::string& path, RecomputeSpec& out, const Range&) {
  out = {};
  for (const auto& [word, modules] : kRecomputeWords) {
    if (!in.is_scalar() || in.text != word) continue;
    out = modules;
    Node shown = in;
    shown.kind = Kind::kText;
    return shown;
  }
  require_at(in.is_list(), in.origin, path,
             "is {}; expected none, selective (core_attn), full, or a list of: {}",
             describe_node(in), join(module_names()));
  Node shown = in;
  for (Node& item : shown.children) {
    bool known = false;
    for (const auto& [name, member] : kModules) {
      if (!item.is_scalar() || item.text != name) continue;
      require_at(!(out.*member), item.origin, path, "{} stands twice", describe_node(item));
      out.*member = known = true;
    }
    require_at(known, item.origin, path, "is {}; expected one of: {}", describe_node(item),
               join(module_names()));
    item.kind = Kind::kText;
  }
  return shown;
}

Json value_schema(const RecomputeSpec*, const Range&) {
  std::vector<std::string> alone;
  for (const auto& [word, modules] : kRecomputeWords) alone.emplace_back(word);
  return {{"anyOf",
           {{{"enum", alone}},
            {{"type", "array"},
             {"uniqueItems", true},
             {"items", {{"type", "string"}, {"enum", module_names()}}}}}}};
}

Node read_value(const Node& in, const std::string& path, PipelineLayout& out, const Range&) {
  out.clear();
  if (in.is_scalar() && in.text == "auto") return in;
  require_at(in.is_list(), in.origin, path,
             "is {}; expected 'auto' or a list of stages such as 'embedding dense*3 moe'",
             describe_node(in));
  Node shown = in;
  for (Node& stage : shown.children) {
    const std::string stage_path = join_path(path, std::to_string(out.size()));
    require_at(stage.is_scalar(), stage.origin, stage_path,
               "is {}; expected a stage such as 'embedding dense*3 moe'", describe_node(stage));
    try {
      out.push_back(parse_stage(stage.text));
    } catch (const Error& e) {
      fail(stage.origin, stage_path, e.what());
    }
    stage.kind = Kind::kText;
  }
  require_at(!out.empty(), in.origin, path,
             "is an empty list; expected 'auto' or a list of stages");
  return shown;
}

Json value_schema(const PipelineLayout*, const Range&) {
  return {{"anyOf",
           {{{"const", "auto"}},
            {{"type", "array"},
             {"minItems", 1},
             {"items",
              {{"type", "string"},
               {"pattern", R"(^ *((embedding|dense|moe|mtp|head)(\*[1-9][0-9]*)? *)+$)"}}}}}}};
}

void describe(Fields& f, PrecisionSpec& p) {
  f.optional_choice<Precision>("gemm", p.gemm,
                               {{"fp8-block", Precision::kFp8}, {"bf16", Precision::kBf16}},
                               "matrix products of the linear layers");
  f.optional_choice("dispatch", p.dispatch, precisions({Precision::kFp8, Precision::kBf16}),
                    "tokens on their way to the experts");
  f.optional_choice("combine", p.combine, precisions({Precision::kBf16, Precision::kFp8}),
                    "expert outputs on their way back");
  f.optional_choice<std::optional<Precision>>(
      "activations", p.activations,
      {{"gemm", std::nullopt}, {"fp8", Precision::kFp8}, {"bf16", Precision::kBf16}},
      "inputs of linear layers and of SwiGLU as kept for backward; gemm: as the products read "
      "them");
  f.check(p.activations != Precision::kFp8 || p.gemm == Precision::kFp8, "activations",
          "products read bf16, so nothing is there in fp8; expected gemm or bf16");
  f.optional_choice("attention_output", p.attention_output,
                    precisions({Precision::kE5m6, Precision::kFp8, Precision::kBf16}),
                    "attention outputs as kept for backward");
  f.optional_choice("moments", p.moments, precisions({Precision::kBf16, Precision::kFp32}),
                    "the two moments of AdamW");
  f.optional_choice("master_weights", p.master_weights, precisions({Precision::kFp32}),
                    "the optimizer's weights");
  f.optional_choice("gradients", p.gradients, precisions({Precision::kFp32, Precision::kBf16}),
                    "accumulation and reduction of gradients");
  f.optional_choice("parameter_gather", p.parameter_gather,
                    precisions({Precision::kBf16, Precision::kFp8}),
                    "parameters gathered after the optimizer");
  f.optional_choice("pipeline_transfer", p.pipeline_transfer,
                    precisions({Precision::kBf16, Precision::kFp8}),
                    "activations and gradients between stages");
}

void describe(Fields& f, OverlapSpec& overlap) {
  f.optional("communication", overlap.communication,
             "whether dispatch and combine run beside computation; false: every kernel has the GPU "
             "for itself");
  f.optional("weight_gradient_streams", overlap.weight_gradient_streams,
             "streams on which the experts' weight gradients take turns", {.low = 1, .high = 2});
  f.optional_order("order", overlap.order, phases(),
                   "launch order of a forward and a backward that overlap, layer by layer");
  check_order(f, "order", overlap.order);
}

void describe(Fields& f, MemoryPlanSpec& memory) {
  f.optional("reserve", memory.reserve,
             "of what the device shows, not for tensors: CUDA context, rings of NCCL and DeepEP, "
             "what the allocator cannot use",
             at_least(0));
  f.optional_choice("ema", memory.ema,
                    {{"none", MemoryPlace::kNowhere},
                     {"device", MemoryPlace::kDevice},
                     {"host", MemoryPlace::kHost}},
                    "where a moving average of the parameters is, in FP32");
  f.optional_choice("optimizer", memory.optimizer,
                    {{"device", MemoryPlace::kDevice}, {"host", MemoryPlace::kHost}},
                    "where master weights and moments are; from the host they pass through the GPU "
                    "once a step");
}

void describe(Fields& f, PlanSpec& plan) {
  f.optional("tp", plan.tp, "tensor-parallel ranks; only 1 for now", kRanks);
  f.check(plan.tp == 1, "tp", "tensor parallelism over {} ranks is not simulated yet; expected 1",
          plan.tp);
  f.optional("cp", plan.cp, "context-parallel ranks; only 1 for now", kRanks);
  f.check(plan.cp == 1, "cp", "context parallelism over {} ranks is not simulated yet; expected 1",
          plan.cp);
  f.required("pp", plan.pp, "pipeline ranks", {.low = 1, .high = 4'096});
  f.required("ep", plan.ep, "expert-parallel ranks", kRanks);
  f.required("zero_stage", plan.zero_stage,
             "what is sharded over data-parallel ranks: 0 nothing, 1 the optimizer state, 2 the "
             "gradients too, 3 the weights too",
             {.low = 0, .high = 3});
  ScheduleName schedule;
  f.required("schedule", schedule,
             "pipeline schedule, see 'pipecast list schedules'; or file:PATH, relative to this "
             "file");
  plan.schedule = schedule.text;
  if (!names_file(plan.schedule)) check_schedule(f, "schedule", plan.schedule, ", file:PATH");
  f.maybe("activation_limit", plan.activation_limit,
          "most live chunks on a rank, for a searched schedule; null: as many as 1F1B keeps",
          {.low = 1, .high = 1'000'000});
  f.check(!plan.activation_limit || searches(plan.schedule), "activation_limit",
          "schedule {} is not searched, so nothing can be limited; expected none", plan.schedule);
  f.maybe("vpp", plan.vpp,
          "virtual stages per rank, for schedules that take a number of them; none: the "
          "schedule's own number",
          {.low = 1, .high = 256});
  check_virtual_stages(f, plan);
  f.maybe("fallback_schedule", plan.fallback_schedule,
          "schedule of steps with too few micro-batches for `schedule`");
  if (!plan.fallback_schedule.empty())
    check_schedule(f, "fallback_schedule", plan.fallback_schedule);
  f.required("micro_batch_size", plan.micro_batch_size, "sequences of a micro-batch",
             {.low = 1, .high = 65'536});
  f.required(
      "communication_sms", plan.communication_sms,
      "SMs of the dispatch and combine kernels; 0: an engine beside the SMs moves the tokens",
      at_least(0));
  f.required("pipeline_layout", plan.pipeline_layout,
             "layers of every stage, such as 'embedding dense*3 moe', or auto");
  f.required("recompute_modules", plan.recompute,
             "what backward computes again instead of keeping it");
  f.optional_section("overlap", plan.overlap, "what runs beside what");
  f.optional_section("precision", plan.precision, "number formats");
  f.optional_section("memory", plan.memory, "what else memory holds, and where");
}

}  // namespace pipecast::config
