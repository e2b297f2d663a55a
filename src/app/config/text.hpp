/// YAML and JSON texts to trees. The only files that include yaml-cpp are here.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>

#include "app/config/node.hpp"

namespace pipecast::config {

/// Nesting that no honest file reaches; far below what the parsers and the tree's own recursion
/// can take.
inline constexpr int kDeepestNesting = 64;
/// Keys that no honest map reaches; looking for duplicates takes time with their square.
inline constexpr int kMostKeys = 1'000;

/// @throws Error unless the text is UTF-8 without NUL bytes
void check_characters(std::string_view text, const std::shared_ptr<const std::string>& source);

/// One YAML document. Refused: several documents, anchors, aliases, tags, keys that are no
/// scalars, duplicate keys.
/// @param source  how messages call the text
/// @param lines   whether origins have lines; a value from the command line has none
/// @throws Error with line and column
Node parse_yaml(const std::string& text, const std::shared_ptr<const std::string>& source,
                bool lines = true);

/// One JSON value; duplicate keys are refused.
/// @throws Error with line and column
Node parse_json(const std::string& text, const std::shared_ptr<const std::string>& source,
                std::size_t most_keys = kMostKeys);

}  // namespace pipecast::config
