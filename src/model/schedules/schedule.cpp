#include "model/schedules/schedule.hpp"

#include <fmt/format.h>

namespace pipecast {

namespace {

std::string to_text(const ChunkPass& p) {
  static constexpr std::string_view kLetters[] = {"F", "B", "Bi", "W"};
  return fmt::format("{}{}.{}", kLetters[static_cast<int>(p.pass)], p.direction, p.microbatch);
}

}  // namespace

std::string to_text(const Step& step) {
  return step.overlapped ? to_text(step.first) + "&" + to_text(step.second) : to_text(step.first);
}

}  // namespace pipecast
