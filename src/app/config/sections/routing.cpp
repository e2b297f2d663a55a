#include <filesystem>
#include <optional>

#include "app/config/sections/sections.hpp"

namespace pipecast::config {

namespace {

/// A number that may stand for itself or with its plausible range and source.
struct Assumed {
  Constant constant;
};

constexpr Range kAssumed = at_least(0);

Node read_value(const Node& in, const std::string& path, Assumed& out, const Range& range) {
  if (in.is_map()) return config::read_value(in, path, out.constant, range);
  Node shown = config::read_value(in, path, out.constant.value, kAssumed);
  out.constant.low = out.constant.value;
  out.constant.high = out.constant.value;
  out.constant.source = "given as a plain number";
  return shown;
}

Json value_schema(const Assumed*, const Range& range) {
  const double* const number = nullptr;
  const Constant* const section = nullptr;
  return {
      {"anyOf", {config::value_schema(number, kAssumed), config::value_schema(section, range)}}};
}

/// A file, relative to the one that names it; on the command line to the working directory.
struct FileName {
  std::string path;
};

Node read_value(const Node& in, const std::string& path, FileName& out, const Range& range) {
  Node shown = config::read_value(in, path, out.path, range);
  if (in.origin.source != nullptr && in.origin.line > 0) {
    const std::filesystem::path named_in = *in.origin.source;
    out.path = (named_in.parent_path() / out.path).lexically_normal().string();
    shown.text = out.path;
  }
  return shown;
}

Json value_schema(const FileName*, const Range& range) {
  const std::string* const text = nullptr;
  return config::value_schema(text, range);
}

/// Keys that one distribution needs and the others leave alone, so that a scenario can change its
/// distribution without losing them.
class OwnKeys {
 public:
  OwnKeys(Fields& f, const std::string& chosen, std::string_view owner)
      : f_(f), chosen_(chosen), owner_(owner) {}

  /// The value of the key, where it is given.
  template <class T>
  std::optional<T> read(std::string_view key, std::string_view doc, Range range = {}) {
    std::optional<T> value;
    f_.maybe(key, value, doc, range);
    f_.check(value || chosen_ != owner_, "distribution", "{} needs the key {}", owner_, key);
    return value;
  }

  void read(std::string_view key, Constant& constant, std::string_view doc) {
    if (const auto value = read<Assumed>(key, doc)) constant = value->constant;
  }
  template <class T>
  void read(std::string_view key, T& member, std::string_view doc, Range range) {
    if (const auto value = read<T>(key, doc, range)) member = *value;
  }

 private:
  Fields& f_;
  const std::string& chosen_;
  std::string_view owner_;
};

void describe_topics(Fields& f, RoutingSpec& routing) {
  constexpr Range kCorrelation{.low = 0, .high = 1};
  constexpr Range kTopics{.low = 1, .high = 1024};
  OwnKeys keys(f, routing.distribution, "topics");
  keys.read("topics", routing.topics, "how many topics share the popularity of experts", kTopics);
  keys.read("spread", routing.spread,
            "standard deviation of the logarithm of an expert's popularity");
  keys.read("drift_micro_batch", routing.drift_micro_batch,
            "correlation of topics between consecutive micro-batches", kCorrelation);
  keys.read("drift_layer", routing.drift_layer,
            "correlation of an expert's popularity between consecutive layers", kCorrelation);
}

}  // namespace

void describe(Fields& f, BiasRuleSpec& bias) {
  constexpr Range kUpdate{.low = 0, .high = 1};
  constexpr Range kSteps{.low = 0, .high = 100'000};
  f.optional("update", bias.update, "what a training step adds to or takes from a bias", kUpdate);
  f.optional("steps", bias.steps, "training steps before the simulated one; 0: no bias", kSteps);
}

void describe(Fields& f, RoutingSpec& routing) {
  f.choice("distribution", routing.distribution,
           words({"balanced", "dirichlet", "topics", "trace", "zipf"}),
           "how tokens spread over the experts");
  OwnKeys(f, routing.distribution, "dirichlet")
      .read("concentration", routing.concentration,
            "parameter of every expert's popularity: the higher, the more even");
  f.check(routing.distribution != "dirichlet" || routing.concentration.low > 0, "concentration",
          "must be more than 0");
  OwnKeys(f, routing.distribution, "zipf")
      .read("exponent", routing.exponent, "popularity falls with rank^-exponent; 0: even");
  describe_topics(f, routing);
  if (const auto trace =
          OwnKeys(f, routing.distribution, "trace")
              .read<FileName>("trace", "CSV of recorded counts, relative to this file"))
    routing.trace = trace->path;
  f.optional_section("bias", routing.bias, "the rule that evens the load without a loss");
  f.optional("capacity_factor", routing.capacity_factor,
             "tokens beyond this times the mean load of an expert are dropped; 0: none",
             {.low = 0, .high = 1000});
  f.optional("redundant_experts", routing.redundant_experts,
             "copies of the busiest experts of each layer in an expert-parallel group",
             {.low = 0, .high = 65536});
}

}  // namespace pipecast::config
