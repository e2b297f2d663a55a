/// Assertions that stay on in release builds: a broken one is our defect, never the user's.
#pragma once

namespace pipecast {

/// Prints what failed and where on standard error and ends the process with exit code 3.
[[noreturn]] void assertion_failed(const char* condition, const char* file, int line);

}  // namespace pipecast

#define PIPECAST_ASSERT(condition)    \
  ((condition) ? static_cast<void>(0) \
               : ::pipecast::assertion_failed(#condition, __FILE__, __LINE__))
