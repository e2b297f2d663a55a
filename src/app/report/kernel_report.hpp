/// What `pipecast kernel` tells about a prediction or a table of them.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "app/kernel/kernel_table.hpp"
#include "app/report/roofline_svg.hpp"

namespace pipecast {

/// One option of the shape as users write it.
struct ShapeValue {
  std::string name;
  std::string value;
  bool is_fallback = false;  ///< what holds if nothing is said: left out of texts
};

/// A prediction with what was asked for.
struct KernelAnswer {
  KernelPrediction prediction;
  std::vector<ShapeValue> shape;
};

nlohmann::ordered_json kernel_json(const KernelAnswer& answer, const KernelMachine& machine);

/// A small aligned table.
std::string kernel_text(const KernelAnswer& answer, const KernelMachine& machine);

/// The same in words: how the work is cut, what limits it, where cycles and bytes go.
std::string kernel_explanation(const KernelAnswer& answer, const KernelMachine& machine);

/// Predictions beside the table's own columns.
struct KernelTableAnswer {
  KernelName name;
  const CsvTable& table;
  const std::vector<KernelTableRow>& rows;
};

nlohmann::ordered_json kernel_table_json(const KernelTableAnswer& answer,
                                         const KernelMachine& machine);

/// @param worst  how many of the rows that are furthest off are shown
std::string kernel_table_text(const KernelTableAnswer& answer, const KernelMachine& machine,
                              std::size_t worst);

/// The picture of predictions of one kind.
/// @throws Error if none computes anything: their intensity would be zero
RooflinePicture roofline_picture(const std::vector<KernelTableRow>& rows,
                                 const KernelMachine& machine);
/// The same of one prediction, which gets a label.
RooflinePicture roofline_picture(const KernelAnswer& answer, const KernelMachine& machine);

}  // namespace pipecast
