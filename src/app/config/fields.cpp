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
  if (!partial && !writer.required_keys.empty()) {
    // A file taken in may bring the required keys.
    Json alternatives = Json::array({{{"required", writer.required_keys}}});
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

}  // namespace pipecast::config
