#include "app/config/node.hpp"

#include <algorithm>
#include <iterator>

namespace pipecast::config {

namespace {

std::ptrdiff_t index_of(const Node& map, std::string_view key) {
  const auto it =
      std::find_if(map.keys.begin(), map.keys.end(), [key](const Key& k) { return k.name == key; });
  return it == map.keys.end() ? -1 : it - map.keys.begin();
}

}  // namespace

std::string to_text(const Origin& origin) {
  if (origin.is_default()) return "default";
  if (origin.line == 0) return *origin.source;
  return fmt::format("{}:{}:{}", *origin.source, origin.line, origin.column);
}

const Node* Node::find(std::string_view key) const {
  const std::ptrdiff_t index = index_of(*this, key);
  return index < 0 ? nullptr : &children[static_cast<std::size_t>(index)];
}

Node* Node::find(std::string_view key) {
  const std::ptrdiff_t index = index_of(*this, key);
  return index < 0 ? nullptr : &children[static_cast<std::size_t>(index)];
}

Node& Node::set(Key key, Node value) {
  const std::ptrdiff_t index = index_of(*this, key.name);
  if (index < 0) {
    keys.push_back(std::move(key));
    children.push_back(std::move(value));
    return children.back();
  }
  const auto at = static_cast<std::size_t>(index);
  keys[at] = std::move(key);
  children[at] = std::move(value);
  return children[at];
}

void Node::erase(std::string_view key) {
  const std::ptrdiff_t index = index_of(*this, key);
  if (index < 0) return;
  keys.erase(keys.begin() + index);
  children.erase(children.begin() + index);
}

std::string describe_node(const Node& node) {
  switch (node.kind) {
    case Kind::kNull:
      return "empty";
    case Kind::kPlain:
      return in_quotes(node.text);
    case Kind::kText:
      return "the text " + in_quotes(node.text);
    case Kind::kList:
      return "a list";
    case Kind::kMap:
      return "a map";
  }
  return {};
}

std::string printable(std::string_view text, std::size_t longest) {
  std::string out;
  for (const char c : text.substr(0, longest)) {
    const auto byte = static_cast<unsigned char>(c);
    out += byte < 0x20 || byte == 0x7f ? ' ' : c;
  }
  if (text.size() <= longest) return out;
  // A cut in the middle of a UTF-8 character leaves no half of it.
  const auto continues = [&](std::size_t i) {
    return (static_cast<unsigned char>(text[i]) & 0xC0) == 0x80;
  };
  for (std::size_t cut = longest; cut > 0 && continues(cut); --cut) out.pop_back();
  return out + "...";
}

std::string in_quotes(std::string_view text) { return "'" + printable(text) + "'"; }

std::string join_path(std::string_view parent, std::string_view key) {
  if (parent.empty()) return std::string(key);
  return fmt::format("{}.{}", parent, key);
}

Node merge(Node base, Node over) {
  if (!base.is_map() || !over.is_map()) return over;
  base.origin = over.origin;
  for (std::size_t i = 0; i < over.keys.size(); ++i) {
    Node* const old = base.find(over.keys[i].name);
    Node value = std::move(over.children[i]);
    if (old != nullptr) value = merge(std::move(*old), std::move(value));
    base.set(std::move(over.keys[i]), std::move(value));
  }
  return base;
}

Origin origin_at(const Node& root, std::string_view path) {
  Origin out = root.origin;
  const Node* at = &root;
  while (at != nullptr && !path.empty()) {
    const std::size_t dot = std::min(path.find('.'), path.size());
    const std::string key(path.substr(0, dot));
    path.remove_prefix(std::min(dot + 1, path.size()));
    at = at->is_list() ? &at->children.at(std::stoul(key)) : at->find(key);
    if (at != nullptr && !at->origin.is_default()) out = at->origin;
  }
  return out;
}

void fail(const Origin& origin, std::string_view path, std::string_view message) {
  std::string out = origin.is_default() ? std::string() : to_text(origin) + ": ";
  if (!path.empty()) out += printable(path) + ": ";
  throw Error(out.append(message));
}

}  // namespace pipecast::config
