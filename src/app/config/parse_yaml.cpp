#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/exceptions.h>
#include <yaml-cpp/mark.h>
#include <yaml-cpp/parser.h>

#include <sstream>

#include "app/config/text.hpp"

namespace pipecast::config {

namespace {

using Source = std::shared_ptr<const std::string>;

/// Builds the tree from the parser's events.
class Builder : public YAML::EventHandler {
 public:
  Builder(Source source, bool lines) : source_(std::move(source)), lines_(lines) {}

  Node take_root() { return std::move(root_); }
  [[nodiscard]] Origin origin_of(const YAML::Mark& mark) const {
    if (!lines_) return {source_, 0, 0};
    return {source_, mark.line + 1, mark.column + 1};
  }

  void OnDocumentStart(const YAML::Mark& mark) override {
    require_at(documents_++ == 0, origin_of(mark), "",
               "a second document begins here; expected one document per file");
  }
  void OnDocumentEnd() override {}

  void OnNull(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    accept(mark, "", anchor);
    Node node;
    node.origin = origin_of(mark);
    // For a value left out the parser names the next thing in the file; the key is closer.
    const bool left_out = !open_.empty() && open_.back().key_pending &&
                          open_.back().key.origin.line != node.origin.line;
    if (left_out) node.origin = open_.back().key.origin;
    add(std::move(node));
  }

  void OnAlias(const YAML::Mark& mark, YAML::anchor_t anchor) override { accept(mark, "", anchor); }

  void OnScalar(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                const std::string& value) override {
    accept(mark, tag, anchor);
    // The parser marks quoted scalars with the tag "!".
    const Kind kind = tag == "!" ? Kind::kText : Kind::kPlain;
    if (!open_.empty() && open_.back().node.is_map() && !open_.back().key_pending) {
      begin_key(mark, value);
      return;
    }
    add({.kind = kind, .text = value, .keys = {}, .children = {}, .origin = origin_of(mark)});
  }

  void OnSequenceStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                       YAML::EmitterStyle::value) override {
    accept(mark, tag, anchor);
    open(mark, Kind::kList);
  }
  void OnSequenceEnd() override { close(); }

  void OnMapStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                  YAML::EmitterStyle::value) override {
    accept(mark, tag, anchor);
    open(mark, Kind::kMap);
  }
  void OnMapEnd() override { close(); }

 private:
  struct Open {
    Node node;
    Key key;
    bool key_pending = false;  // the key is read, its value not yet
  };

  void accept(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor) const {
    require_at(anchor == 0, origin_of(mark), "",
               "anchors (&) and aliases (*) are not supported; use 'extends: FILE'");
    require_at(tag.empty() || tag == "?" || tag == "!", origin_of(mark), "",
               "the tag {} is not supported; write the plain value", in_quotes(tag));
  }

  void begin_key(const YAML::Mark& mark, const std::string& name) {
    Open& map = open_.back();
    require_at(map.node.keys.size() < static_cast<std::size_t>(kMostKeys), origin_of(mark), "",
               "more than {} keys in one map", kMostKeys);
    const Node* const earlier = map.node.find(name);
    require_at(earlier == nullptr, origin_of(mark), "", "duplicate key {}; it stands already at {}",
               in_quotes(name), earlier == nullptr ? "" : to_text(earlier->origin));
    map.key = {name, origin_of(mark)};
    map.key_pending = true;
  }

  void add(Node node) {
    if (open_.empty()) {
      root_ = std::move(node);
      return;
    }
    Open& parent = open_.back();
    if (parent.node.is_list()) {
      parent.node.children.push_back(std::move(node));
      return;
    }
    require_at(parent.key_pending, node.origin, "", "a key must be a name, not {}",
               describe_node(node));
    parent.node.set(std::move(parent.key), std::move(node));
    parent.key_pending = false;
  }

  void open(const YAML::Mark& mark, Kind kind) {
    require_at(open_.size() < static_cast<std::size_t>(kDeepestNesting), origin_of(mark), "",
               "nested more than {} levels deep", kDeepestNesting);
    const bool as_key = !open_.empty() && open_.back().node.is_map() && !open_.back().key_pending;
    require_at(!as_key, origin_of(mark), "", "a key must be a name, not {}",
               kind == Kind::kMap ? "a map" : "a list");
    open_.emplace_back();
    open_.back().node.kind = kind;
    open_.back().node.origin = origin_of(mark);
  }

  void close() {
    Node node = std::move(open_.back().node);
    open_.pop_back();
    add(std::move(node));
  }

  Source source_;
  bool lines_;
  int documents_ = 0;
  Node root_;
  std::vector<Open> open_;
};

}  // namespace

Node parse_yaml(const std::string& text, const Source& source, bool lines) {
  check_characters(text, source);
  std::istringstream stream(text);
  Builder builder(source, lines);
  const Origin start = builder.origin_of({});
  try {
    YAML::Parser parser(stream);
    require_at(parser.HandleNextDocument(builder), start, "",
               "the text is empty; expected a map of keys");
    parser.HandleNextDocument(builder);
  } catch (const YAML::Exception& e) {
    fail(e.mark.is_null() ? start : builder.origin_of(e.mark), "", "not valid YAML: " + e.msg);
  }
  return builder.take_root();
}

}  // namespace pipecast::config
