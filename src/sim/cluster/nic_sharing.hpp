/// Pipeline messages and all-to-alls on the same NICs, as coflows: an all-to-all uses the same part
/// of every port of its group, and a message gets what that leaves it, or its fair share.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "base/units.hpp"

namespace pipecast {

/// Ports of one column. Every GPU sends one message at a time.
class NicSharing {
 public:
  /// @param message_share  of a port that a message gets beside an all-to-all at least
  NicSharing(std::size_t gpus, std::size_t group_size, double message_share)
      : group_size_(group_size),
        message_share_(message_share),
        messages_(gpus),
        incoming_(gpus),
        use_(gpus / group_size),
        touching_(use_.size()) {}

  struct Message {
    std::uint32_t to = 0;
    std::uint32_t version = 0;  ///< of its present rate; grows with every change
    bool under_way = false;
    double left = 0;  ///< picoseconds that a NIC for itself would take
    double rate = 0;  ///< of a NIC's bandwidth
    Time since;       ///< when `left` was true
  };

  [[nodiscard]] const Message& message(std::uint32_t from) const { return messages_[from]; }

  /// @param reschedule  called as reschedule(from, when) for every message whose end moves
  template <class Reschedule>
  void start(std::uint32_t from, std::uint32_t to, Duration alone, Time now,
             Reschedule&& reschedule) {
    Message& message = messages_[from];
    message.to = to;
    message.under_way = true;
    message.left = static_cast<double>(alone.count());
    message.rate = 0;
    message.since = now;
    incoming_[to].push_back(from);
    ++touching_[from / group_size_];
    ++touching_[to / group_size_];
    for (const std::uint32_t other : incoming_[to]) set_rate(other, now, reschedule);
  }

  template <class Reschedule>
  void finish(std::uint32_t from, Time now, Reschedule&& reschedule) {
    Message& message = messages_[from];
    message.under_way = false;
    ++message.version;
    std::vector<std::uint32_t>& there = incoming_[message.to];
    for (std::size_t i = 0; i < there.size(); ++i) {
      if (there[i] != from) continue;
      there[i] = there.back();
      there.pop_back();
      break;
    }
    --touching_[from / group_size_];
    --touching_[message.to / group_size_];
    for (const std::uint32_t other : there) set_rate(other, now, reschedule);
  }

  /// @param use  part of its group's ports that an all-to-all uses from now on; 0: there is none
  template <class Reschedule>
  void set_use(std::uint32_t group, double use, Time now, Reschedule&& reschedule) {
    use_[group] = use;
    if (touching_[group] == 0) return;
    const auto first = static_cast<std::uint32_t>(group * group_size_);
    for (std::uint32_t gpu = first; gpu < first + group_size_; ++gpu) {
      if (messages_[gpu].under_way) set_rate(gpu, now, reschedule);
      for (const std::uint32_t from : incoming_[gpu]) set_rate(from, now, reschedule);
    }
  }

  /// Part of its own pace that the messages on its ports leave an all-to-all.
  /// @param use  of the ports at its own pace
  [[nodiscard]] double exchange_rate(std::uint32_t group, double use) const {
    if (touching_[group] == 0 || use <= 1 - message_share_) return 1;
    return (1 - message_share_) / use;
  }

 private:
  [[nodiscard]] double left_by(std::uint32_t group) const {
    return std::max(message_share_, 1 - use_[group]);
  }

  template <class Reschedule>
  void set_rate(std::uint32_t from, Time now, Reschedule&& reschedule) {
    Message& message = messages_[from];
    const double rate = std::min(left_by(static_cast<std::uint32_t>(from / group_size_)),
                                 left_by(static_cast<std::uint32_t>(message.to / group_size_)) /
                                     static_cast<double>(incoming_[message.to].size()));
    if (rate == message.rate) return;
    const auto passed = static_cast<double>((now - message.since).count());
    message.left = std::max(0.0, message.left - passed * message.rate);
    message.since = now;
    message.rate = rate;
    ++message.version;
    reschedule(from, now + duration_from_picoseconds(message.left / rate));
  }

  std::size_t group_size_;
  double message_share_;
  std::vector<Message> messages_;                     // by sender
  std::vector<std::vector<std::uint32_t>> incoming_;  // senders, by receiver
  std::vector<double> use_;                           // by group
  std::vector<int> touching_;                         // messages from or to GPUs of a group
};

}  // namespace pipecast
