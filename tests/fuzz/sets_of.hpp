/// Arguments of `--set` inside a fuzzed text.
#pragma once

#include <sstream>
#include <string>
#include <string_view>
#include <vector>

namespace fuzz {

/// The lines "#--set path=value" at the top.
inline std::vector<std::string> sets_of(const std::string& text) {
  constexpr std::string_view kMark = "#--set ";
  std::vector<std::string> out;
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line) && line.rfind(kMark, 0) == 0;)
    out.push_back(line.substr(kMark.size()));
  return out;
}

}  // namespace fuzz
