/// A server that does one thing at a time.
#pragma once

#include <algorithm>
#include <cstdint>

#include "base/assert.hpp"
#include "base/units.hpp"

namespace pipecast {

/// First in, first out, capacity 1: the send side of a NIC, for instance. Calls must come in the
/// order in which the requests are to be served; each books the first free interval after the ones
/// booked before it.
class FifoServer {
 public:
  /// Books `service` no earlier than `earliest` (its length may be 0).
  /// @return when the service ends
  Time reserve(Time earliest, Duration service) {
    PIPECAST_ASSERT(service >= Duration{});
    const Time start = std::max(earliest, free_at_);
    waited_ += start - earliest;
    busy_ += service;
    ++served_;
    free_at_ = start + service;
    return free_at_;
  }

  /// End of the last booking: a request at this very time starts at once.
  [[nodiscard]] Time free_at() const { return free_at_; }
  /// Sum of the services booked.
  [[nodiscard]] Duration busy() const { return busy_; }
  /// Sum of the times between `earliest` and the start.
  [[nodiscard]] Duration waited() const { return waited_; }
  [[nodiscard]] std::uint64_t served() const { return served_; }

 private:
  Time free_at_;
  Duration busy_;
  Duration waited_;
  std::uint64_t served_ = 0;
};

}  // namespace pipecast
