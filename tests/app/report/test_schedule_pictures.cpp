#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <regex>
#include <sstream>
#include <string>

#include "app/report/schedule_ascii.hpp"
#include "app/report/schedule_svg.hpp"
#include "app/report/table.hpp"
#include "model/schedules/text.hpp"

using namespace pipecast;
using Catch::Contains;

namespace {

const PassDurations kDurations = {.forward = Duration(10),
                                  .backward = Duration(20),
                                  .backward_input = Duration(12),
                                  .backward_weight = Duration(8),
                                  .overlapped = Duration(26)};

struct Timed {
  explicit Timed(Schedule given)
      : schedule(std::move(given)), timing(time_schedule(schedule, {.passes = {kDurations}})) {}
  Schedule schedule;
  ScheduleTiming timing;
};

Timed made(const std::string& kind, int ranks, int microbatches) {
  return Timed(Registry<ScheduleKind>::instance().find(kind).make(
      {.ranks = ranks, .microbatches = microbatches}));
}

Timed parsed(const std::string& text) { return Timed(parse_schedule(text, "test")); }

/// F and Bi take 10 and 12 ticks, W 8: 30 ticks without a bubble.
const std::string kSplit = "rank 0: F0.0 Bi0.0 W0.0\n";
const std::string kFourChunks =
    "rank 0: F0.0 F0.1 F1.0 F1.1 F2.0 F2.1 F3.0 F3.1 B3.0 B3.1 B2.0 B2.1 B1.0 B1.1 B0.0 B0.1\n"
    "rank 1: F0.0 F0.1 F1.0 F1.1 F2.0 F2.1 F3.0 B3.0 F3.1 B3.1 B2.0 B2.1 B1.0 B1.1 B0.0 B0.1\n";

std::vector<Timed> several() {
  return {made("1f1b", 4, 8), made("dualpipe", 8, 20), made("1f1b", 11, 700), parsed(kSplit),
          parsed(kFourChunks)};
}

SchedulePicture picture_of(const std::vector<const Timed*>& all) {
  SchedulePicture out{.title = "a <title> & more"};
  for (const Timed* timed : all) out.panels.push_back({"panel", timed->schedule, timed->timing});
  return out;
}

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> out;
  std::istringstream in(text);
  for (std::string line; std::getline(in, line);) out.push_back(line);
  return out;
}

std::vector<std::string> rank_lines(const std::string& text) {
  std::vector<std::string> out;
  for (const std::string& line : lines_of(text)) {
    if (line.rfind("rank ", 0) == 0) out.push_back(line);
  }
  return out;
}

std::size_t count(const std::string& text, const std::string& part) {
  std::size_t out = 0;
  for (auto at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) ++out;
  return out;
}

/// What groups of a class hold, one after the other.
std::string groups(const std::string& svg, const std::string& name) {
  std::string out;
  const std::string head = "<g class=\"" + name + "\"";
  for (auto at = svg.find(head); at != std::string::npos; at = svg.find(head, at + 1)) {
    out += svg.substr(at, svg.find("</g>", at) - at);
  }
  return out;
}

struct Rectangle {
  double x, y, width, height;
};

std::vector<Rectangle> rectangles(const std::string& markup) {
  static const std::regex kRect(
      "<rect x=\"([^\"]*)\" y=\"([^\"]*)\" width=\"([^\"]*)\" height=\"([^\"]*)\"");
  std::vector<Rectangle> out;
  for (auto it = std::sregex_iterator(markup.begin(), markup.end(), kRect);
       it != std::sregex_iterator(); ++it) {
    out.push_back(
        {std::stod((*it)[1]), std::stod((*it)[2]), std::stod((*it)[3]), std::stod((*it)[4])});
  }
  return out;
}

/// Every tag is closed in its turn, and no bare sign is left between tags.
bool well_formed(const std::string& xml) {
  std::vector<std::string> open;
  for (std::size_t at = 0; at < xml.size();) {
    if (xml[at] == '&') {
      const std::string entity = xml.substr(at, xml.find(';', at) - at);
      if (entity != "&amp" && entity != "&lt" && entity != "&gt" && entity != "&quot") return false;
    }
    if (xml[at] != '<') {
      ++at;
      continue;
    }
    const std::size_t end = xml.find('>', at);
    if (end == std::string::npos) return false;
    const std::string tag = xml.substr(at + 1, end - at - 1);
    if (tag.find('<') != std::string::npos || count(tag, "\"") % 2 != 0) return false;
    if (tag.front() == '/') {
      if (open.empty() || open.back() != tag.substr(1)) return false;
      open.pop_back();
    } else if (tag.back() != '/') {
      open.push_back(tag.substr(0, tag.find(' ')));
    }
    at = end + 1;
  }
  return open.empty();
}

}  // namespace

TEST_CASE("rows of letters are as wide as the terminal and no line is wider",
          "[schedule][ascii][property]") {
  const auto width = static_cast<std::size_t>(GENERATE(range(40, 201)));
  const std::vector<Timed> all = several();
  std::size_t ranks = 0;
  std::vector<const Timed*> pointers;
  for (const Timed& timed : all) {
    pointers.push_back(&timed);
    ranks += timed.schedule.ranks.size();
  }
  CAPTURE(width);
  const std::string text = schedule_ascii(picture_of(pointers), {.width = width, .colours = false});
  REQUIRE(rank_lines(text).size() == ranks);
  for (const std::string& line : rank_lines(text)) REQUIRE(display_width(line) == width);
  for (const std::string& line : lines_of(text)) REQUIRE(display_width(line) <= width);
  REQUIRE(count(text, "\x1b") == 0);
}

TEST_CASE("colours of a schedule change nothing but colours", "[schedule][ascii]") {
  const Timed timed = made("dualpipe", 4, 8);
  const SchedulePicture picture = picture_of({&timed});
  std::string coloured = schedule_ascii(picture, {.width = 90, .colours = true});
  REQUIRE_THAT(coloured, Contains("\x1b["));
  for (auto at = coloured.find('\x1b'); at != std::string::npos; at = coloured.find('\x1b')) {
    coloured.erase(at, coloured.find('m', at) - at + 1);
  }
  REQUIRE(coloured == schedule_ascii(picture, {.width = 90, .colours = false}));
}

TEST_CASE("letters stand where their steps run", "[schedule][ascii]") {
  // 30 ticks on "rank 0 " and 60 letters: two a tick.
  const Timed split = parsed(kSplit);
  REQUIRE(rank_lines(schedule_ascii(picture_of({&split}), {.width = 67, .colours = false})) ==
          std::vector<std::string>{"rank 0 F0" + std::string(18, '-') + "I0" +
                                   std::string(22, '~') + "W0" + std::string(14, '+')});
  // 60 ticks on two ranks; rank 1 waits for 10 before and 20 after its work. Two letters a tick.
  const Timed two = parsed("rank 0: F0.0 B0.0\nrank 1: F0.0 B0.0\n");
  REQUIRE(rank_lines(schedule_ascii(picture_of({&two}), {.width = 67, .colours = false})) ==
          std::vector<std::string>{
              "rank 0 F0--------" + std::string(30, '.') + "B0" + std::string(18, '='),
              "rank 1 " + std::string(10, '.') + "F0--------B0" + std::string(18, '=') +
                  std::string(20, '.')});
}

TEST_CASE("every pass is a box at its time, once", "[schedule][svg][property]") {
  for (const Timed& timed : several()) {
    const auto& ranks = timed.schedule.ranks;
    std::size_t passes = 0;
    std::size_t pairs = 0;
    for (const auto& steps : ranks) {
      for (const Step& step : steps) {
        passes += step.overlapped ? 2 : 1;
        pairs += step.overlapped ? 1 : 0;
      }
    }
    constexpr std::size_t kBoxesOfTheirOwn = 8'000;
    if (passes > kBoxesOfTheirOwn) continue;
    const std::string svg = schedule_svg(picture_of({&timed}));
    const std::vector<Rectangle> boxes = rectangles(groups(svg, "passes"));
    REQUIRE(boxes.size() == passes);
    REQUIRE(rectangles(groups(svg, "pairs")).size() == pairs);
    const double left = boxes.front().x;  // rank 0 starts at once
    double right = 0;
    for (const Rectangle& box : boxes) right = std::max(right, box.x + box.width);
    const double scale = (right - left) / static_cast<double>(timed.timing.makespan.count());
    std::size_t next = 0;
    constexpr double kRounding = 0.011;  // of a coordinate to a hundredth of a pixel
    for (std::size_t rank = 0; rank < ranks.size(); ++rank) {
      double free = 0;  // where the row's last step ended
      for (std::size_t i = 0; i < ranks[rank].size(); ++i) {
        const StepTime& time = timed.timing.steps[rank][i];
        for (int half = 0; half < (ranks[rank][i].overlapped ? 2 : 1); ++half) {
          const Rectangle& box = boxes.at(next++);
          REQUIRE(std::abs(box.x - left - scale * static_cast<double>(time.start.count())) <
                  kRounding);
          REQUIRE(
              std::abs(box.width - scale * static_cast<double>((time.end - time.start).count())) <
              2 * kRounding);
          REQUIRE(box.x >= free - 1e-6);
          if (half == 1) REQUIRE(box.y == boxes[next - 2].y + boxes[next - 2].height);
        }
        free = boxes[next - 1].x + boxes[next - 1].width;
      }
    }
  }
}

TEST_CASE("a number is narrower and lower than its box", "[schedule][svg][property]") {
  const std::regex number("<text x=\"([^\"]*)\" y=\"([^\"]*)\"[^>]*>([0-9]+)</text>");
  const std::regex size("font-size=\"([0-9]+)\"");
  for (const auto& [ranks, microbatches] :
       std::vector<std::pair<int, int>>{{4, 8}, {8, 40}, {16, 120}}) {
    CAPTURE(ranks, microbatches);
    const Timed timed = made("dualpipe", ranks, microbatches);
    const std::string svg = schedule_svg(picture_of({&timed}));
    const std::vector<Rectangle> boxes = rectangles(groups(svg, "passes"));
    const std::string numbers = groups(svg, "numbers");
    std::smatch found;
    REQUIRE(std::regex_search(numbers, found, size));
    const double em = std::stod(found[1]);
    std::size_t shown = 0;
    for (auto it = std::sregex_iterator(numbers.begin(), numbers.end(), number);
         it != std::sregex_iterator(); ++it, ++shown) {
      const double x = std::stod((*it)[1]);
      const double y = std::stod((*it)[2]);
      const double half = 0.636 * em * static_cast<double>((*it)[3].length()) / 2;  // DejaVu Sans
      REQUIRE(std::any_of(boxes.begin(), boxes.end(), [&](const Rectangle& box) {
        return x - half > box.x && x + half < box.x + box.width && y < box.y + box.height &&
               y - 0.729 * em > box.y;
      }));
    }
    if (ranks == 4) REQUIRE(shown == boxes.size());
  }
}

TEST_CASE("pictures of schedules are well-formed and explain what appears alone",
          "[schedule][svg]") {
  const Timed line = made("1f1b", 4, 8);
  const Timed both = made("dualpipe", 4, 8);
  const std::string one = schedule_svg(picture_of({&line}));
  const std::string two = schedule_svg(picture_of({&line, &both}));
  REQUIRE(well_formed(one));
  REQUIRE(well_formed(two));
  REQUIRE(two == schedule_svg(picture_of({&line, &both})));
  REQUIRE_THAT(one, Contains(">a &lt;title&gt; &amp; more<") && Contains(">forward<") &&
                        Contains("<title>F0.3, 30 to 40 ticks</title>") &&
                        !Contains("for weights") && !Contains("overlapped") && !Contains("Bi"));
  REQUIRE_THAT(two, Contains(">backward for weights<") && Contains(">overlapped pair<"));
  REQUIRE(count(two, "http") == 1);  // the name space
}

TEST_CASE("a cell shows the step in its middle, or is busy for half of it",
          "[schedule][property]") {
  const auto cells = static_cast<std::size_t>(GENERATE(7, 33, 100, 1000));
  const Timed timed = made("dualpipe", 8, 20);
  const Time end = timed.timing.makespan;
  const double cell = static_cast<double>(end.count()) / static_cast<double>(cells);
  for (std::size_t rank = 0; rank < timed.schedule.ranks.size(); ++rank) {
    const std::vector<Step>& steps = timed.schedule.ranks[rank];
    const std::vector<StepTime>& times = timed.timing.steps[rank];
    std::vector<const Stretch*> shown(cells);
    const std::vector<Stretch> stretches = stretches_of(steps, times, end, cells);
    std::size_t free = 0;
    for (const Stretch& stretch : stretches) {
      REQUIRE((stretch.first >= free && stretch.last > stretch.first && stretch.last <= cells));
      free = stretch.last;
      std::fill(shown.begin() + static_cast<std::ptrdiff_t>(stretch.first),
                shown.begin() + static_cast<std::ptrdiff_t>(stretch.last), &stretch);
    }
    for (std::size_t c = 0; c < cells; ++c) {
      const double left = static_cast<double>(c) * cell;
      const double middle = left + cell / 2;
      constexpr double kRounding = 1e-6;
      double busy = 0;  // of the cell's time
      for (std::size_t i = 0; i < steps.size(); ++i) {
        const auto from = static_cast<double>(times[i].start.count());
        const auto to = static_cast<double>(times[i].end.count());
        busy += std::max(0.0, std::min(to, left + cell) - std::max(from, left)) / cell;
        const bool inside = from < middle - kRounding && middle + kRounding < to;
        if (!inside || to - from < cell + kRounding) continue;
        REQUIRE((shown[c] != nullptr && shown[c]->alone && shown[c]->step == &steps[i]));
      }
      if (std::abs(busy - 0.5) > kRounding) REQUIRE((shown[c] != nullptr) == (busy > 0.5));
    }
  }
}

TEST_CASE("panels have one time axis", "[schedule][svg]") {
  const Timed shorter = made("1f1b", 4, 8);
  const Timed longer = made("1f1b", 4, 16);
  const SchedulePicture picture = picture_of({&shorter, &longer});
  const std::vector<Rectangle> boxes = rectangles(groups(schedule_svg(picture), "passes"));
  // The first forwards of both.
  const std::size_t second = 4 * 2 * 8;
  REQUIRE(boxes.at(second).x == boxes.at(0).x);
  REQUIRE(boxes.at(second).width == boxes.at(0).width);
}

TEST_CASE("a very large schedule stays a small file without scripts", "[schedule][svg]") {
  constexpr std::size_t kTwoMegabytes = 2'000'000;
  const Timed line = made("1f1b", 64, 2048);
  const Timed both = made("dualpipe", 64, 2048);
  for (const std::string& svg :
       {schedule_svg(picture_of({&line})), schedule_svg(picture_of({&both})),
        schedule_svg(picture_of({&line, &both}))}) {
    REQUIRE(svg.size() < kTwoMegabytes);
    REQUIRE(well_formed(svg));
    REQUIRE_THAT(svg, !Contains("e+") && !Contains("nan"));
  }
}
