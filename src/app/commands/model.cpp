#include <fmt/format.h>

#include <vector>

#include "app/commands/command.hpp"
#include "app/commands/command_line.hpp"
#include "app/config/load.hpp"
#include "app/report/model_report.hpp"

namespace pipecast {

namespace {

namespace po = boost::program_options;

Precision precision_of(const std::string& word) {
  if (word == "fp8") return Precision::kFp8;
  require(word == "bf16", "--precision: unknown '{}'; it is fp8 or bf16", word);
  return Precision::kBf16;
}

/// The plan that the operation lists stand for: one GPU of an expert-parallel group.
PlanSpec plan_of(const CommandLine& line) {
  PlanSpec plan;
  plan.ep = line.get<int>("ep");
  plan.precision.gemm = precision_of(line.text("precision"));
  if (plan.precision.gemm == Precision::kBf16) {
    plan.precision.dispatch = Precision::kBf16;
    plan.precision.attention_output = Precision::kBf16;
  }
  const bool recompute = line.has("recompute");
  plan.recompute = {.layernorm = recompute, .mla_up_proj = recompute, .moe_act = recompute};
  return plan;
}

int run_model(const std::vector<std::string>& arguments) {
  CommandLine line("model MODEL.yaml|config.json [options]",
                   "Counts a model's parameters, FLOPs and KV cache, and lists the operations of "
                   "its layers on one GPU.");
  line.options().add_options()                                                              //
      ("seq-length", po::value<std::int64_t>()->default_value(4096)->value_name("N"),       //
       "tokens of a sequence, the micro-batch")                                             //
      ("ep", po::value<int>()->default_value(1)->value_name("N"),                           //
       "GPUs that share the experts of a layer")                                            //
      ("precision", po::value<std::string>()->default_value("fp8")->value_name("P"),        //
       "of matrix products: fp8 or bf16")                                                   //
      ("recompute", "recompute norms, MLA up-projections and SwiGLU in the backward pass")  //
      ("operations", "print every kernel launch, not only sums by phase");
  line.add_positional("MODEL", "a model's YAML file, or the config.json of its checkpoint");
  if (!line.parse(arguments)) return 0;

  const ModelSpec model = load_model(line.text("MODEL"));
  const ModelReport report =
      model_report(model, plan_of(line), line.get<std::int64_t>("seq-length"));
  if (line.talks()) fmt::print("{}", model_text(report, line.has("operations")));
  line.write_json(model_json(report));
  return 0;
}

const Register<Command> kEntry{
    "model", {run_model, "parameters, FLOPs, KV cache and operations of a model"}};

}  // namespace

}  // namespace pipecast
