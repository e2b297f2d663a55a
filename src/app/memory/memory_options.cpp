#include "app/memory/memory_options.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <limits>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "base/error.hpp"
#include "base/text.hpp"

namespace pipecast {

namespace {

constexpr std::int64_t kMost = std::numeric_limits<int>::max();

/// Up to kMost.
std::optional<std::int64_t> whole_number(const std::string& text) {
  std::int64_t out = 0;
  const char* const last = text.data() + text.size();
  const auto [end, error] = std::from_chars(text.data(), last, out);
  if (error != std::errc{} || end != last || out > kMost) return std::nullopt;
  return out;
}

/// Key and value of every part; a word alone has no value. Each key stands once.
class Assignments {
 public:
  Assignments(std::string_view text, std::string_view option, const std::vector<std::string>& known)
      : option_(option) {
    if (text.empty()) return;
    for (const std::string& part : split(text, ',')) {
      const std::size_t equals = part.find('=');
      const std::string key = part.substr(0, equals);
      const std::string close = nearest(key, known);
      require(std::find(known.begin(), known.end(), key) != known.end(),
              "--{}: unknown key '{}'{}; known: {}", option, key,
              close.empty() ? "" : ", did you mean '" + close + "'?", join(known));
      require(seen_.insert(key).second, "--{}: {} is given twice", option, key);
      parts_.emplace_back(key, equals == std::string::npos ? "" : part.substr(equals + 1));
    }
  }

  template <class Number>
  void number(std::string_view key, Number& out, std::int64_t least = 1) const {
    const std::string* const value = find(key);
    if (value == nullptr) return;
    const std::optional<std::int64_t> read = whole_number(*value);
    require(read && *read >= least, "--{}: {} is '{}'; expected a whole number from {} to {}",
            option_, key, *value, least, kMost);
    out = static_cast<Number>(*read);
  }

  template <class Value>
  void choice(std::string_view key, Value& out,
              std::initializer_list<std::pair<std::string_view, Value>> choices) const {
    const std::string* const value = find(key);
    if (value == nullptr) return;
    std::vector<std::string> words;
    for (const auto& [word, meaning] : choices) {
      words.emplace_back(word);
      if (*value != word) continue;
      out = meaning;
      return;
    }
    throw Error(
        fmt::format("--{}: {} is '{}'; expected one of: {}", option_, key, *value, join(words)));
  }

  void word(std::string_view key, bool& out) const {
    const std::string* const value = find(key);
    if (value == nullptr) return;
    require(value->empty(), "--{}: {} takes no value, got '{}'", option_, key, *value);
    out = true;
  }

  [[nodiscard]] bool has(std::string_view key) const { return find(key) != nullptr; }

 private:
  [[nodiscard]] const std::string* find(std::string_view key) const {
    for (const auto& [name, value] : parts_) {
      if (name == key) return &value;
    }
    return nullptr;
  }

  std::string_view option_;
  std::set<std::string> seen_;
  std::vector<std::pair<std::string, std::string>> parts_;
};

}  // namespace

InferencePlan parse_inference_plan(std::string_view text) {
  const Assignments given(text, "inference",
                          {"tp", "dense_tp", "pp", "dp", "ep", "extra_experts", "shared_as_routed",
                           "weights", "cache"});
  InferencePlan out;
  given.number("tp", out.tp);
  if (given.has("dense_tp")) given.number("dense_tp", out.dense_tp.emplace());
  given.number("pp", out.pp);
  given.number("dp", out.dp);
  given.number("ep", out.ep);
  given.number("extra_experts", out.extra_experts, 0);
  given.word("shared_as_routed", out.shared_as_routed);
  const auto formats = {std::pair{std::string_view("fp8"), Precision::kFp8},
                        std::pair{std::string_view("bf16"), Precision::kBf16}};
  given.choice("weights", out.weights, formats);
  given.choice("cache", out.cache, formats);
  return out;
}

std::vector<std::int64_t> parse_contexts(std::string_view text) {
  std::vector<std::int64_t> out;
  for (const std::string& part : split(text, ',')) {
    const std::optional<std::int64_t> tokens = whole_number(part);
    require(tokens && *tokens > 0,
            "--contexts: got '{}'; expected tokens of requests such as 4096,32768", part);
    out.push_back(*tokens);
  }
  return out;
}

GptLayerShape parse_gpt_layer(std::string_view text) {
  const Assignments given(text, "gpt-layer",
                          {"s", "b", "h", "a", "t", "sequence_parallel", "recompute"});
  for (const char* const key : {"s", "h", "a"}) {
    require(given.has(key),
            "--gpt-layer: {} is missing; expected such as s=2048,b=1,h=12288,a=96,t=8", key);
  }
  GptLayerShape out;
  given.number("s", out.sequence);
  given.number("b", out.micro_batch);
  given.number("h", out.hidden);
  given.number("a", out.heads);
  given.number("t", out.tensor_parallel);
  given.word("sequence_parallel", out.sequence_parallel);
  given.choice("recompute", out.recompute,
               {std::pair{name_of(GptRecompute::kNone), GptRecompute::kNone},
                std::pair{name_of(GptRecompute::kSelective), GptRecompute::kSelective},
                std::pair{name_of(GptRecompute::kFull), GptRecompute::kFull}});
  return out;
}

}  // namespace pipecast
