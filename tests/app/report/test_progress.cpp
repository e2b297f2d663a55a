/// The progress bar, watched from the other end of its terminal.
#include <fcntl.h>
#include <pty.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <chrono>
#include <string>
#include <thread>

#include "app/report/progress.hpp"

using namespace pipecast;

namespace {

/// Puts another file in the place of standard error for a while.
class RedirectedError {
 public:
  explicit RedirectedError(int file) : kept_(dup(STDERR_FILENO)) { dup2(file, STDERR_FILENO); }
  ~RedirectedError() {
    dup2(kept_, STDERR_FILENO);
    close(kept_);
  }
  RedirectedError(const RedirectedError&) = delete;
  RedirectedError& operator=(const RedirectedError&) = delete;

 private:
  int kept_;
};

std::string read_all(int file) {
  fcntl(file, F_SETFL, fcntl(file, F_GETFL) | O_NONBLOCK);
  std::string out(4096, '\0');
  const ssize_t got = read(file, out.data(), out.size());
  out.resize(got > 0 ? static_cast<std::size_t>(got) : 0);
  return out;
}

}  // namespace

TEST_CASE("on a terminal a bar appears after two seconds and goes away at the end", "[progress]") {
  int watcher = -1;
  int terminal = -1;
  REQUIRE(openpty(&watcher, &terminal, nullptr, nullptr, nullptr) == 0);
  std::string early;
  std::string late;
  std::string end;
  std::string quiet;
  {
    const RedirectedError redirected(terminal);
    ProgressBar unwanted(false);
    ProgressBar bar(true);
    bar.update("step", 0.25);
    early = read_all(watcher);
    std::this_thread::sleep_for(std::chrono::milliseconds(2050));
    unwanted.update("step", 0.5);
    quiet = read_all(watcher);
    bar.update("step", 0.5);
    late = read_all(watcher);
    bar.finish();
    end = read_all(watcher);
  }
  close(terminal);
  close(watcher);
  REQUIRE(early.empty());
  REQUIRE(quiet.empty());
  REQUIRE_THAT(late, Catch::Contains("step [") && Catch::Contains("50 %"));
  REQUIRE(end == "\r\x1b[K");
}

TEST_CASE("without a terminal there is never a bar", "[progress]") {
  int ends[2];
  REQUIRE(pipe(ends) == 0);
  {
    const RedirectedError redirected(ends[1]);
    ProgressBar bar(true);
    std::this_thread::sleep_for(std::chrono::milliseconds(2050));
    bar.update("step", 0.5);
  }
  const std::string seen = read_all(ends[0]);
  close(ends[0]);
  close(ends[1]);
  REQUIRE(seen.empty());
}
