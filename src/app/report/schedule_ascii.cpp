#include "app/report/schedule_ascii.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <cmath>
#include <numeric>

#include "app/report/chunk_timeline.hpp"
#include "app/report/table.hpp"
#include "base/assert.hpp"

namespace pipecast {

namespace {

/// How letters show a pass. Colours count as those of painted(): as in schedule_svg.cpp, as far as
/// the palette has them.
struct PassLetters {
  char letter;
  char fill;
  std::size_t even_colour;
  std::size_t odd_colour;
  std::string_view name;
};

constexpr std::array<PassLetters, kPassKinds> kPasses = {{
    {'F', '-', 4, 0, "forward"},              // sky blue, blue
    {'B', '=', 1, 5, "backward"},             // orange, vermilion
    {'I', '~', 6, 6, "backward input (Bi)"},  // purple
    {'W', '+', 2, 2, "backward weight"},      // green
}};
constexpr char kPairLetter = '&';
constexpr char kPairFill = '#';
constexpr std::size_t kPairColour = 3;  // yellow
constexpr char kIdle = '.';

char letter_of(const ChunkPass& pass) {
  const char letter = kPasses[index_of(pass.pass)].letter;
  const bool odd = pass.lane % 2 != 0;
  return odd ? static_cast<char>(std::tolower(static_cast<unsigned char>(letter))) : letter;
}

/// "F3"; with more than two lanes, which the case cannot tell apart, "F2.3".
std::string numbered(const ChunkPass& pass, std::size_t lanes) {
  return lanes > 2 ? fmt::format("{}{}.{}", letter_of(pass), pass.lane, pass.microbatch)
                   : fmt::format("{}{}", letter_of(pass), pass.microbatch);
}

/// As many letters as the stretch has cells.
std::string letters_of(const Stretch& stretch, std::size_t lanes) {
  const std::size_t width = stretch.last - stretch.first;
  const Step& step = *stretch.step;
  const char letter = step.overlapped ? kPairLetter : letter_of(step.first);
  if (!stretch.alone) return std::string(width, letter);
  std::vector<std::string> labels;  // the most telling first
  if (step.overlapped) {
    labels = {numbered(step.first, lanes) + "&" + numbered(step.second, lanes),
              fmt::format("{}&{}", letter_of(step.first), letter_of(step.second))};
  } else {
    labels = {numbered(step.first, lanes)};
  }
  const char fill = step.overlapped ? kPairFill : kPasses[index_of(step.first.pass)].fill;
  for (std::string& label : labels) {
    if (label.size() > width) continue;
    label.resize(width, fill);
    return label;
  }
  std::string out(width, fill);
  out.front() = letter;
  return out;
}

std::size_t colour_of(const Step& step) {
  if (step.overlapped) return kPairColour;
  const PassLetters& pass = kPasses[index_of(step.first.pass)];
  return step.first.lane % 2 == 0 ? pass.even_colour : pass.odd_colour;
}

/// Lines of words, none longer than `width`. What a terminal would take for a command becomes a
/// question mark.
std::string wrapped(const std::string& text, std::size_t width) {
  std::string out;
  std::size_t length = 0;  // of the last line
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end = std::min(text.find(' ', at), text.size());
    const std::string word = text.substr(at, end - at);
    at = end + 1;
    const std::size_t letters = display_width(word);
    if (length > 0 && length + 1 + letters > width) {
      out += '\n';
      length = 0;
    } else if (length > 0) {
      out += ' ';
      ++length;
    }
    for (const char c : word) {
      const auto byte = static_cast<unsigned char>(c);
      const bool starts = display_width({&c, 1}) > 0;
      if (starts && length == width) {
        out += '\n';
        length = 0;
      }
      length += starts ? 1 : 0;
      out += byte < 0x20 || byte == 0x7f ? '?' : c;
    }
  }
  return out.empty() ? out : out + '\n';
}

class Letters {
 public:
  Letters(const SchedulePicture& picture, const TextStyle& style)
      : picture_(picture), style_(style), looks_(looks_of(picture)), end_(end_of(picture)) {
    constexpr std::size_t kLeast = 40;
    PIPECAST_ASSERT(style.width >= kLeast);
    std::size_t most_ranks = 0;
    for (const SchedulePanel& panel : picture.panels) {
      most_ranks = std::max(most_ranks, panel.schedule.ranks.size());
    }
    digits_ = std::to_string(most_ranks - 1).size();
    head_ = std::max(rank_label(0).size(), picture.unit.name.size() + 1);
    cells_ = even_cells(style.width - head_);
  }

  std::string draw() {
    out_ += wrapped(picture_.title, style_.width) + wrapped(picture_.subtitle, style_.width);
    for (const SchedulePanel& panel : picture_.panels) draw_panel(panel);
    axis();
    legend();
    return std::move(out_);
  }

 private:
  [[nodiscard]] std::string rank_label(std::size_t rank) const {
    return fmt::format("rank {:>{}} ", rank, digits_);
  }

  /// Of the room, what makes equal passes equally long, if that is most of it: a whole number of
  /// letters, at least two, for the longest time that all starts and ends are multiples of.
  [[nodiscard]] std::size_t even_cells(std::size_t room) const {
    std::int64_t step = end_.count();
    for (const SchedulePanel& panel : picture_.panels) {
      for (const auto& times : panel.timing.steps) {
        for (const StepTime& time : times) {
          step = std::gcd(step, std::gcd(time.start.count(), time.end.count()));
        }
      }
    }
    const auto multiples = static_cast<std::size_t>(end_.count() / step);
    return room / multiples >= 2 ? room / multiples * multiples : room;
  }

  void draw_panel(const SchedulePanel& panel) {
    if (!out_.empty() && picture_.panels.size() > 1) out_ += '\n';
    out_ += wrapped(panel.title, style_.width);
    const auto lanes = static_cast<std::size_t>(panel.schedule.lanes());
    const auto in_cells = static_cast<double>(panel.timing.makespan.count()) *
                          static_cast<double>(cells_) / static_cast<double>(end_.count());
    const auto busy_cells = static_cast<std::size_t>(std::llround(in_cells));
    for (std::size_t rank = 0; rank < panel.schedule.ranks.size(); ++rank) {
      std::string label = rank_label(rank);
      label.resize(head_, ' ');
      out_ += label;
      std::size_t done = 0;
      for (const Stretch& stretch :
           stretches_of(panel.schedule.ranks[rank], panel.timing.steps[rank], end_, cells_)) {
        out_.append(stretch.first - done, kIdle);
        out_ += filled(letters_of(stretch, lanes), colour_of(*stretch.step), style_.colours);
        several_ = several_ || !stretch.alone;
        done = stretch.last;
      }
      if (done < busy_cells) out_.append(busy_cells - done, kIdle);
      out_.append(style_.width - head_ - std::max(done, busy_cells), ' ');
      out_ += '\n';
    }
  }

  void axis() {
    const double end = static_cast<double>(end_.count()) * picture_.unit.per_picosecond;
    constexpr double kLettersPerTick = 12;
    const auto cells = static_cast<double>(cells_);
    const double step = tick_step(end, std::max(1.0, cells / kLettersPerTick));
    std::string line = picture_.unit.name;
    for (int tick = 0; tick * step <= end; ++tick) {
      const auto at = head_ + static_cast<std::size_t>(std::llround(tick * step / end * cells));
      const std::string text = "|" + time_text(tick * step);
      if (at + text.size() > style_.width || (tick > 0 && at <= line.size())) break;
      line.resize(std::max(line.size(), at), ' ');
      line += text;
    }
    out_ += line + '\n';
  }

  void legend() {
    const std::string margin(head_, ' ');
    std::string line;
    std::size_t length = 0;
    const auto add = [&](const std::string& letters, std::size_t colour, bool plain,
                         const std::string& name) {
      const std::size_t entry = letters.size() + 1 + name.size();
      if (length > 0 && head_ + length + 2 + entry > style_.width) {
        out_ += line + '\n';
        length = 0;
      }
      line = length == 0 ? margin : line + "  ";
      length += (length == 0 ? 0 : 2) + entry;
      line += (plain ? letters : filled(letters, colour, style_.colours)) + " " + name;
    };
    for (std::size_t kind = 0; kind < kPassKinds; ++kind) {
      const PassLetters& pass = kPasses[kind];
      const bool used = std::any_of(looks_.lanes[kind].begin(), looks_.lanes[kind].end(),
                                    [](bool lane) { return lane; });
      if (used) add(std::string(1, pass.letter), pass.even_colour, false, std::string(pass.name));
    }
    if (looks_.pairs) add(std::string(1, kPairLetter), kPairColour, false, "overlapped pair");
    add(std::string(1, kIdle), 0, true, "idle");
    out_ += line + '\n';
    notes();
  }

  void notes() {
    std::string text;
    if (looks_.most_lanes == 2) {
      text += fmt::format("Upper case: {0} 0; lower case: {0} 1. ", looks_.lane_name);
    } else if (looks_.most_lanes > 2) {
      text += fmt::format("F1.3: {0} 1, micro-batch 3. Lower case: odd {0}s. ", looks_.lane_name);
    }
    if (several_) {
      text += fmt::format(
          "A letter is {} {}: where it holds several steps it shows what takes most "
          "of that time.",
          time_text(static_cast<double>(end_.count()) * picture_.unit.per_picosecond /
                    static_cast<double>(cells_)),
          picture_.unit.name);
    }
    out_ += wrapped(text, style_.width);
  }

  const SchedulePicture& picture_;
  const TextStyle& style_;
  LooksUsed looks_;
  Time end_;
  std::size_t digits_ = 1;
  std::size_t head_ = 0;   // letters before a row's cells
  std::size_t cells_ = 0;  // letters of the time axis
  bool several_ = false;   // whether a letter stands for several steps
  std::string out_;
};

}  // namespace

std::string schedule_ascii(const SchedulePicture& picture, const TextStyle& style) {
  return Letters(picture, style).draw();
}

}  // namespace pipecast
