/// Small text helpers for error messages.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace pipecast {

/// Number of insertions, deletions, substitutions and swaps of neighbours that turn `a` into `b`.
int edit_distance(std::string_view a, std::string_view b);

/// The candidate that a misspelt `word` most likely meant; empty if none is close.
std::string nearest(std::string_view word, const std::vector<std::string>& candidates);

/// What stands between the separators: one more part than there are separators.
std::vector<std::string> split(std::string_view text, char separator);

/// "a, b, c".
std::string join(const std::vector<std::string>& words);

}  // namespace pipecast
