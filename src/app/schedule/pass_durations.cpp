#include "app/schedule/pass_durations.hpp"

#include <algorithm>
#include <charconv>
#include <map>
#include <optional>
#include <string>

#include "base/error.hpp"
#include "base/text.hpp"

namespace pipecast {
namespace {

constexpr std::int64_t kMostTicks = 1'000'000;
constexpr double kMostFactor = 1'000;

template <class Number>
std::optional<Number> number(std::string_view text) {
  Number out{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), out);
  if (error != std::errc{} || end != text.data() + text.size()) return std::nullopt;
  return out;
}

}  // namespace

PassDurations parse_durations(std::string_view text) {
  constexpr std::string_view kForm = "expected such as F=10,B=30,Bi=18,W=12,FB=34, in ticks";
  std::map<std::string, std::int64_t, std::less<>> given;
  for (const std::string& part : split(text, ',')) {
    const std::size_t equals = part.find('=');
    const std::string name = part.substr(0, equals);
    const bool known = name == "F" || name == "B" || name == "Bi" || name == "W" || name == "FB";
    require(known && equals != std::string_view::npos, "--durations: got '{}'; {}", part, kForm);
    const std::string value = part.substr(equals + 1);
    const auto ticks = number<std::int64_t>(value);
    require(ticks && *ticks >= 0 && *ticks <= kMostTicks,
            "--durations: {} takes '{}'; expected whole ticks from 0 to {}", name, value,
            kMostTicks);
    require(given.emplace(name, *ticks).second, "--durations: {} is given twice", name);
  }
  const auto of = [&](const char* name) -> std::optional<std::int64_t> {
    const auto it = given.find(name);
    return it == given.end() ? std::nullopt : std::optional(it->second);
  };
  require(of("F").has_value(), "--durations: F is missing; {}", kForm);
  std::optional<std::int64_t> both = of("B");
  std::optional<std::int64_t> input = of("Bi");
  std::optional<std::int64_t> weight = of("W");
  if (both && !input && !weight) weight = *both / 2;
  require(both.has_value() || (input && weight),
          "--durations: neither B nor both of Bi and W are given; {}", kForm);
  if (!both) both = *input + *weight;
  if (!input) input = std::max<std::int64_t>(0, *both - *weight);
  if (!weight) weight = std::max<std::int64_t>(0, *both - *input);
  const std::int64_t overlapped = of("FB").value_or(*of("F") + *both);
  return {.forward = Duration(*of("F")),
          .backward = Duration(*both),
          .backward_input = Duration(*input),
          .backward_weight = Duration(*weight),
          .overlapped = Duration(overlapped)};
}

std::vector<double> parse_factors(std::string_view text, std::string_view option) {
  std::vector<double> out;
  for (const std::string& part : split(text, ',')) {
    const auto factor = number<double>(part);
    require(factor && *factor >= 0 && *factor <= kMostFactor,
            "{}: got '{}'; expected factors from 0 to {:g}, such as 1,1,1.5", option, part,
            kMostFactor);
    out.push_back(*factor);
  }
  return out;
}

PassDurations scaled(const PassDurations& durations, double factor) {
  const auto times = [factor](Duration d) {
    return duration_from_picoseconds(static_cast<double>(d.count()) * factor);
  };
  return {.forward = times(durations.forward),
          .backward = times(durations.backward),
          .backward_input = times(durations.backward_input),
          .backward_weight = times(durations.backward_weight),
          .overlapped = times(durations.overlapped)};
}

}  // namespace pipecast
