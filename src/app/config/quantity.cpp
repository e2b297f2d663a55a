#include "app/config/quantity.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <optional>

#include "app/config/node.hpp"
#include "base/assert.hpp"

namespace pipecast::config {

namespace {

/// One unit is 10^decimal * 2^binary base units. Every unit here is such a product, so conversions
/// of decimal text are exact or rounded once.
struct Unit {
  std::string_view symbol;
  Dimension dimension;
  int decimal;
  int binary;
};

constexpr int kBit = -3;  // a bit is 2^-3 bytes
constexpr std::array kUnits = {
    Unit{"ps", Dimension::kDuration, 0, 0},
    Unit{"ns", Dimension::kDuration, 3, 0},
    Unit{"us", Dimension::kDuration, 6, 0},
    Unit{"ms", Dimension::kDuration, 9, 0},
    Unit{"s", Dimension::kDuration, 12, 0},
    Unit{"B", Dimension::kBytes, 0, 0},
    Unit{"kB", Dimension::kBytes, 3, 0},
    Unit{"MB", Dimension::kBytes, 6, 0},
    Unit{"GB", Dimension::kBytes, 9, 0},
    Unit{"TB", Dimension::kBytes, 12, 0},
    Unit{"KiB", Dimension::kBytes, 0, 10},
    Unit{"MiB", Dimension::kBytes, 0, 20},
    Unit{"GiB", Dimension::kBytes, 0, 30},
    Unit{"TiB", Dimension::kBytes, 0, 40},
    Unit{"B/s", Dimension::kBandwidth, 0, 0},
    Unit{"kB/s", Dimension::kBandwidth, 3, 0},
    Unit{"MB/s", Dimension::kBandwidth, 6, 0},
    Unit{"GB/s", Dimension::kBandwidth, 9, 0},
    Unit{"TB/s", Dimension::kBandwidth, 12, 0},
    Unit{"MiB/s", Dimension::kBandwidth, 0, 20},
    Unit{"GiB/s", Dimension::kBandwidth, 0, 30},
    Unit{"TiB/s", Dimension::kBandwidth, 0, 40},
    Unit{"Mb/s", Dimension::kBandwidth, 6, kBit},
    Unit{"Gb/s", Dimension::kBandwidth, 9, kBit},
    Unit{"Tb/s", Dimension::kBandwidth, 12, kBit},
    Unit{"Mbit/s", Dimension::kBandwidth, 6, kBit},
    Unit{"Gbit/s", Dimension::kBandwidth, 9, kBit},
    Unit{"Tbit/s", Dimension::kBandwidth, 12, kBit},
    Unit{"FLOP/s", Dimension::kFlopRate, 0, 0},
    Unit{"GFLOP/s", Dimension::kFlopRate, 9, 0},
    Unit{"TFLOP/s", Dimension::kFlopRate, 12, 0},
    Unit{"PFLOP/s", Dimension::kFlopRate, 15, 0},
    Unit{"Hz", Dimension::kFrequency, 0, 0},
    Unit{"kHz", Dimension::kFrequency, 3, 0},
    Unit{"MHz", Dimension::kFrequency, 6, 0},
    Unit{"GHz", Dimension::kFrequency, 9, 0},
    Unit{"USD", Dimension::kMoney, 0, 0},
    Unit{"K", Dimension::kTokens, 3, 0},
    Unit{"M", Dimension::kTokens, 6, 0},
    Unit{"G", Dimension::kTokens, 9, 0},
    Unit{"T", Dimension::kTokens, 12, 0},
};

std::string_view name_of(Dimension dimension) {
  switch (dimension) {
    case Dimension::kDuration:
      return "a time";
    case Dimension::kBytes:
      return "a number of bytes";
    case Dimension::kBandwidth:
      return "a bandwidth";
    case Dimension::kFlopRate:
      return "a computing rate";
    case Dimension::kFrequency:
      return "a frequency";
    case Dimension::kMoney:
      return "an amount of money";
    case Dimension::kTokens:
      return "a token count";
  }
  return {};
}

std::string_view whole_unit(Dimension dimension) {
  switch (dimension) {
    case Dimension::kDuration:
      return "picoseconds";
    case Dimension::kBytes:
      return "bytes";
    default:
      return "tokens";
  }
}

bool is_digit(char c) { return c >= '0' && c <= '9'; }

/// Length of the number at the start of the text, in JSON's grammar; 0 if there is none.
std::size_t number_length(std::string_view text) {
  const auto digits = [&](std::size_t from) {
    std::size_t i = from;
    while (i < text.size() && is_digit(text[i])) ++i;
    return i;
  };
  const std::size_t sign = !text.empty() && text[0] == '-' ? 1 : 0;
  std::size_t end = digits(sign);
  if (end == sign) return 0;
  if (text[sign] == '0' && end > sign + 1) return 0;  // 010: octal to some readers, ten to others
  if (end < text.size() && text[end] == '.') {
    const std::size_t fraction = digits(end + 1);
    if (fraction == end + 1) return 0;
    end = fraction;
  }
  if (end < text.size() && (text[end] == 'e' || text[end] == 'E')) {
    std::size_t exponent = end + 1;
    if (exponent < text.size() && (text[exponent] == '+' || text[exponent] == '-')) ++exponent;
    const std::size_t after = digits(exponent);
    if (after > exponent) end = after;
  }
  return end;
}

struct Quantity {
  std::string_view number;
  Unit unit;
};

/// Splits "400 Gb/s" and checks number, unit and dimension.
Quantity split(std::string_view text, Dimension dimension) {
  const std::size_t length = number_length(text);
  require(length > 0, "{} is no quantity; expected {}", in_quotes(text), example_of(dimension));
  const std::string_view number = text.substr(0, length);
  std::string_view symbol = text.substr(length);
  while (!symbol.empty() && symbol.front() == ' ') symbol.remove_prefix(1);

  require(number.front() != '-', "{} is negative; expected {}", in_quotes(text),
          example_of(dimension));
  // A bare token count is a count; everything else needs its unit.
  if (symbol.empty() && dimension == Dimension::kTokens) return {number, {"", dimension, 0, 0}};
  require(!symbol.empty(), "{} has no unit; expected {}", in_quotes(text), example_of(dimension));

  const auto* const unit =
      std::find_if(kUnits.begin(), kUnits.end(), [&](const Unit& u) { return u.symbol == symbol; });
  require(unit != kUnits.end(), "{} has the unknown unit {}; expected {}", in_quotes(text),
          in_quotes(symbol), example_of(dimension));
  require(unit->dimension == dimension, "{} is {}; expected {}", in_quotes(text),
          name_of(unit->dimension), example_of(dimension));
  return {number, *unit};
}

__extension__ using Wide = unsigned __int128;

/// A number of units in base units: a whole number below 2^63, or why it is none.
struct Whole {
  std::optional<std::int64_t> value;
  bool overflow = false;
};

/// A decimal number as digits * 10^exponent, without trailing zeros; nothing if the digits or the
/// exponent are longer than any sensible quantity's.
struct Decimal {
  std::uint64_t digits = 0;
  int exponent = 0;
};

std::optional<Decimal> to_decimal(std::string_view number) {
  Decimal out;
  const std::size_t e = number.find_first_of("eE");
  constexpr std::uint64_t kFull = 1'000'000'000'000'000'000;  // one digit more still fits 64 bits
  bool fraction = false;
  int zeros = 0;  // zeros seen and not yet known to be trailing ones
  for (const char c : number.substr(0, e)) {
    if (c == '.') {
      fraction = true;
      continue;
    }
    if (fraction) --out.exponent;
    if (c == '0') {
      ++zeros;
      continue;
    }
    for (; zeros > 0; --zeros) {
      if (out.digits >= kFull) return std::nullopt;
      out.digits *= 10;
    }
    if (out.digits >= kFull) return std::nullopt;
    out.digits = out.digits * 10 + static_cast<std::uint64_t>(c - '0');
  }
  out.exponent += zeros;
  if (e == std::string_view::npos) return out;
  std::string_view exponent = number.substr(e + 1);
  if (exponent.front() == '+') exponent.remove_prefix(1);
  int value = 0;
  const auto parsed = std::from_chars(exponent.data(), exponent.data() + exponent.size(), value);
  if (parsed.ec != std::errc() || std::abs(value) > 1'000) return std::nullopt;
  out.exponent += value;
  return out;
}

Whole to_whole(const Decimal& number, const Unit& unit) {
  if (number.digits == 0) return {.value = 0};
  int exponent = number.exponent + unit.decimal;
  Wide value = static_cast<Wide>(number.digits) << unit.binary;  // below 2^64 * 2^40
  for (; exponent < 0; ++exponent) {
    if (value % 10 != 0) return {};
    value /= 10;
  }
  constexpr Wide kLimit = Wide{1} << 63;
  for (; exponent > 0 && value < kLimit; --exponent) value *= 10;
  if (value >= kLimit) return {.value = std::nullopt, .overflow = true};
  return {.value = static_cast<std::int64_t>(value)};
}

}  // namespace

std::string_view example_of(Dimension dimension) {
  switch (dimension) {
    case Dimension::kDuration:
      return "a time such as '3.7 us' or '936 ns'";
    case Dimension::kBytes:
      return "a number of bytes such as '80 GiB' or '50 MB'";
    case Dimension::kBandwidth:
      return "a bandwidth such as '50 GB/s' or '400 Gb/s'";
    case Dimension::kFlopRate:
      return "a computing rate such as '67 TFLOP/s'";
    case Dimension::kFrequency:
      return "a frequency such as '1.83 GHz'";
    case Dimension::kMoney:
      return "an amount of money such as '2 USD'";
    case Dimension::kTokens:
      return "a token count such as '469G' or '4096'";
  }
  return {};
}

std::string_view base_unit(Dimension dimension) {
  switch (dimension) {
    case Dimension::kDuration:
      return " ps";
    case Dimension::kBytes:
      return " B";
    case Dimension::kBandwidth:
      return " B/s";
    case Dimension::kFlopRate:
      return " FLOP/s";
    case Dimension::kFrequency:
      return " Hz";
    case Dimension::kMoney:
      return " USD";
    case Dimension::kTokens:
      return " tokens";
  }
  return {};
}

std::vector<std::string_view> unit_symbols(Dimension dimension) {
  std::vector<std::string_view> out;
  for (const Unit& unit : kUnits) {
    if (unit.dimension == dimension) out.push_back(unit.symbol);
  }
  return out;
}

std::int64_t parse_whole_quantity(std::string_view text, Dimension dimension) {
  const Quantity quantity = split(text, dimension);
  const std::optional<Decimal> decimal = to_decimal(quantity.number);
  require(decimal.has_value(), "{} has too many digits; expected {}", in_quotes(text),
          example_of(dimension));
  const Whole whole = to_whole(*decimal, quantity.unit);
  require(!whole.overflow, "{} is too large; expected {}", in_quotes(text), example_of(dimension));
  require(whole.value.has_value(), "{} is not a whole number of {}; expected {}", in_quotes(text),
          whole_unit(dimension), example_of(dimension));
  return *whole.value;
}

double parse_real_quantity(std::string_view text, Dimension dimension) {
  const Quantity quantity = split(text, dimension);
  const std::optional<Decimal> decimal = to_decimal(quantity.number);
  require(decimal.has_value(), "{} has too many digits; expected {}", in_quotes(text),
          example_of(dimension));
  // The unit's power of ten joins the number's before the one rounding; its power of two is exact.
  const std::string scaled =
      fmt::format("{}e{}", decimal->digits, decimal->exponent + quantity.unit.decimal);
  double value = 0;
  const auto parsed = std::from_chars(scaled.data(), scaled.data() + scaled.size(), value);
  value = std::ldexp(value, quantity.unit.binary);
  require(parsed.ec == std::errc() && std::isfinite(value), "{} is out of range; expected {}",
          in_quotes(text), example_of(dimension));
  return value;
}

std::int64_t parse_integer(std::string_view text) {
  const bool whole = number_length(text) == text.size() && !text.empty() &&
                     text.find_first_of(".eE") == std::string_view::npos;
  require(whole, "{} is no whole number", in_quotes(text));
  std::int64_t value = 0;
  const auto parsed = std::from_chars(text.data(), text.data() + text.size(), value);
  require(parsed.ec == std::errc(), "{} is too large a number", in_quotes(text));
  return value;
}

double parse_real(std::string_view text) {
  require(number_length(text) == text.size() && !text.empty(), "{} is no number", in_quotes(text));
  double value = 0;
  const auto parsed = std::from_chars(text.data(), text.data() + text.size(), value);
  require(parsed.ec == std::errc() && std::isfinite(value), "{} is out of range", in_quotes(text));
  return value;
}

}  // namespace pipecast::config
