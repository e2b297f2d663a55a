/// Who may include whom, read off the source text.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace pipecast::layers {

/// What a file under src/ does against the rules, one "path:line: reason" each.
/// @param path  relative to src/, with forward slashes
std::vector<std::string> violations(std::string_view path, std::string_view text);

}  // namespace pipecast::layers
