/// The options of `pipecast kernel` that make an operation: the inverse of a kernel's `make`.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "model/operations/operation.hpp"

namespace pipecast {

/// Options of the operation's kernel by name, in the order in which `pipecast list operations` has
/// them.
struct NamedExtent {
  std::string name{};
  std::int64_t value = 0;
  bool is_default = false;  ///< the option need not be given

  bool operator==(const NamedExtent&) const = default;
};

/// Nothing for launches that no options make: formats that a plan chose differently (the source of
/// a cast, the moments of AdamW), and exchanges, whose copies follow from the routing.
std::optional<std::vector<NamedExtent>> extents_of(const Operation& operation);

/// "m=4096 n=7168 k=2048": those that have to be given.
std::string shape_text(const std::vector<NamedExtent>& extents);

}  // namespace pipecast
