#include "app/config/load.hpp"
#include "app/config/to_json.hpp"

namespace pipecast {

namespace {

using config::Kind;
using config::Node;

/// Whether YAML reads the text as itself without quotes: letters first, and nothing in it that
/// YAML gives a meaning to.
bool plain_is_safe(const std::string& text) {
  static constexpr std::string_view kLetters =
      "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
  static constexpr std::string_view kDigits = "0123456789";
  static constexpr std::string_view kOthers = " _-+*/.()";
  const auto allowed = [&](char c) {
    return kLetters.find(c) != std::string_view::npos ||
           kDigits.find(c) != std::string_view::npos || kOthers.find(c) != std::string_view::npos;
  };
  for (const char c : text) {
    if (!allowed(c)) return false;
  }
  const bool letter = !text.empty() && kLetters.find(text.front()) != std::string_view::npos;
  // "400 GB/s" begins with a digit and is no number because it ends in a unit.
  const bool unit = !text.empty() && kDigits.find(text.front()) != std::string_view::npos &&
                    text.find_first_not_of("0123456789.eE+-_xobXO") != std::string::npos;
  const bool reserved = text == "null" || text == "true" || text == "false" || text == "Null" ||
                        text == "NULL" || text == "yes" || text == "no" || text == "on" ||
                        text == "off" || text == "nan" || text == "inf";
  return (letter || unit) && !reserved && text.back() != ' ';
}

std::string scalar(const Node& node) {
  if (node.kind == Kind::kNull) return "null";
  if (node.kind == Kind::kPlain || plain_is_safe(node.text)) return node.text;
  return nlohmann::json(node.text).dump();  // JSON's escapes are YAML's
}

std::string comment(const Node& node) {
  const config::Origin& origin = node.origin;
  if (origin.is_default()) return "  # default";
  if (origin.line == 0) return fmt::format("  # {}", *origin.source);
  return fmt::format("  # {}:{}", *origin.source, origin.line);
}

void print(const Node& node, const std::string& indent, std::string& out);

/// What follows "key:" or "-".
void print_value(const Node& node, const std::string& indent, std::string& out) {
  const bool nested = (node.is_map() || node.is_list()) && !node.children.empty();
  if (nested) {
    out += '\n';
    print(node, indent + "  ", out);
    return;
  }
  const std::string text = node.is_map() ? "{}" : node.is_list() ? "[]" : scalar(node);
  out += " " + text + comment(node) + "\n";
}

void print(const Node& node, const std::string& indent, std::string& out) {
  for (std::size_t i = 0; i < node.children.size(); ++i) {
    const Node& child = node.children[i];
    if (node.is_map()) {
      out += indent + node.keys[i].name + ":";
      print_value(child, indent, out);
    } else if (child.is_map()) {
      // The first key of a map stands on the dash's line.
      std::string item;
      print(child, indent + "  ", item);
      item.replace(indent.size(), 1, "-");
      out += item;
    } else {
      out += indent + "-";
      print_value(child, indent, out);
    }
  }
}

}  // namespace

std::string print_config(const LoadedScenario& loaded) {
  std::string out =
      "# The complete configuration; behind every value stands where it comes from.\n";
  print(loaded.resolved, "", out);
  return out;
}

nlohmann::ordered_json config_json(const LoadedScenario& loaded) {
  return config::to_json<nlohmann::ordered_json>(loaded.resolved);
}

}  // namespace pipecast
