#include "app/config/values.hpp"

#include "app/config/quantity.hpp"

namespace pipecast::config {

namespace {

void check_range(double value, const Range& range, const Node& in, const std::string& path,
                 std::string_view unit) {
  if (!range.low_allowed) {
    require_at(value > range.low, in.origin, path, "{} must be more than {}{}", describe_node(in),
               range.low, unit);
  }
  require_at(value >= range.low, in.origin, path, "{} must be at least {}{}", describe_node(in),
             range.low, unit);
  require_at(value <= range.high, in.origin, path, "{} must be at most {}{}", describe_node(in),
             range.high, unit);
}

/// Runs a parser of texts, which knows no origins, and adds origin and path to its complaint.
template <class Parse>
auto parse_at(const Node& in, const std::string& path, const Parse& parse) {
  try {
    return parse(in.text);
  } catch (const Error& e) {
    fail(in.origin, path, e.what());
  }
}

std::int64_t read_integer(const Node& in, const std::string& path, const Range& range) {
  require_at(in.kind == Kind::kPlain, in.origin, path, "{}; expected a whole number",
             "is " + describe_node(in));
  const std::int64_t value = parse_at(in, path, parse_integer);
  check_range(static_cast<double>(value), range, in, path, "");
  return value;
}

void require_scalar(const Node& in, const std::string& path, std::string_view expected) {
  require_at(in.is_scalar(), in.origin, path, "is {}; expected {}", describe_node(in), expected);
}

Node shown_as_text(const Node& in) {
  Node out = in;
  out.kind = Kind::kText;
  return out;
}

template <class T>
Node read_whole(const Node& in, const std::string& path, T& out, const Range& range,
                Dimension dimension) {
  require_scalar(in, path, example_of(dimension));
  out = T(parse_at(in, path,
                   [&](const std::string& text) { return parse_whole_quantity(text, dimension); }));
  check_range(static_cast<double>(out.count()), range, in, path, base_unit(dimension));
  return shown_as_text(in);
}

template <class T>
Node read_real(const Node& in, const std::string& path, T& out, const Range& range,
               Dimension dimension) {
  require_scalar(in, path, example_of(dimension));
  out = T(parse_at(in, path,
                   [&](const std::string& text) { return parse_real_quantity(text, dimension); }));
  check_range(out.count(), range, in, path, base_unit(dimension));
  return shown_as_text(in);
}

Json number_schema(std::string_view type, const Range& range) {
  Json out = {{"type", type}};
  const auto bound = [&](const char* name, double value) {
    if (type == "integer") {
      out[name] = static_cast<std::int64_t>(value);
    } else {
      out[name] = value;
    }
  };
  if (range.low > -std::numeric_limits<double>::infinity())
    bound(range.low_allowed ? "minimum" : "exclusiveMinimum", range.low);
  if (range.high < std::numeric_limits<double>::infinity()) bound("maximum", range.high);
  return out;
}

Json quantity_schema(Dimension dimension) {
  std::string symbols;
  for (const std::string_view symbol : unit_symbols(dimension)) {
    if (!symbols.empty()) symbols += '|';
    symbols += symbol;
  }
  return {
      {"type", "string"},
      {"pattern", fmt::format(R"(^(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)? *({})$)", symbols)},
      {"examples", Json::array({std::string(example_of(dimension))})}};
}

}  // namespace

Node read_value(const Node& in, const std::string& path, int& out, const Range& range) {
  constexpr double kLargest = std::numeric_limits<int>::max();
  Range in_int = range;
  in_int.low = std::max(range.low, -kLargest);
  in_int.high = std::min(range.high, kLargest);
  out = static_cast<int>(read_integer(in, path, in_int));
  return in;
}

Node read_value(const Node& in, const std::string& path, std::int64_t& out, const Range& range) {
  out = read_integer(in, path, range);
  return in;
}

Node read_value(const Node& in, const std::string& path, double& out, const Range& range) {
  require_at(in.kind == Kind::kPlain, in.origin, path, "is {}; expected a number",
             describe_node(in));
  out = parse_at(in, path, parse_real);
  check_range(out, range, in, path, "");
  return in;
}

Node read_value(const Node& in, const std::string& path, bool& out, const Range&) {
  const bool known = in.kind == Kind::kPlain && (in.text == "true" || in.text == "false");
  require_at(known, in.origin, path, "is {}; expected true or false", describe_node(in));
  out = in.text == "true";
  return in;
}

Node read_value(const Node& in, const std::string& path, std::string& out, const Range&) {
  require_at(in.is_scalar() && !in.text.empty(), in.origin, path, "is {}; expected a text",
             describe_node(in));
  out = in.text;
  return shown_as_text(in);
}

Node read_value(const Node& in, const std::string& path, std::vector<std::string>& out,
                const Range& range) {
  require_at(in.is_list(), in.origin, path, "is {}; expected a list of texts", describe_node(in));
  Node shown = in;
  out.clear();
  for (Node& item : shown.children) {
    const std::string item_path = join_path(path, std::to_string(out.size()));
    item = read_value(item, item_path, out.emplace_back(), range);
  }
  return shown;
}

Node read_value(const Node& in, const std::string& path, Duration& out, const Range& range) {
  return read_whole(in, path, out, range, Dimension::kDuration);
}
Node read_value(const Node& in, const std::string& path, Bytes& out, const Range& range) {
  return read_whole(in, path, out, range, Dimension::kBytes);
}
Node read_value(const Node& in, const std::string& path, Tokens& out, const Range& range) {
  Node shown = read_whole(in, path, out, range, Dimension::kTokens);
  if (shown.text.find_first_not_of("0123456789") == std::string::npos) shown.kind = Kind::kPlain;
  return shown;
}
Node read_value(const Node& in, const std::string& path, Bandwidth& out, const Range& range) {
  return read_real(in, path, out, range, Dimension::kBandwidth);
}
Node read_value(const Node& in, const std::string& path, FlopRate& out, const Range& range) {
  return read_real(in, path, out, range, Dimension::kFlopRate);
}
Node read_value(const Node& in, const std::string& path, Frequency& out, const Range& range) {
  return read_real(in, path, out, range, Dimension::kFrequency);
}
Node read_value(const Node& in, const std::string& path, Usd& out, const Range& range) {
  return read_real(in, path, out, range, Dimension::kMoney);
}

Json value_schema(const int*, const Range& range) { return number_schema("integer", range); }
Json value_schema(const std::int64_t*, const Range& range) {
  return number_schema("integer", range);
}
Json value_schema(const double*, const Range& range) { return number_schema("number", range); }
Json value_schema(const bool*, const Range&) { return {{"type", "boolean"}}; }
Json value_schema(const std::string*, const Range&) { return {{"type", "string"}}; }
Json value_schema(const std::vector<std::string>*, const Range&) {
  return {{"type", "array"}, {"items", {{"type", "string"}}}};
}
Json value_schema(const Duration*, const Range&) { return quantity_schema(Dimension::kDuration); }
Json value_schema(const Bytes*, const Range&) { return quantity_schema(Dimension::kBytes); }
Json value_schema(const Tokens*, const Range&) {
  return {{"anyOf", {{{"type", "integer"}, {"minimum", 0}}, quantity_schema(Dimension::kTokens)}}};
}
Json value_schema(const Bandwidth*, const Range&) { return quantity_schema(Dimension::kBandwidth); }
Json value_schema(const FlopRate*, const Range&) { return quantity_schema(Dimension::kFlopRate); }
Json value_schema(const Frequency*, const Range&) { return quantity_schema(Dimension::kFrequency); }
Json value_schema(const Usd*, const Range&) { return quantity_schema(Dimension::kMoney); }

namespace {

Node default_node(Kind kind, std::string text) {
  Node out;
  out.kind = kind;
  out.text = std::move(text);
  return out;
}

}  // namespace

Node write_value(std::int64_t value) { return default_node(Kind::kPlain, std::to_string(value)); }
Node write_value(double value) { return default_node(Kind::kPlain, fmt::format("{}", value)); }
Node write_value(bool value) { return default_node(Kind::kPlain, value ? "true" : "false"); }
Node write_value(const std::string& value) { return default_node(Kind::kText, value); }
Node write_value(Bytes value) {
  return default_node(Kind::kText, fmt::format("{} B", value.count()));
}

}  // namespace pipecast::config
