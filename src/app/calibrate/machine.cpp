#include "app/calibrate/machine.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <numeric>
#include <optional>

#include "base/error.hpp"
#include "base/text.hpp"

namespace pipecast {

namespace {

bool is_letter_or_digit(char c) { return ('a' <= c && c <= 'z') || ('0' <= c && c <= '9'); }

char lower(char c) { return 'A' <= c && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; }

std::string words_of(std::string_view text, char between) {
  std::string out;
  for (const char c : text) {
    const char small = lower(c);
    if (is_letter_or_digit(small)) {
      out += small;
    } else if (!out.empty() && out.back() != between) {
      out += between;
    }
  }
  if (!out.empty() && out.back() == between) out.pop_back();
  return out;
}

std::optional<int> whole(std::string_view text) {
  int value = 0;
  const auto [end, failure] = std::from_chars(text.data(), text.data() + text.size(), value);
  const bool right = failure == std::errc() && end == text.data() + text.size() && value >= 0;
  return right ? std::optional(value) : std::nullopt;
}

}  // namespace

const GpuSpec& described_gpu(const std::string& device, int sm_count,
                             const std::vector<GpuSpec>& known) {
  const std::vector<std::string> words = split(words_of(device, ' '), ' ');
  std::vector<std::string> names;
  for (const GpuSpec& gpu : known) {
    const bool named = std::find(words.begin(), words.end(), gpu.name) != words.end();
    if (named && gpu.sm_count == sm_count) return gpu;
    names.push_back(fmt::format("{} ({} SMs)", gpu.name, gpu.sm_count));
  }
  throw Error(fmt::format(
      "no shipped GPU describes '{}' with {} SMs; there are: {}; describe it in a YAML file and "
      "give that with --gpu",
      device, sm_count, join(names)));
}

std::string file_name_of(std::string_view device) { return words_of(device, '-'); }

double parse_time_limit(std::string_view text) {
  struct TimeUnit {
    std::string_view name;
    double seconds;
  };
  constexpr std::array kUnits = {TimeUnit{"min", 60}, TimeUnit{"s", 1}, TimeUnit{"h", 3600}};
  for (const TimeUnit& unit : kUnits) {
    if (text.size() <= unit.name.size() ||
        text.substr(text.size() - unit.name.size()) != unit.name) {
      continue;
    }
    std::string_view digits = text.substr(0, text.size() - unit.name.size());
    while (!digits.empty() && digits.back() == ' ') digits.remove_suffix(1);
    double value = 0;
    const auto [end, failure] =
        std::from_chars(digits.data(), digits.data() + digits.size(), value);
    if (failure == std::errc() && end == digits.data() + digits.size() && value >= 0 &&
        std::isfinite(value)) {
      return value * unit.seconds;
    }
  }
  throw Error(
      fmt::format("--time-limit: '{}' is no time; expected such as 90s, 10min or 2h", text));
}

std::vector<int> parse_devices(std::string_view text, int present) {
  std::vector<int> out;
  const auto check = [&](const std::optional<int>& device) {
    require(device.has_value(), "--gpus: '{}' is neither a number, a list such as 0,2 nor all",
            text);
  };
  if (text == "all" || text.find(',') == std::string_view::npos) {
    const std::optional<int> count = text == "all" ? present : whole(text);
    check(count);
    require(*count >= 1 && *count <= present, "--gpus: {} of {} GPUs; expected 1 to {}", *count,
            present, present);
    out.resize(static_cast<std::size_t>(*count));
    std::iota(out.begin(), out.end(), 0);
    return out;
  }
  for (const std::string& word : split(text, ',')) {
    const std::optional<int> device = whole(word);
    check(device);
    require(*device < present, "--gpus: there is no GPU {}; there are {}, from 0 on", *device,
            present);
    require(std::find(out.begin(), out.end(), *device) == out.end(),
            "--gpus: {} stands there twice", *device);
    out.push_back(*device);
  }
  return out;
}

}  // namespace pipecast
