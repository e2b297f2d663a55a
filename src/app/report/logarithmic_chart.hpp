/// Curves over decades as self-contained SVG.
#pragma once

#include <string>

#include "app/report/line_chart.hpp"

namespace pipecast {

/// Lines through marked points, the vertical axis logarithmic, the horizontal one too where its
/// values are positive and span more than a factor of eight; names below. Points at zero or below
/// are left out.
/// @param chart  `from_zero` is of no account
/// @throws Error if no point is above zero
std::string logarithmic_chart(const Chart& chart);

}  // namespace pipecast
