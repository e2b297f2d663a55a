#include "model/schedules/text.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <optional>

#include "base/error.hpp"
#include "model/schedules/checker.hpp"
#include "model/schedules/cost_table.hpp"
#include "model/schedules/timing.hpp"

namespace pipecast {
namespace {

/// Reads one line from left to right.
class LineReader {
 public:
  LineReader(std::string_view line, std::string_view source, std::size_t number)
      : line_(line), source_(source), number_(number) {}

  [[nodiscard]] bool at_end() const { return position_ == line_.size(); }

  bool accept(std::string_view word) {
    if (line_.substr(position_, word.size()) != word) return false;
    position_ += word.size();
    return true;
  }
  void expect(std::string_view word, std::string_view what) {
    if (!accept(word)) fail(what);
  }
  void skip_spaces() {
    while (!at_end() && (line_[position_] == ' ' || line_[position_] == '\t')) ++position_;
  }
  int number(std::string_view what) {
    int value = 0;
    const char* first = line_.data() + position_;
    const auto [last, error] = std::from_chars(first, line_.data() + line_.size(), value);
    if (error != std::errc{} || value < 0) fail(what);
    position_ += static_cast<std::size_t>(last - first);
    return value;
  }

  [[noreturn]] void fail(std::string_view expected) const {
    const std::string_view rest = line_.substr(position_);
    const std::string_view word = rest.substr(0, rest.find(' '));
    throw Error(fmt::format("{}:{}:{}: got '{}'; expected {}", source_, number_, position_ + 1,
                            word, expected));
  }

 private:
  std::string_view line_;
  std::string_view source_;
  std::size_t number_;
  std::size_t position_ = 0;
};

constexpr std::string_view kPassForm =
    "a pass: F, B, Bi or W, a direction or local chunk, a dot, and a micro-batch, as in F0.3 or "
    "F0.3&B1.1";

// Memory grows with the greatest lane and micro-batch, so a mistyped one must not ask for all of
// it.
constexpr int kMostLanes = 64;
constexpr int kMostMicrobatches = 100'000;

ChunkPass read_pass(LineReader& in) {
  ChunkPass out;
  if (in.accept("F")) {
    out.pass = Pass::kForward;
  } else if (in.accept("Bi")) {
    out.pass = Pass::kBackwardInput;
  } else if (in.accept("B")) {
    out.pass = Pass::kBackward;
  } else if (in.accept("W")) {
    out.pass = Pass::kBackwardWeight;
  } else {
    in.fail(kPassForm);
  }
  out.lane = in.number(kPassForm);
  if (out.lane >= kMostLanes) in.fail("fewer than 64 directions or chunks");
  in.expect(".", kPassForm);
  out.microbatch = in.number(kPassForm);
  if (out.microbatch >= kMostMicrobatches) in.fail("fewer than 100000 micro-batches");
  return out;
}

std::vector<Step> read_rank(LineReader& in, std::size_t rank) {
  const std::string head = fmt::format("rank {}:", rank);
  in.expect(head, fmt::format("'{}'", head));
  std::vector<Step> steps;
  for (in.skip_spaces(); !in.at_end(); in.skip_spaces()) {
    Step step{read_pass(in)};
    if (in.accept("&")) {
      step.second = read_pass(in);
      step.overlapped = true;
    }
    if (!in.at_end()) in.expect(" ", "a space after a pass");
    steps.push_back(step);
  }
  return steps;
}

/// Micro-batches of every lane, as far as the passes tell.
std::vector<int> count_microbatches(const Schedule& schedule) {
  std::vector<int> out{0};
  const auto see = [&](const ChunkPass& pass) {
    const auto lane = static_cast<std::size_t>(pass.lane);
    if (lane >= out.size()) out.resize(lane + 1);
    out[lane] = std::max(out[lane], pass.microbatch + 1);
  };
  for (const auto& steps : schedule.ranks) {
    for (const Step& step : steps) {
      see(step.first);
      if (step.overlapped) see(step.second);
    }
  }
  return out;
}

/// Where the stages may be.
struct Placed {
  StageMap stage_of;
  std::vector<int> microbatches;  // [path]
};

/// The text does not place stages. Of the placements that kinds with two lanes use, the one with
/// which the schedule ends first when every F, Bi and W takes as long: an order is made for its
/// placement, and waits under another that it happens to obey.
void place_stages(Schedule& schedule) {
  const std::vector<int> of_lanes = count_microbatches(schedule);
  const auto ranks = static_cast<int>(schedule.ranks.size());
  const auto lanes = static_cast<int>(of_lanes.size());
  const int most = *std::max_element(of_lanes.begin(), of_lanes.end());
  if (lanes != 2) {
    schedule.stage_of = stages_looped(ranks, lanes);
    schedule.microbatches = {most};
    return;
  }
  const ScheduleCosts costs{.passes = {kUnitDurations}};
  Placed best{stages_both_ways(ranks), of_lanes};  // also of a schedule that does not run
  std::optional<Time> shortest;
  for (const Placed& placed :
       {Placed{stages_in_v(ranks), {most}}, Placed{stages_looped(ranks, lanes), {most}}, best}) {
    schedule.stage_of = placed.stage_of;
    schedule.microbatches = placed.microbatches;
    if (check_schedule(schedule)) continue;
    const Time makespan = time_schedule(schedule, costs).makespan;
    if (shortest && makespan >= *shortest) continue;
    shortest = makespan;
    best = placed;
  }
  schedule.stage_of = best.stage_of;
  schedule.microbatches = best.microbatches;
}

}  // namespace

std::string to_text(const Schedule& schedule) {
  std::string out;
  for (std::size_t rank = 0; rank < schedule.ranks.size(); ++rank) {
    out += fmt::format("rank {}:", rank);
    for (const Step& step : schedule.ranks[rank]) out += " " + to_text(step);
    out += '\n';
  }
  return out;
}

Schedule parse_schedule(std::string_view text, std::string_view source) {
  Schedule out;
  std::size_t number = 0;
  while (!text.empty()) {
    const std::size_t end = std::min(text.find('\n'), text.size());
    std::string_view line = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    ++number;
    if (!line.empty() && line.back() == '\r') line.remove_suffix(1);
    if (line.empty() || line.front() == '#') continue;
    LineReader in(line, source, number);
    out.ranks.push_back(read_rank(in, out.ranks.size()));
  }
  require(!out.ranks.empty(), "{}:{}:1: no ranks; expected lines such as 'rank 0: F0.0 B0.0'",
          source, number + 1);
  place_stages(out);
  return out;
}

}  // namespace pipecast
