/// The kernel kinds there are. Nothing else can be launched.
#pragma once

#include <string_view>
#include <vector>

namespace pipecast {

struct OperationKind {
  std::string_view name;
  std::string_view description;  ///< one line for `pipecast list operations`
};

/// All kinds, sorted by name.
const std::vector<OperationKind>& operation_kinds();

/// The registered name equal to `name`, with static storage.
/// @throws Error with the nearest known name
std::string_view operation_kind(std::string_view name);

}  // namespace pipecast
