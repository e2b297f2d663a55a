/// Megatron-LM's names for what Pipecast calls otherwise.
#pragma once

#include <string_view>

namespace pipecast::config {

/// Our key for a long Megatron-LM option, with dashes or underscores; empty if it is none.
std::string_view key_for_megatron_name(std::string_view name);

}  // namespace pipecast::config
