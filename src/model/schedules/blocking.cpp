#include <fmt/format.h>

#include <vector>

#include "model/schedules/checker.hpp"

namespace pipecast {
namespace {

std::size_t index(int value) { return static_cast<std::size_t>(value); }

/// One result on its way from the step that makes it to the step that needs it.
struct Message {
  int from = 0;  // ranks
  int to = 0;
  ChunkPass pass;  // that made it
  bool one_end_there = false;
};

/// The gap before a step, in which a rank sends and receives.
struct Gap {
  std::vector<std::size_t> messages;
  int open = 0;  // messages that wait for their other end
};

/// Every message appears in two gaps. A rank opens its gaps in order and leaves one when none of
/// its messages waits.
class BlockingPlayer {
 public:
  explicit BlockingPlayer(const Schedule& schedule)
      : schedule_(schedule),
        holders_(holders_of_stages(schedule)),
        position_(schedule.ranks.size()) {
    for (const std::vector<Step>& steps : schedule.ranks) gaps_.emplace_back(steps.size() + 1);
    const auto stages = index(schedule.stages());
    int microbatches = 0;
    for (const int n : schedule.microbatches) {
      first_microbatch_.push_back(microbatches);
      microbatches += n;
    }
    microbatches_ = index(microbatches);
    message_of_.assign(2 * stages * microbatches_, kNoMessage);
    for (std::size_t rank = 0; rank < schedule.ranks.size(); ++rank) add_sends(rank);
    for (std::size_t rank = 0; rank < schedule.ranks.size(); ++rank) add_receives(rank);
  }

  std::optional<std::string> play() {
    for (std::size_t rank = 0; rank < gaps_.size(); ++rank) open(rank);
    while (!ready_.empty()) {
      const std::size_t rank = ready_.back();
      ready_.pop_back();
      if (++position_[rank] < gaps_[rank].size()) open(rank);
    }
    for (std::size_t rank = 0; rank < gaps_.size(); ++rank) {
      if (position_[rank] < gaps_[rank].size()) return name_lock(rank);
    }
    return std::nullopt;
  }

 private:
  static constexpr std::size_t kNoMessage = static_cast<std::size_t>(-1);

  [[nodiscard]] int stage_of(std::size_t rank, const ChunkPass& pass) const {
    return schedule_.stage_of[index(pass.lane)][rank];
  }
  [[nodiscard]] std::size_t& message_into(bool forward, int stage, const ChunkPass& pass) {
    const int microbatch = first_microbatch_[index(schedule_.path_of(pass.lane))] + pass.microbatch;
    return message_of_[(index(stage) * 2 + (forward ? 0 : 1)) * microbatches_ + index(microbatch)];
  }

  template <class Visit>
  static void each_pass(const Step& step, Visit&& visit) {
    if (step.first.pass != Pass::kBackwardWeight) visit(step.first);
    if (step.overlapped) visit(step.second);
  }

  void add_sends(std::size_t rank) {
    const std::vector<Step>& steps = schedule_.ranks[rank];
    for (std::size_t i = 0; i < steps.size(); ++i) {
      each_pass(steps[i], [&](const ChunkPass& pass) {
        const bool forward = pass.pass == Pass::kForward;
        const int to = stage_of(rank, pass) + (forward ? 1 : -1);
        if (to < 0 || to == schedule_.stages()) return;
        const int receiver = holders_[index(schedule_.path_of(pass.lane))][index(to)].rank;
        if (index(receiver) == rank) return;
        message_into(forward, to, pass) = messages_.size();
        gaps_[rank][i + 1].messages.push_back(messages_.size());
        messages_.push_back({static_cast<int>(rank), receiver, pass});
      });
    }
  }

  void add_receives(std::size_t rank) {
    const std::vector<Step>& steps = schedule_.ranks[rank];
    for (std::size_t i = 0; i < steps.size(); ++i) {
      each_pass(steps[i], [&](const ChunkPass& pass) {
        const std::size_t message =
            message_into(pass.pass == Pass::kForward, stage_of(rank, pass), pass);
        if (message != kNoMessage) gaps_[rank][i].messages.push_back(message);
      });
    }
  }

  void open(std::size_t rank) {
    Gap& gap = gaps_[rank][position_[rank]];
    for (const std::size_t id : gap.messages) {
      Message& message = messages_[id];
      if (!message.one_end_there) {
        message.one_end_there = true;
        ++gap.open;
        continue;
      }
      const std::size_t other =
          index(message.from) == rank ? index(message.to) : index(message.from);
      if (--gaps_[other][position_[other]].open == 0) ready_.push_back(other);
    }
    if (gap.open == 0) ready_.push_back(rank);
  }

  /// A rank that waits, and what for.
  [[nodiscard]] std::string name_lock(std::size_t rank) const {
    for (const std::size_t id : gaps_[rank][position_[rank]].messages) {
      const Message& message = messages_[id];
      const bool sends = index(message.from) == rank;
      const std::size_t other = index(sends ? message.to : message.from);
      const std::vector<std::size_t>& there = gaps_[other][position_[other]].messages;
      bool both = false;
      for (const std::size_t theirs : there) both = both || theirs == id;
      if (both) continue;
      const std::string result = to_text(Step{message.pass});
      return sends ? fmt::format(
                         "rank {} waits to send the result of {} to rank {}, which does not "
                         "come to receive it",
                         rank, result, other)
                   : fmt::format(
                         "rank {} waits to receive the result of {} from rank {}, which "
                         "does not come to send it",
                         rank, result, other);
    }
    return fmt::format("rank {} waits forever", rank);
  }

  const Schedule& schedule_;
  std::vector<std::vector<StageHolder>> holders_;  // [path][stage]
  std::vector<int> first_microbatch_;              // [path]
  std::size_t microbatches_ = 0;                   // of all paths
  std::vector<Message> messages_;
  std::vector<std::size_t> message_of_;  // [receiving stage][forward, backward][micro-batch]
  std::vector<std::vector<Gap>> gaps_;   // [rank][before step, and one at the end]
  std::vector<std::size_t> position_;    // [rank]: the gap it is in
  std::vector<std::size_t> ready_;       // ranks that can leave their gap
};

}  // namespace

std::optional<std::string> find_blocking_deadlock(const Schedule& schedule) {
  return BlockingPlayer(schedule).play();
}

}  // namespace pipecast
