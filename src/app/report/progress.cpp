#include "app/report/progress.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <string>

namespace pipecast {

namespace {

constexpr auto kPatience = std::chrono::seconds(2);
constexpr auto kRedraw = std::chrono::milliseconds(100);
constexpr int kWidth = 40;

}  // namespace

ProgressBar::ProgressBar(bool wanted)
    : wanted_(wanted && isatty(STDERR_FILENO) != 0),
      started_(Clock::now()),
      last_drawn_(started_) {}

void ProgressBar::update(std::string_view stage, double fraction) {
  if (!wanted_) return;
  const std::lock_guard lock(mutex_);
  const Clock::time_point now = Clock::now();
  if (now - started_ < kPatience || (drawn_ && now - last_drawn_ < kRedraw)) return;
  const int done = std::clamp(static_cast<int>(fraction * kWidth), 0, kWidth);
  fmt::print(stderr, "\r\x1b[K{} [{}{}] {:3.0f} %", stage,
             std::string(static_cast<std::size_t>(done), '#'),
             std::string(static_cast<std::size_t>(kWidth - done), '.'),
             100 * std::clamp(fraction, 0.0, 1.0));
  std::fflush(stderr);
  drawn_ = true;
  last_drawn_ = now;
}

void ProgressBar::finish() {
  const std::lock_guard lock(mutex_);
  if (drawn_) fmt::print(stderr, "\r\x1b[K");
  drawn_ = false;
  wanted_ = false;
}

}  // namespace pipecast
