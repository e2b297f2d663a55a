/// What `pipecast compare` tells about two results.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "app/report/comparison.hpp"

namespace pipecast {

/// What the comparison calls the two results: their files.
struct ComparedNames {
  std::string a;
  std::string b;
};

nlohmann::ordered_json comparison_json(const ComparedNames& names, const Comparison& comparison);

struct ComparisonView {
  std::size_t limit = 0;  ///< lines of each table; 0: all
  double threshold_percent =
      0;  ///< numbers that change by less are left out, the headline never is
};

/// Aligned tables for the terminal: settings, headline, differences, what only one has. What
/// differs on several pipeline ranks is one line, with the largest of them.
std::string comparison_text(const ComparedNames& names, const Comparison& comparison,
                            const ComparisonView& view);

}  // namespace pipecast
