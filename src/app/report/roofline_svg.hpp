/// A roofline picture (Williams, Waterman, Patterson 2009) as a self-contained SVG.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/units.hpp"

namespace pipecast {

/// A memory limits to bandwidth times intensity.
struct RooflineSlope {
  std::string name;
  Bandwidth bandwidth;
};

/// Arithmetic limits whatever the intensity.
struct RooflineCeiling {
  std::string name;
  FlopRate rate;
};

struct RooflinePoint {
  double intensity = 0;  ///< floating-point operations per byte, > 0
  FlopRate rate;         ///< > 0
};

struct RooflinePicture {
  std::string title;
  std::string subtitle;
  std::vector<RooflineSlope> slopes;      ///< at least one; the first is that of the points' bytes
  std::vector<RooflineCeiling> ceilings;  ///< at least one, the highest first
  std::vector<RooflinePoint> predicted;   ///< at least one
  std::vector<RooflinePoint> measured{};
  std::vector<std::string> label{};  ///< lines beside the point, where there is only one
  /// The same single point by the bytes of the second slope.
  std::optional<RooflinePoint> second{};
};

/// Both axes are logarithmic and cover all points and the corner of the roof. Characters beyond
/// ASCII become question marks.
std::string roofline_svg(const RooflinePicture& picture);

}  // namespace pipecast
