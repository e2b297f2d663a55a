#include "app/config/sections/sections.hpp"

namespace pipecast::config {

namespace {

constexpr Range kSequences{.low = 1, .high = 100'000'000};

void describe_ramp(Fields& f, BatchRamp& ramp) {
  f.required("from", ramp.from, "sequences per step at the start", kSequences);
  f.required("to", ramp.to, "sequences per step at the end", kSequences);
  f.required("increment", ramp.increment, "sequences from one size to the next", kSequences);
  f.check(ramp.from < ramp.to, "to", "{} must be more than from = {}", ramp.to, ramp.from);
  f.check(ramp.increment < 1 || (ramp.to - ramp.from) % ramp.increment == 0, "increment",
          "steps of {} do not lead from {} to {}", ramp.increment, ramp.from, ramp.to);
}

void check_phase(Fields& f, const PhaseSpec& phase, const std::string& source) {
  const bool simulated = phase.tokens.has_value() && phase.global_batch_size.has_value();
  const bool any_simulated = phase.tokens.has_value() || phase.global_batch_size.has_value();
  f.check(simulated || !any_simulated, phase.tokens ? "tokens" : "global_batch_size",
          "a simulated phase needs tokens and global_batch_size");
  f.check(!(any_simulated && phase.gpu_hours), "gpu_hours",
          "a phase has either tokens and global_batch_size (it is simulated) or gpu_hours "
          "(published)");
  f.check(any_simulated || phase.gpu_hours, "name",
          "phase {} has neither tokens and global_batch_size nor gpu_hours", in_quotes(phase.name));
  f.check(source.empty() || (source == "published") == phase.gpu_hours.has_value(), "source",
          "'{}' contradicts the phase, which has {}", source,
          phase.gpu_hours ? "gpu_hours" : "tokens");
  f.check(!phase.gpu_hours || !source.empty(), "gpu_hours", "needs 'source: published' beside it");
}

}  // namespace

Node read_value(const Node& in, const std::string& path, BatchRamp& out, const Range&) {
  if (!in.is_map()) {
    Node shown = read_value(in, path, out.from, kSequences);
    out.to = out.from;
    return shown;
  }
  return read_section(in, path, [&out](Fields& f) { describe_ramp(f, out); });
}

Json value_schema(const BatchRamp*, const Range&) {
  BatchRamp ramp;
  return {{"anyOf",
           {value_schema(&ramp.from, kSequences),
            section_schema([&ramp](Fields& f) { describe_ramp(f, ramp); }, false)}}};
}

void describe(Fields& f, PhaseSpec& phase) {
  f.required("name", phase.name, "what results call the phase");
  f.maybe("tokens", phase.tokens, "tokens trained on, if the phase is simulated", positive());
  f.maybe("global_batch_size", phase.global_batch_size,
          "sequences per step, if the phase is simulated");
  f.maybe("gpu_hours", phase.gpu_hours, "published GPU hours, instead of a simulation", positive());
  std::string source;
  f.maybe("source", source, "simulated or published");
  f.check(source.empty() || source == "simulated" || source == "published", "source",
          "is {}; expected one of: simulated, published", in_quotes(source));
  f.overrides("plan", phase.plan, "keys of the scenario's plan that differ in this phase");
  check_phase(f, phase, source);
}

void describe(Fields& f, RecipeSpec& recipe) {
  f.choice("optimizer", recipe.optimizer, words({"adamw"}), "the optimizer");
  f.required("seq_length", recipe.seq_length, "tokens of a sequence",
             {.low = 1, .high = 16'777'216});
  f.required("phases", recipe.phases, "a list of phases, in order");
  bool simulated = false;
  for (const PhaseSpec& phase : recipe.phases) simulated = simulated || phase.tokens.has_value();
  f.check(simulated, "phases",
          "expected at least one phase to simulate, with tokens and "
          "global_batch_size");
}

}  // namespace pipecast::config
