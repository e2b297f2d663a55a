/// A configuration file as a tree of text that remembers where every key and value was written.
#pragma once

#include <fmt/format.h>

#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/error.hpp"

namespace pipecast::config {

/// Where a key or a value was written.
struct Origin {
  /// File as the user typed it or as `extends` leads to it, or "--set plan.pp=8"; none: a default.
  /// Shared, because thousands of nodes come from one file.
  std::shared_ptr<const std::string> source;
  int line = 0;  ///< from 1; 0 if the source has no lines
  int column = 0;

  [[nodiscard]] bool is_default() const { return source == nullptr; }
};

/// "plans/a.yaml:3:7", "--set plan.pp=8" or "default".
std::string to_text(const Origin& origin);

struct Key {
  std::string name;
  Origin origin;
};

enum class Kind {
  kNull,
  kPlain,  ///< unquoted: may be read as a number or a switch
  kText,   ///< quoted: only ever text
  kList,
  kMap,
};

/// A value with everything below it. Maps keep the order of their keys.
struct Node {
  Kind kind = Kind::kNull;
  std::string text;            ///< scalars
  std::vector<Key> keys;       ///< maps: keys[i] leads to children[i]
  std::vector<Node> children;  ///< lists and maps
  Origin origin;

  [[nodiscard]] bool is_scalar() const { return kind == Kind::kPlain || kind == Kind::kText; }
  [[nodiscard]] bool is_map() const { return kind == Kind::kMap; }
  [[nodiscard]] bool is_list() const { return kind == Kind::kList; }
  /// The value of a key of this map; null if there is none.
  [[nodiscard]] const Node* find(std::string_view key) const;
  [[nodiscard]] Node* find(std::string_view key);
  /// Sets a key of this map; a new one goes to the end.
  Node& set(Key key, Node value);
  void erase(std::string_view key);
};

/// What a node is, for messages: "a map", "'400 us'", "empty", ...
std::string describe_node(const Node& node);

/// A text shortened and without control characters, so that messages stay readable.
std::string printable(std::string_view text, std::size_t longest = 60);
/// The same in quotes.
std::string in_quotes(std::string_view text);

/// "plan" and "pp" make "plan.pp".
std::string join_path(std::string_view parent, std::string_view key);

/// `base` with the keys of `over`: maps merge key by key, lists and scalars are replaced.
Node merge(Node base, Node over);

/// Where a key was written: its own origin, or that of the closest section around it.
/// @param path  "cluster.nic.bandwidth" or "recipe.phases.0.name", from `root`
Origin origin_at(const Node& root, std::string_view path);

/// Throws Error "origin: path: message".
[[noreturn]] void fail(const Origin& origin, std::string_view path, std::string_view message);

/// Throws Error "origin: path: message" unless the condition holds.
template <class... Args>
void require_at(bool condition, const Origin& origin, std::string_view path,
                fmt::format_string<Args...> message, Args&&... args) {
  if (!condition) fail(origin, path, fmt::format(message, std::forward<Args>(args)...));
}

}  // namespace pipecast::config
