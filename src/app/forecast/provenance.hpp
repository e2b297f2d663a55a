/// What the cost of every operation of a forecast rests on.
#pragma once

#include <string>
#include <vector>

#include "app/forecast/forecast.hpp"

namespace pipecast {

/// One entry per kind of operation that a step of the plan launches, sorted by name, and after them
/// one per kind of transfer outside the layers.
///
/// An operation is `calibrated` if `pipecast calibrate` timed it on the device that the calibration
/// names and the constant that decides its time was fitted on such times; `public` if published or
/// traced times of it stand behind its constants; `modelled` if no times of its own are fitted, if
/// the deciding constant rests on no measurement, or if the calibration is of another GPU. The
/// worst of these holds.
std::vector<Provenance> provenance_of(const Scenario& scenario, const PlanSpec& plan);

/// "30 calibrated, 11 public, 6 modelled": how many entries are of each kind.
std::string provenance_text(const std::vector<Provenance>& provenance);

}  // namespace pipecast
