#include <iterator>
#include <nlohmann/json.hpp>
#include <unordered_map>

#include "app/config/text.hpp"

namespace pipecast::config {

namespace {

using Source = std::shared_ptr<const std::string>;

struct Position {
  int line = 1;
  int column = 1;
};

/// Follows the parser through the text and remembers where the last scalar and the last bracket
/// began: the parser itself tells no positions.
class Tracker {
 public:
  void consume(char c) {
    if (in_string_) {
      if (escaped_) {
        escaped_ = false;
      } else if (c == '\\') {
        escaped_ = true;
      } else if (c == '"') {
        in_string_ = false;
      }
    } else {
      consume_outside(c);
    }
    last_ = {here_, c};
    const bool continues = (static_cast<unsigned char>(c) & 0xC0) == 0x80;  // within a character
    if (c == '\n') {
      ++here_.line;
      here_.column = 1;
    } else if (!continues) {
      ++here_.column;
    }
  }
  [[nodiscard]] Position scalar() const { return scalar_; }
  [[nodiscard]] Position bracket() const { return bracket_; }
  [[nodiscard]] Position here() const { return here_; }
  struct Last {
    Position position;
    char c = 0;
  };
  /// The last character that the parser has taken.
  [[nodiscard]] Last last() const { return last_; }

 private:
  void consume_outside(char c) {
    static constexpr std::string_view kSeparators = " \t\r\n,:";
    static constexpr std::string_view kBrackets = "[]{}";
    const bool bracket = kBrackets.find(c) != std::string_view::npos;
    if (bracket) bracket_ = here_;
    if (bracket || kSeparators.find(c) != std::string_view::npos) {
      in_word_ = false;
      return;
    }
    if (!in_word_) scalar_ = here_;
    in_word_ = c != '"';
    in_string_ = c == '"';
  }

  Position here_;
  Last last_;
  Position scalar_;
  Position bracket_;
  bool in_string_ = false;
  bool escaped_ = false;
  bool in_word_ = false;
};

/// Hands the text to the parser character by character and the same characters to the tracker.
class TrackingIterator {
 public:
  using iterator_category = std::input_iterator_tag;
  using value_type = char;
  using difference_type = std::ptrdiff_t;
  using pointer = const char*;
  using reference = const char&;

  TrackingIterator(const char* at, Tracker* tracker) : at_(at), tracker_(tracker) {}
  reference operator*() const { return *at_; }
  TrackingIterator& operator++() {
    tracker_->consume(*at_++);
    return *this;
  }
  TrackingIterator operator++(int) {
    TrackingIterator old = *this;
    ++*this;
    return old;
  }
  bool operator==(const TrackingIterator& other) const { return at_ == other.at_; }
  bool operator!=(const TrackingIterator& other) const { return at_ != other.at_; }

 private:
  const char* at_;
  Tracker* tracker_;
};

/// Builds the tree from the parser's events.
class Builder : public nlohmann::json_sax<nlohmann::json> {
 public:
  Builder(Source source, const Tracker& tracker, std::size_t most_keys)
      : source_(std::move(source)), tracker_(tracker), most_keys_(most_keys) {}
  Node take_root() { return std::move(root_); }

  bool null() override { return add({}, Kind::kNull); }
  bool boolean(bool value) override { return add(value ? "true" : "false", Kind::kPlain); }
  bool number_integer(number_integer_t value) override {
    return add(std::to_string(value), Kind::kPlain);
  }
  bool number_unsigned(number_unsigned_t value) override {
    return add(std::to_string(value), Kind::kPlain);
  }
  bool number_float(number_float_t, const std::string& text) override {
    return add(text, Kind::kPlain);
  }
  bool string(std::string& value) override { return add(value, Kind::kText); }
  bool binary(binary_t&) override { return false; }  // JSON text has none

  bool start_object(std::size_t) override { return open(Kind::kMap); }
  bool end_object() override { return close(); }
  bool start_array(std::size_t) override { return open(Kind::kList); }
  bool end_array() override { return close(); }

  bool key(std::string& name) override {
    const Origin origin = at(tracker_.scalar());
    Open& map = open_.back();
    require_at(map.names.size() < most_keys_, origin, "", "more than {} keys in one map",
               most_keys_);
    const auto [earlier, is_new] = map.names.emplace(name, map.node.children.size());
    if (!is_new) {
      fail(origin, "",
           fmt::format("duplicate key {}; it stands already at {}", in_quotes(name),
                       to_text(map.node.children[earlier->second].origin)));
    }
    map.node.keys.push_back({name, origin});
    return true;
  }

  bool parse_error(std::size_t, const std::string&, const nlohmann::detail::exception& e) override {
    // The parser's number for "number overflow".
    constexpr int kNumberOverflow = 406;
    require_at(e.id != kNumberOverflow, at(tracker_.scalar()), "",
               "the number is too large; expected one below 1.8e308");
    const bool at_end =
        std::string_view(e.what()).find("unexpected end of input") != std::string_view::npos;
    require_at(!at_end, at(tracker_.here()), "", "not valid JSON: the text ends too early");
    const auto [position, c] = tracker_.last();
    const bool ascii = static_cast<unsigned char>(c) < 0x80;
    fail(at(position), "",
         "not valid JSON: unexpected " + (ascii ? in_quotes({&c, 1}) : "character"));
  }

 private:
  struct Open {
    Node node;
    std::unordered_map<std::string, std::size_t> names;  // of a map: where in node.children
  };

  [[nodiscard]] Origin at(Position p) const { return {source_, p.line, p.column}; }

  bool add(std::string text, Kind kind) {
    Node node;
    node.kind = kind;
    node.text = std::move(text);
    node.origin = at(tracker_.scalar());
    return place(std::move(node));
  }

  bool place(Node node) {
    if (open_.empty()) {
      root_ = std::move(node);
    } else {
      open_.back().node.children.push_back(std::move(node));
    }
    return true;
  }

  bool open(Kind kind) {
    require_at(open_.size() < static_cast<std::size_t>(kDeepestNesting), at(tracker_.bracket()), "",
               "nested more than {} levels deep", kDeepestNesting);
    open_.emplace_back();
    open_.back().node.kind = kind;
    open_.back().node.origin = at(tracker_.bracket());
    return true;
  }

  bool close() {
    Node node = std::move(open_.back().node);
    open_.pop_back();
    return place(std::move(node));
  }

  Source source_;
  const Tracker& tracker_;
  std::size_t most_keys_;
  Node root_;
  std::vector<Open> open_;
};

}  // namespace

Node parse_json(const std::string& text, const Source& source, std::size_t most_keys) {
  check_characters(text, source);
  Tracker tracker;
  Builder builder(source, tracker, most_keys);
  const TrackingIterator begin(text.data(), &tracker);
  const TrackingIterator end(text.data() + text.size(), &tracker);
  nlohmann::json::sax_parse(begin, end, &builder);
  return builder.take_root();
}

}  // namespace pipecast::config
