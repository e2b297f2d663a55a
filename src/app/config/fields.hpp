/// One declaration per section, three uses. For every struct of the specs a function
/// `describe(Fields&, T&)` declares each key once; reading, JSON Schema and `--print-config` follow
/// from it:
///
///     void describe(Fields& f, NicSpec& nic) {
///       f.required("per_gpu", nic.per_gpu, "ports per GPU", at_least(1));
///       f.required("bandwidth", nic.bandwidth, "line rate of one port and direction", positive());
///       f.required("latency", nic.latency, "end to end below one leaf switch");
///     }
#pragma once

#include <array>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "app/config/node.hpp"
#include "app/config/values.hpp"
#include "base/assert.hpp"

namespace pipecast::config {

/// One key of a section, its type erased.
struct Field {
  std::string_view key;
  std::string_view doc;
  bool required = true;
  /// Stores the value in the struct's member and returns what `--print-config` shows.
  std::function<Node(const Node& in, const std::string& path)> read;
  /// What a missing optional key stands for; nothing: it is simply not there.
  std::function<std::optional<Node>()> fallback;
  std::function<Json()> schema;
};

/// A word of the configuration and what it means.
template <class T>
struct Choice {
  std::string_view word;
  T value;
};

class Fields;

/// The types that have a `describe` of their own, that is: sections.
template <class T>
concept Section = requires(Fields& fields, T& section) {
  describe(fields, section);
};

/// What a `describe` function talks to.
class Fields {
 public:
  virtual ~Fields() = default;

  /// A key that must be there.
  template <class T>
  void required(std::string_view key, T& member, std::string_view doc, Range range = {}) {
    declare(key, doc, true, member, range, [] { return std::optional<Node>(); });
  }

  /// A key whose default is the member's present value.
  template <class T>
  void optional(std::string_view key, T& member, std::string_view doc, Range range = {}) {
    declare(key, doc, false, member, range,
            [&member] { return std::optional<Node>(write_value(member)); });
  }

  /// A key that may be missing, and then nothing stands for it.
  template <class T>
  void maybe(std::string_view key, T& member, std::string_view doc, Range range = {}) {
    declare(key, doc, false, member, range, [] { return std::optional<Node>(); });
  }

  /// A section of which all keys have defaults and which may be missing itself.
  template <Section T>
  void optional_section(std::string_view key, T& member, std::string_view doc) {
    declare(key, doc, false, member, {}, [] { return std::optional<Node>(empty_map()); });
  }

  /// A section that may be missing and of which a file need only give some keys: the reader has
  /// completed it from elsewhere.
  template <Section T>
  void overrides(std::string_view key, T& member, std::string_view doc);

  /// A key that must be one of some words.
  template <class T>
  void choice(std::string_view key, T& member, std::vector<Choice<T>> choices,
              std::string_view doc) {
    declare_choice(key, member, std::move(choices), doc, true);
  }

  /// A key that may be one of some words; the member's present value is the default.
  template <class T>
  void optional_choice(std::string_view key, T& member, std::vector<Choice<T>> choices,
                       std::string_view doc) {
    declare_choice(key, member, std::move(choices), doc, false);
  }

  /// A list of all of some words, whose order counts; the member's present order is the default.
  template <class T, std::size_t N>
  void optional_order(std::string_view key, std::array<T, N>& member,
                      std::vector<Choice<T>> choices, std::string_view doc);

  /// Keys that are accepted and have no effect.
  virtual void ignored(const std::vector<std::string_view>& keys, std::string_view doc) = 0;

  /// A key that names a file to take the section's keys from; it is resolved before reading.
  virtual void file(std::string_view key, std::string_view doc) = 0;

  /// A rule on what was read; its failure points to `key`, or to an element of it: "order.3".
  template <class... Args>
  void check(bool holds, std::string_view key, fmt::format_string<Args...> message,
             Args&&... args) {
    if (!holds && checking()) refuse(key, fmt::format(message, std::forward<Args>(args)...));
  }

 protected:
  virtual void visit(const Field& field) = 0;
  /// Whether values have been read, so that rules on them mean something.
  [[nodiscard]] virtual bool checking() const { return false; }
  [[noreturn]] virtual void refuse(std::string_view key, const std::string& message) = 0;

 private:
  static Node empty_map() {
    Node out;
    out.kind = Kind::kMap;
    return out;
  }

  template <class T>
  void declare(std::string_view key, std::string_view doc, bool must, T& member, Range range,
               std::function<std::optional<Node>()> fallback) {
    visit({.key = key,
           .doc = doc,
           .required = must,
           .read = [&member, range](
                       const Node& in,
                       const std::string& path) { return read_value(in, path, member, range); },
           .fallback = std::move(fallback),
           .schema = [&member, range] { return value_schema(&member, range); }});
  }

  template <class T>
  void declare_choice(std::string_view key, T& member, std::vector<Choice<T>> choices,
                      std::string_view doc, bool must);
};

using Describe = std::function<void(Fields&)>;

/// Reads a map with the keys that `describe` declares; unknown keys are refused first.
Node read_section(const Node& in, const std::string& path, const Describe& describe);

/// The schema of such a map. Every section may be completed by `extends`.
/// @param partial  no key is required
Json section_schema(const Describe& describe, bool partial);

/// Reads one of some words.
/// @returns the index of the word
std::size_t read_word(const Node& in, const std::string& path,
                      const std::vector<std::string_view>& words);
Json word_schema(const std::vector<std::string_view>& words);

/// Reads a list of all of some words.
/// @returns the index of every word of the list
std::vector<std::size_t> read_order(const Node& in, const std::string& path,
                                    const std::vector<std::string_view>& words);
Json order_schema(const std::vector<std::string_view>& words);

template <Section T>
Node read_value(const Node& in, const std::string& path, T& out, const Range&) {
  return read_section(in, path, [&out](Fields& f) { describe(f, out); });
}

template <Section T>
Json value_schema(const T*, const Range&) {
  T section{};
  return section_schema([&section](Fields& f) { describe(f, section); }, false);
}

/// A list of sections.
template <Section T>
Node read_value(const Node& in, const std::string& path, std::vector<T>& out, const Range&) {
  require_at(in.is_list(), in.origin, path, "is {}; expected a list", describe_node(in));
  Node shown;
  shown.kind = Kind::kList;
  shown.origin = in.origin;
  out.clear();
  for (const Node& item : in.children) {
    const std::string item_path = join_path(path, std::to_string(out.size()));
    shown.children.push_back(read_value(item, item_path, out.emplace_back(), {}));
  }
  return shown;
}

template <Section T>
Json value_schema(const std::vector<T>*, const Range&) {
  return {{"type", "array"}, {"items", value_schema(static_cast<const T*>(nullptr), Range{})}};
}

template <Section T>
void Fields::overrides(std::string_view key, T& member, std::string_view doc) {
  visit({.key = key,
         .doc = doc,
         .required = false,
         .read = [&member](const Node& in,
                           const std::string& path) { return read_value(in, path, member, {}); },
         .fallback = [] { return std::optional<Node>(); },
         .schema =
             [] {
               T section{};
               return section_schema([&section](Fields& f) { describe(f, section); }, true);
             }});
}

template <class T>
void Fields::declare_choice(std::string_view key, T& member, std::vector<Choice<T>> choices,
                            std::string_view doc, bool must) {
  std::vector<std::string_view> words;
  std::optional<Node> fallback;
  for (const Choice<T>& choice : choices) {
    words.push_back(choice.word);
    if (!must && choice.value == member) fallback = write_value(std::string(choice.word));
  }
  visit({.key = key,
         .doc = doc,
         .required = must,
         .read =
             [&member, words, choices](const Node& in, const std::string& path) {
               member = choices[read_word(in, path, words)].value;
               Node shown = in;
               shown.kind = Kind::kText;
               return shown;
             },
         .fallback = [fallback] { return fallback; },
         .schema = [words] { return word_schema(words); }});
}

template <class T, std::size_t N>
void Fields::optional_order(std::string_view key, std::array<T, N>& member,
                            std::vector<Choice<T>> choices, std::string_view doc) {
  PIPECAST_ASSERT(choices.size() == N);
  std::vector<std::string_view> words;
  for (const Choice<T>& choice : choices) words.push_back(choice.word);
  Node fallback;
  fallback.kind = Kind::kList;
  for (const T& value : member) {
    for (const Choice<T>& choice : choices) {
      if (choice.value == value) {
        fallback.children.push_back(write_value(std::string(choice.word)));
      }
    }
  }
  visit({.key = key,
         .doc = doc,
         .required = false,
         .read =
             [&member, words, choices](const Node& in, const std::string& path) {
               const std::vector<std::size_t> order = read_order(in, path, words);
               for (std::size_t i = 0; i < N; ++i) member[i] = choices[order[i]].value;
               Node shown = in;
               for (Node& item : shown.children) item.kind = Kind::kText;
               return shown;
             },
         .fallback = [fallback] { return fallback; },
         .schema = [words] { return order_schema(words); }});
}

/// Choices of keys whose values are just words.
inline std::vector<Choice<std::string>> words(const std::vector<std::string_view>& list) {
  std::vector<Choice<std::string>> out;
  for (const std::string_view word : list) out.push_back({word, std::string(word)});
  return out;
}

}  // namespace pipecast::config
