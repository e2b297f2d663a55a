#include "base/assert.hpp"

#include <cstdio>
#include <cstdlib>

namespace pipecast {

void assertion_failed(const char* condition, const char* file, int line) {
  std::fprintf(stderr, "pipecast: internal error: %s (%s:%d)\n", condition, file, line);
  std::fflush(nullptr);
  std::_Exit(3);
}

}  // namespace pipecast
