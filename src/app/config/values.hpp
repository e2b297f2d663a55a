/// How one value of each type is read from a node, written back and described in a schema.
#pragma once

#include <cstdint>
#include <limits>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "app/config/node.hpp"
#include "base/units.hpp"

namespace pipecast::config {

using Json = nlohmann::ordered_json;

/// Values a number may take; quantities count in their base unit.
struct Range {
  double low = -std::numeric_limits<double>::infinity();
  double high = std::numeric_limits<double>::infinity();
  bool low_allowed = true;
};
constexpr Range at_least(double low) { return {.low = low}; }
constexpr Range positive() { return {.low = 0, .low_allowed = false}; }

/// Bounds beyond any machine that trains, so that no time of a step leaves the range of Duration.
inline constexpr Range kLinkRate{.low = 10e6};
inline constexpr Range kMemoryRate{.low = 1e9};
inline constexpr Range kComputeRate{.low = 100e9};
inline constexpr Range kClock{.low = 100e6};
inline constexpr Range kLatency{.low = 0, .high = 1e12};  ///< a second

/// Reads `in` into `out` and returns what `--print-config` shows for it.
/// @throws Error with the node's origin and `path`
Node read_value(const Node& in, const std::string& path, int& out, const Range& range);
Node read_value(const Node& in, const std::string& path, std::int64_t& out, const Range& range);
Node read_value(const Node& in, const std::string& path, double& out, const Range& range);
Node read_value(const Node& in, const std::string& path, bool& out, const Range& range);
Node read_value(const Node& in, const std::string& path, std::string& out, const Range& range);
/// A list of texts.
Node read_value(const Node& in, const std::string& path, std::vector<std::string>& out,
                const Range& range);
Node read_value(const Node& in, const std::string& path, Duration& out, const Range& range);
Node read_value(const Node& in, const std::string& path, Bytes& out, const Range& range);
Node read_value(const Node& in, const std::string& path, Tokens& out, const Range& range);
Node read_value(const Node& in, const std::string& path, Bandwidth& out, const Range& range);
Node read_value(const Node& in, const std::string& path, FlopRate& out, const Range& range);
Node read_value(const Node& in, const std::string& path, Frequency& out, const Range& range);
Node read_value(const Node& in, const std::string& path, Usd& out, const Range& range);

/// JSON Schema of a value; the pointer only names the type.
Json value_schema(const int* type, const Range& range);
Json value_schema(const std::int64_t* type, const Range& range);
Json value_schema(const double* type, const Range& range);
Json value_schema(const bool* type, const Range& range);
Json value_schema(const std::string* type, const Range& range);
Json value_schema(const std::vector<std::string>* type, const Range& range);
Json value_schema(const Duration* type, const Range& range);
Json value_schema(const Bytes* type, const Range& range);
Json value_schema(const Tokens* type, const Range& range);
Json value_schema(const Bandwidth* type, const Range& range);
Json value_schema(const FlopRate* type, const Range& range);
Json value_schema(const Frequency* type, const Range& range);
Json value_schema(const Usd* type, const Range& range);

/// A default as a node, as the user would have written it.
Node write_value(std::int64_t value);
Node write_value(double value);
Node write_value(bool value);
Node write_value(const std::string& value);
Node write_value(Bytes value);
inline Node write_value(int value) { return write_value(static_cast<std::int64_t>(value)); }

/// A value that may be left out or, where it stands, be null.
template <class T>
Node read_value(const Node& in, const std::string& path, std::optional<T>& out,
                const Range& range) {
  if (in.kind == Kind::kNull) {
    out.reset();
    return in;
  }
  return read_value(in, path, out.emplace(), range);
}

template <class T>
Json value_schema(const std::optional<T>*, const Range& range) {
  return {{"anyOf", {value_schema(static_cast<const T*>(nullptr), range), {{"type", "null"}}}}};
}

}  // namespace pipecast::config
