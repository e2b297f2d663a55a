#include "app/config/fields.hpp"

#include <algorithm>

#include "app/config/megatron_names.hpp"
#include "base/assert.hpp"
#include "base/text.hpp"

namespace pipecast::config {

namespace {

/// Collects the names of a section's keys.
class KeyCollector : public Fields {
 public:
  std::vector<std::string> known;    ///< what messages offer
  std::vector<std::string> allowed;  ///< what passes

  void ignored(const std::vector<std::string_view>& keys, std::string_view) override {
    allowed.insert(allowed.end(), keys.begin(), keys.end());
  }
  void file(std::string_view key, std::string_view) override { known.emplace_back(key); }

 protected:
  void visit(const Field& field) override {
    known.emplace_back(field.key);
    allowed.emplace_back(field.key);
  }
  [[noreturn]] void refuse(std::string_view, const std::string&) override {
    assertion_failed("keys are collected without checks", __FILE__, __LINE__);
  }
};

/// Reads every declared key of a map.
class Reader : public Fields {
 public:
  Reader(const Node& in, std::string path) : in_(in), path_(std::move(path)) {
    shown_.kind = Kind::kMap;
    shown_.origin = in.origin;
  }
  Node take_shown() { return std::move(shown_); }

  void ignored(const std::vector<std::string_view>&, std::string_view) override {}
  void file(std::string_view, std::string_view) override {}

 protected:
  void visit(const Field& field) override {
    const std::string path = join_path(path_, field.key);
    const Node* const given = in_.find(field.key);
    if (given != nullptr) {
      shown_.set({std::string(field.key), given->origin}, field.read(*given, path));
      return;
    }
    require_at(!field.required, in_.origin, path, "is missing; expected {}", field.doc);
    const std::optional<Node> fallback = field.fallback();
    if (!fallback) return;
    Node shown = fallback->is_map() ? field.read(*fallback, path) : *fallback;
    shown_.set({std::string(field.key), {}}, std::move(shown));
  }

  [[nodiscard]] bool checking() const override { return true; }

  [[noreturn]] void refuse(std::string_view key, const std::string& message) override {
    fail(origin_at(shown_, key), join_path(path_, key), message);
  }

 private:
  const Node& in_;
  std::string path_;
  Node shown_;
};

/// Writes the schema of a section.
class SchemaWriter : public Fields {
 public:
  Json properties = Json::object();
  Json nested = Json::object();  ///< what sections among the properties must have
  std::vector<std::string> required_keys;
  std::vector<std::string> file_keys;  ///< any one of them may stand for the required keys

  void ignored(const std::vector<std::string_view>& keys, std::string_view doc) override {
    for (const std::string_view key : keys) properties[std::string(key)] = {{"description", doc}};
  }
  void file(std::string_view key, std::string_view doc) override {
    file_keys.emplace_back(key);
    properties[std::string(key)] = {{"type", "string"}, {"description", doc}};
  }

 protected:
  void visit(const Field& field) override {
    Json schema = field.schema();
    // Below a section that a file completes, nothing is required either: what sections must have
    // moves up to where that is decided.
    const bool section = schema.contains("additionalProperties");
    if (const auto must = schema.find("anyOf"); section && must != schema.end()) {
      nested[std::string(field.key)] = {{"anyOf", std::move(*must)}};
      schema.erase("anyOf");
    }
    schema["description"] = field.doc;
    const std::optional<Node> fallback = field.required ? std::nullopt : field.fallback();
    if (fallback && fallback->kind == Kind::kPlain) schema["default"] = Json::parse(fallback->text);
    if (fallback && fallback->kind == Kind::kText) schema["default"] = fallback->text;
    properties[std::string(field.key)] = std::move(schema);
    if (field.required) required_keys.emplace_back(field.key);
  }
  [[noreturn]] void refuse(std::string_view, const std::string&) override {
    assertion_failed("schemas are written without checks", __FILE__, __LINE__);
  }
};

std::string unknown_key_message(const std::string& key, const KeyCollector& collector) {
  const std::string list = "known keys: " + join(collector.known);
  const std::string_view ours = key_for_megatron_name(key);
  if (!ours.empty()) {
    return fmt::format("unknown key; {} is Megatron-LM's name for '{}'; {}", in_quotes(key), ours,
                       list);
  }
  const std::string guess = nearest(key, collector.known);
  if (!guess.empty()) return fmt::format("unknown key; did you mean '{}'? {}", guess, list);
  return "unknown key; " + list;
}

}  // namespace

Node read_section(const Node& in, const std::string& path, const Describe& describe) {
  require_at(in.is_map(), in.origin, path, "is {}; expected a map of keys", describe_node(in));
  // Unknown keys come first: a misspelt key is more to the point than the missing right one.
  KeyCollector collector;
  collector.file("extends", "");
  describe(collector);
  for (const Key& key : in.keys) {
    const auto known = std::find(collector.allowed.begin(), collector.allowed.end(), key.name);
    if (known == collector.allowed.end())
      fail(key.origin, join_path(path, key.name), unknown_key_message(key.name, collector));
  }
  Reader reader(in, path);
  describe(reader);
  return reader.take_shown();
}

Json section_schema(const Describe& describe, bool partial) {
  SchemaWriter writer;
  writer.file("extends", "a file whose keys this section takes over and may override");
  describe(writer);
  Json out = {{"type", "object"}, {"additionalProperties", false}};
  if (!partial && !(writer.required_keys.empty() && writer.nested.empty())) {
    // A file taken in may bring the required keys.
    Json complete = {{"required", writer.required_keys}};
    if (!writer.nested.empty()) complete["properties"] = std::move(writer.nested);
    Json alternatives = Json::array({std::move(complete)});
    for (const std::string& key : writer.file_keys)
      alternatives.push_back({{"required", Json::array({key})}});
    out["anyOf"] = std::move(alternatives);
  }
  out["properties"] = std::move(writer.properties);
  return out;
}

std::size_t read_word(const Node& in, const std::string& path,
                      const std::vector<std::string_view>& words) {
  const auto it = in.is_scalar() ? std::find(words.begin(), words.end(), in.text) : words.end();
  const std::vector<std::string> known(words.begin(), words.end());
  require_at(it != words.end(), in.origin, path, "is {}; expected {}{}", describe_node(in),
             known.size() > 1 ? "one of: " : "", join(known));
  return static_cast<std::size_t>(it - words.begin());
}

Json word_schema(const std::vector<std::string_view>& words) {
  Json list = Json::array();
  for (const std::string_view word : words) list.push_back(word);
  return {{"type", "string"}, {"enum", std::move(list)}};
}

std::vector<std::size_t> read_order(const Node& in, const std::string& path,
                                    const std::vector<std::string_view>& words) {
  const std::vector<std::string> known(words.begin(), words.end());
  require_at(in.is_list(), in.origin, path, "is {}; expected a list of: {}", describe_node(in),
             join(known));
  std::vector<std::size_t> out;
  for (const Node& item : in.children) {
    const std::string item_path = join_path(path, std::to_string(out.size()));
    const auto it =
        item.is_scalar() ? std::find(known.begin(), known.end(), item.text) : known.end();
    if (it == known.end()) {
      const std::string guess = item.is_scalar() ? nearest(item.text, known) : "";
      const std::string hint = guess.empty() ? "" : fmt::format("did you mean '{}'? ", guess);
      fail(item.origin, item_path,
           fmt::format("is {}; {}expected one of: {}", describe_node(item), hint, join(known)));
    }
    const auto index = static_cast<std::size_t>(it - known.begin());
    require_at(std::find(out.begin(), out.end(), index) == out.end(), item.origin, item_path,
               "{} stands twice; expected once", describe_node(item));
    out.push_back(index);
  }
  for (std::size_t i = 0; i < known.size(); ++i) {
    require_at(std::find(out.begin(), out.end(), i) != out.end(), in.origin, path,
               "lacks '{}'; expected every one of: {}", known[i], join(known));
  }
  return out;
}

Json order_schema(const std::vector<std::string_view>& words) {
  return {{"type", "array"},
          {"uniqueItems", true},
          {"minItems", words.size()},
          {"maxItems", words.size()},
          {"items", word_schema(words)}};
}

}  // namespace pipecast::config
