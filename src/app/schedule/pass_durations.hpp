/// What users write for the times of passes.
#pragma once

#include <string_view>
#include <vector>

#include "model/schedules/costs.hpp"

namespace pipecast {

/// "F=10,B=30,Bi=18,W=12,FB=34" in whole ticks. Of B, Bi and W one may be missing and follows from
/// the other two; Bi and W both: each is half of B, W the smaller half. FB missing is F + B:
/// overlap gains nothing.
/// @throws Error about `--durations`
PassDurations parse_durations(std::string_view text);

/// "1,1,2.5": factors from 0 to 1000.
/// @param option  what errors call it
/// @throws Error
std::vector<double> parse_factors(std::string_view text, std::string_view option);

/// Every duration rounded up.
PassDurations scaled(const PassDurations& durations, double factor);

}  // namespace pipecast
