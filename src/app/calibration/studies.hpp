/// What the shipped calibrations are fitted on, study by study.
#pragma once

#include <filesystem>
#include <vector>

#include "app/calibration/study.hpp"
#include "model/specs/cluster.hpp"
#include "model/specs/model.hpp"
#include "model/specs/plan.hpp"

namespace pipecast {

/// What the trace ran and the tables' machines are like.
struct MeasuredCase {
  ClusterSpec cluster;  ///< gpu.name decides between tables of H800 and H100
  ModelSpec model;
  PlanSpec plan;
};

/// The studies of one GPU in the order of their dependence: isolated kernels first, then what the
/// trace of a training chunk adds to them. Together they fit every constant of a calibration once.
/// @param measured  must outlive the studies and their rows
/// @param traces    the folder traces/
/// @throws Error for a table that cannot be read, or a GPU without tables
std::vector<FitStudy> studies_of(const MeasuredCase& measured, const std::filesystem::path& traces);

struct FittedCalibration {
  CalibrationSpec calibration;
  std::vector<StudyResult> studies;
};

/// Runs studies one after the other, each with the other constants held, and all of them twice:
/// the first time those of later studies are at their starts, the second time where they belong.
/// @throws Error if two studies fit the same constant or none fits one
FittedCalibration fit_calibration(const std::string& gpu, const std::vector<FitStudy>& studies);

}  // namespace pipecast
