/// Numbers and quantities as users write them: "16", "0.68", "400 Gb/s", "80 GiB", "2.8 us".
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace pipecast::config {

enum class Dimension { kDuration, kBytes, kBandwidth, kFlopRate, kFrequency, kMoney, kTokens };

/// "a bandwidth such as '50 GB/s' or '400 Gb/s'".
std::string_view example_of(Dimension dimension);

/// " B/s" and the like: what ranges of the dimension count in.
std::string_view base_unit(Dimension dimension);

/// Symbols of the units of one dimension, for the schemas.
std::vector<std::string_view> unit_symbols(Dimension dimension);

/// A count of the dimension's base unit (ps, bytes, tokens), exactly.
/// @throws Error that says what is wrong and what was expected, without any origin
std::int64_t parse_whole_quantity(std::string_view text, Dimension dimension);

/// A multiple of the dimension's base unit (bytes/s, flop/s, Hz, USD): the double nearest to the
/// decimal number written, so that "400 Gb/s" is 50e9 to the last bit.
/// @throws Error that says what is wrong and what was expected, without any origin
double parse_real_quantity(std::string_view text, Dimension dimension);

/// A decimal integer without leading zeros.
/// @throws Error without any origin
std::int64_t parse_integer(std::string_view text);

/// A finite decimal number as JSON writes it.
/// @throws Error without any origin
double parse_real(std::string_view text);

}  // namespace pipecast::config
