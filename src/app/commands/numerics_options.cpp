#include "app/commands/numerics_options.hpp"

#include <fmt/format.h>

#include <charconv>
#include <cmath>
#include <utility>

#include "base/error.hpp"
#include "base/text.hpp"

namespace pipecast {

namespace {

using kernels::Distribution;
using kernels::Fp8Kind;
using kernels::ScaleKind;
using kernels::ScaleTile;
using kernels::SmallFloat;

template <class T>
std::optional<T> parsed(std::string_view text) {
  T value{};
  const auto [end, failure] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (failure != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

/// Reads every word of a list by `read`, which gives nothing for a bad one.
template <class T, class Read>
std::vector<ListedValue<T>> list_of(const CommandLine& line, const char* option,
                                    const std::string& expected, const Read& read) {
  std::vector<ListedValue<T>> out;
  for (const std::string& word : split(line.text(option), ',')) {
    const std::optional<ListedValue<T>> one = read(word);
    require(one.has_value(), "--{}: '{}': {} expected", option, word, expected);
    for (const ListedValue<T>& earlier : out)
      require(earlier.text != word, "--{}: '{}' stands twice", option, word);
    out.push_back(*one);
  }
  return out;
}

template <class T>
using Words = std::vector<std::pair<std::string, T>>;

template <class T>
std::vector<ListedValue<T>> list_of_words(const CommandLine& line, const char* option,
                                          const Words<T>& words) {
  std::vector<std::string> known;
  for (const auto& [name, value] : words) known.push_back(name);
  return list_of<T>(line, option, join(known) + (known.size() > 1 ? " are" : " is"),
                    [&](const std::string& word) -> std::optional<ListedValue<T>> {
                      for (const auto& [name, value] : words) {
                        if (name == word) return ListedValue<T>{word, value, std::nullopt};
                      }
                      return std::nullopt;
                    });
}

std::optional<ListedValue<ScaleTile>> tile_of(const std::string& word) {
  constexpr int kMost = 1 << 20;
  if (word == "tensor") return ListedValue<ScaleTile>{word, {0, 0}, std::nullopt};
  if (word == "row") return ListedValue<ScaleTile>{word, {1, 0}, std::nullopt};
  const std::vector<std::string> parts = split(word, 'x');
  if (parts.size() != 2) return std::nullopt;
  const std::optional<int> rows = parsed<int>(parts[0]);
  const std::optional<int> columns = parsed<int>(parts[1]);
  if (!rows || !columns || *rows < 1 || *columns < 1 || *rows > kMost || *columns > kMost)
    return std::nullopt;
  // Elements of it: what a chart has on its axis.
  return ListedValue<ScaleTile>{word, {*rows, *columns}, 1.0 * *rows * *columns};
}

std::optional<ListedValue<SmallFloat>> format_of(const std::string& word) {
  static const Words<SmallFloat> kNamed = {{"e4m3", kernels::kFormatE4m3},
                                           {"fp16", kernels::kFormatFp16},
                                           {"bf16", kernels::kFormatBf16},
                                           {"fp32", kernels::kFormatFp32}};
  for (const auto& [name, format] : kNamed) {
    if (name == word) return ListedValue<SmallFloat>{word, format, std::nullopt};
  }
  const std::size_t m = word.find('m');
  if (word.empty() || word[0] != 'e' || m == std::string::npos) return std::nullopt;
  const std::optional<int> exponent = parsed<int>(std::string_view(word).substr(1, m - 1));
  const std::optional<int> mantissa = parsed<int>(std::string_view(word).substr(m + 1));
  if (!exponent || !mantissa || *exponent < 2 || *exponent > 8 || *mantissa < 1 || *mantissa > 23)
    return std::nullopt;
  return ListedValue<SmallFloat>{word, {*exponent, *mantissa, true}, std::nullopt};
}

}  // namespace

void add_list(CommandLine& line, const char* name, const char* fallback, const char* meaning) {
  namespace po = boost::program_options;
  line.options().add_options()(
      name, po::value<std::string>()->default_value(fallback)->value_name("LIST"), meaning);
}

std::vector<ListedValue<int>> whole_numbers(const CommandLine& line, const char* option, int least,
                                            int most, std::string_view zero_word) {
  const std::string expected = fmt::format("a whole number from {} to {}{}{} is", least, most,
                                           zero_word.empty() ? "" : ", or ", zero_word);
  return list_of<int>(line, option, expected,
                      [&](const std::string& word) -> std::optional<ListedValue<int>> {
                        if (!zero_word.empty() && word == zero_word)
                          return ListedValue<int>{word, 0, std::nullopt};
                        const std::optional<int> value = parsed<int>(word);
                        if (!value || *value < least || *value > most) return std::nullopt;
                        return ListedValue<int>{word, *value, 1.0 * *value};
                      });
}

std::vector<ListedValue<double>> real_numbers(const CommandLine& line, const char* option,
                                              double least, double most) {
  return list_of<double>(line, option, fmt::format("a number from {:g} to {:g} is", least, most),
                         [&](const std::string& word) -> std::optional<ListedValue<double>> {
                           const std::optional<double> value = parsed<double>(word);
                           if (!value || !(*value >= least && *value <= most)) return std::nullopt;
                           return ListedValue<double>{word, *value, *value};
                         });
}

std::vector<ListedValue<ScaleTile>> tiles(const CommandLine& line, const char* option) {
  return list_of<ScaleTile>(line, option, "tensor, row, or ROWSxCOLUMNS such as 1x128 is", tile_of);
}

std::vector<ListedValue<ScaleKind>> scale_kinds(const CommandLine& line) {
  return list_of_words<ScaleKind>(line, "scales",
                                  {{"fp32", ScaleKind::kFp32},
                                   {"power-of-two", ScaleKind::kPowerOfTwo},
                                   {"none", ScaleKind::kNone}});
}

std::vector<ListedValue<Distribution>> distributions(const CommandLine& line) {
  return list_of_words<Distribution>(
      line, "distribution",
      {{"normal", Distribution::kNormal}, {"uniform", Distribution::kUniform}});
}

std::vector<ListedValue<Fp8Kind>> fp8_formats(const CommandLine& line) {
  return list_of_words<Fp8Kind>(line, "format",
                                {{"e4m3", Fp8Kind::kE4m3}, {"e5m2", Fp8Kind::kE5m2}});
}

std::vector<ListedValue<SmallFloat>> small_formats(const CommandLine& line) {
  return list_of<SmallFloat>(
      line, "format",
      "e4m3, e5m2, e5m6, fp16, bf16, fp32, or eXmY with X from 2 to 8 and Y from 1 to 23 is",
      format_of);
}

std::vector<ListedValue<kernels::PrecisionRecipe>> recipes(const CommandLine& line) {
  Words<kernels::PrecisionRecipe> words;
  for (const kernels::NamedRecipe& one : kernels::named_recipes())
    words.emplace_back(std::string(one.name), one.recipe);
  if (line.text("recipe") != "all") return list_of_words(line, "recipe", words);
  std::vector<ListedValue<kernels::PrecisionRecipe>> out;
  for (const auto& [name, recipe] : words) out.push_back({name, recipe, std::nullopt});
  return out;
}

int whole_number(const CommandLine& line, const char* option, int least, int most) {
  const std::vector<ListedValue<int>> values = whole_numbers(line, option, least, most);
  require(values.size() == 1, "--{}: one number is expected, not a list", option);
  return values.front().value;
}

double real_number(const CommandLine& line, const char* option, double least, double most) {
  const std::vector<ListedValue<double>> values = real_numbers(line, option, least, most);
  require(values.size() == 1, "--{}: one number is expected, not a list", option);
  return values.front().value;
}

}  // namespace pipecast
