#include "app/report/comparison.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <map>
#include <string_view>
#include <utility>

namespace pipecast {

namespace {

using Json = nlohmann::json;

template <std::size_t N>
bool contains(const std::array<std::string_view, N>& words, std::string_view word) {
  return std::find(words.begin(), words.end(), word) != words.end();
}

constexpr std::array<std::string_view, 2> kNotCompared = {"simulator", "version"};

/// Sections that repeat what was asked: their numbers are settings.
constexpr std::array<std::string_view, 9> kInputs = {
    "config",     "assumptions", "seed",          "shape",            "sms",
    "seq_length", "layer_kinds", "peers_late_us", "communication_sms"};

/// What a planner looks at first, in this order.
constexpr std::array<std::string_view, 5> kHeadline = {
    "step.time_s", "step.tokens_per_day", "throughput.mfu_causal",
    "run.gpu_hours_per_trillion_tokens", "run.cost_usd"};

/// Keys by which an element of a list says what it is.
constexpr std::array<std::string_view, 8> kIdentity = {
    "name", "key", "quantity", "op", "label", "operation", "resource", "pipeline_rank"};

/// Words in the names of numbers that can be set beside each other. Names carry their unit.
constexpr std::array<std::string_view, 18> kUnits = {
    "s",      "us",   "ms",    "seconds", "hours", "day", "days",   "bytes",    "token",
    "tokens", "flop", "flops", "tflops",  "mfu",   "usd", "cycles", "fraction", "percent"};

/// The words of a name that are units: "s" of "breakdown_s", "tokens day" of "tokens_per_day".
std::string unit_of(std::string_view name) {
  std::string out;
  while (!name.empty()) {
    const std::size_t end = std::min(name.find('_'), name.size());
    const std::string_view word = name.substr(0, end);
    if (contains(kUnits, word)) out.append(out.empty() ? "" : " ").append(word);
    name.remove_prefix(std::min(end + 1, name.size()));
  }
  return out;
}

/// Numbers that can be set beside each other: section and unit, or siblings without a unit.
using Group = std::pair<std::string, std::string>;

/// A path with what decides how its value is compared.
struct Place {
  ResultPath path;
  std::string parent;   // key of the map or list that it stands in
  std::string section;  // the first key
  std::string unit;     // of the last key that has one

  [[nodiscard]] Group group() const { return {unit.empty() ? parent : section, unit}; }

  [[nodiscard]] Place member(const std::string& name) const {
    Place out = *this;
    out.parent = path.key;
    out.path.key += (path.key.empty() ? "" : ".") + name;
    out.path.family += (path.key.empty() ? "" : ".") + name;
    if (section.empty()) out.section = name;
    if (std::string unit_here = unit_of(name); !unit_here.empty()) out.unit = std::move(unit_here);
    return out;
  }
  [[nodiscard]] Place element(const ResultPath& name) const {
    Place out = *this;
    out.parent = path.key;
    out.path.key += "[" + name.key + "]";
    out.path.family += "[" + name.family + "]";
    return out;
  }
};

/// What an element of a list is: "gemm_fp8, tensor, 3"; nothing where it does not say.
ResultPath identity_of(const Json& element) {
  ResultPath out;
  if (!element.is_object()) return out;
  const auto append = [&](std::string_view name) {
    const auto it = element.find(name);
    if (it == element.end() || !(it->is_string() || it->is_number_integer())) return;
    const std::string text = it->is_string() ? it->get<std::string>() : it->dump();
    if (text.empty()) return;
    const std::string comma = out.key.empty() ? "" : ", ";
    out.key += comma + text;
    out.family += comma + (name == "pipeline_rank" ? "*" : text);
  };
  for (const std::string_view name : kIdentity) append(name);
  if (out.key.empty()) append("kind");  // of a layer; elsewhere it is a property
  return out;
}

bool all_identified(const Json& list) {
  return std::all_of(list.begin(), list.end(),
                     [](const Json& element) { return !identity_of(element).key.empty(); });
}

using Elements = std::map<std::string, std::pair<ResultPath, const Json*>>;

/// The elements of a list by what they are; the second of a kind is "gemm_fp8 #2".
Elements by_identity(const Json& list) {
  Elements out;
  std::map<std::string, int> seen;
  for (const Json& element : list) {
    const ResultPath name = identity_of(element);
    int& occurrence = seen[name.key];
    for (bool taken = true; taken;) {
      const std::string suffix = ++occurrence == 1 ? "" : fmt::format(" #{}", occurrence);
      const ResultPath here{name.key + suffix, name.family + suffix};
      taken = !out.emplace(here.key, std::pair(here, &element)).second;
    }
  }
  return out;
}

/// A number without rounding: long double holds every integer of 64 bits, which double does not.
long double exactly(const Json& number) { return number.get<long double>(); }

bool equal(const Json& a, const Json& b) {
  return a.is_number() && b.is_number() ? exactly(a) == exactly(b) : a == b;
}

class Comparer {
 public:
  Comparison run(const Json& a, const Json& b) {
    compare_maps({}, a, b);
    rank();
    return std::move(out_);
  }

 private:
  struct Number {
    Place place;
    Json a;
    Json b;
  };

  void compare(const Place& place, const Json& a, const Json& b) {
    const bool input = contains(kInputs, place.section);
    if (a.is_object() && b.is_object()) {
      compare_maps(place, a, b);
    } else if (a.is_array() && b.is_array()) {
      compare_lists(place, a, b);
    } else if (a.is_number() && b.is_number() && !input) {
      compare_numbers(place, a, b);
    } else if (!equal(a, b)) {
      out_.settings.push_back({place.path, a, b});
    }
  }

  void compare_numbers(const Place& place, const Json& a, const Json& b) {
    ++out_.numbers;
    long double& largest = largest_[place.group()];
    largest = std::max({largest, std::fabs(exactly(a)), std::fabs(exactly(b))});
    if (!equal(a, b) || contains(kHeadline, place.path.key)) numbers_.push_back({place, a, b});
  }

  void compare_maps(const Place& place, const Json& a, const Json& b) {
    const auto skipped = [&](const std::string& name) {
      return place.section.empty() && contains(kNotCompared, name);
    };
    for (const auto& [name, value] : a.items()) {
      if (skipped(name)) continue;
      const auto other = b.find(name);
      if (other == b.end()) {
        out_.only_a.push_back(place.member(name).path);
      } else {
        compare(place.member(name), value, *other);
      }
    }
    for (const auto& [name, value] : b.items()) {
      if (!skipped(name) && !a.contains(name)) out_.only_b.push_back(place.member(name).path);
    }
  }

  void compare_lists(const Place& place, const Json& a, const Json& b) {
    if (!all_identified(a) || !all_identified(b)) {
      compare_by_position(place, a, b);
      return;
    }
    const Elements in_a = by_identity(a);
    const Elements in_b = by_identity(b);
    for (const auto& [key, named] : in_a) {
      const Place here = place.element(named.first);
      if (const auto other = in_b.find(key); other == in_b.end()) {
        out_.only_a.push_back(here.path);
      } else {
        compare(here, *named.second, *other->second.second);
      }
    }
    for (const auto& [key, named] : in_b) {
      if (in_a.count(key) == 0) out_.only_b.push_back(place.element(named.first).path);
    }
  }

  void compare_by_position(const Place& place, const Json& a, const Json& b) {
    for (std::size_t i = 0; i < std::max(a.size(), b.size()); ++i) {
      const Json& present = i < a.size() ? a[i] : b[i];
      const std::string index = std::to_string(i);
      // A list of bare numbers is one number for every rank.
      const Place here = place.element({index, present.is_primitive() ? "*" : index});
      if (i >= a.size()) {
        out_.only_b.push_back(here.path);
      } else if (i >= b.size()) {
        out_.only_a.push_back(here.path);
      } else {
        compare(here, a[i], b[i]);
      }
    }
  }

  static NumberChange change_of(const Number& number, long double largest) {
    const long double a = exactly(number.a);
    const long double difference = exactly(number.b) - a;
    NumberChange out{.path = number.place.path,
                     .a = number.a,
                     .b = number.b,
                     .difference = static_cast<double>(difference),
                     .relative = {},
                     .weight = 0};
    if (difference == 0) {
      out.relative = 0;
      return out;
    }
    out.weight = static_cast<double>(std::fabs(difference) / largest);
    if (a == 0) return out;
    const auto relative = static_cast<double>(difference / std::fabs(a));
    if (std::isfinite(relative)) out.relative = relative;
    return out;
  }

  void rank() {
    for (const Number& n : numbers_) {
      const NumberChange change = change_of(n, largest_.at(n.place.group()));
      if (contains(kHeadline, change.path.key)) out_.headline.push_back(change);
      if (change.difference != 0) out_.differences.push_back(change);
    }
    sort();
  }

  void sort() {
    const auto by_key = [](const auto& x, const auto& y) { return x.key < y.key; };
    std::sort(out_.only_a.begin(), out_.only_a.end(), by_key);
    std::sort(out_.only_b.begin(), out_.only_b.end(), by_key);
    const auto setting_order = [](const SettingChange& s) {
      return std::pair(s.path.key.rfind("config.", 0) != 0, std::string_view(s.path.key));
    };
    std::sort(out_.settings.begin(), out_.settings.end(),
              [&](const auto& x, const auto& y) { return setting_order(x) < setting_order(y); });
    const auto headline_order = [](const NumberChange& c) {
      return std::find(kHeadline.begin(), kHeadline.end(), c.path.key);
    };
    std::sort(out_.headline.begin(), out_.headline.end(),
              [&](const auto& x, const auto& y) { return headline_order(x) < headline_order(y); });
    std::sort(out_.differences.begin(), out_.differences.end(), [](const auto& x, const auto& y) {
      return x.weight != y.weight ? x.weight > y.weight : x.path.key < y.path.key;
    });
  }

  Comparison out_;
  std::vector<Number> numbers_;  // that differ, and the headline
  std::map<Group, long double> largest_;
};

}  // namespace

Comparison compare_results(const Json& a, const Json& b) { return Comparer().run(a, b); }

}  // namespace pipecast
