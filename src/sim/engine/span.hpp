/// Trace hooks: who wants to see what ran when passes a sink; who does not passes NoSpans and pays
/// nothing, not even a test.
#pragma once

#include <concepts>
#include <cstdint>
#include <vector>

#include "base/units.hpp"

namespace pipecast {

/// Something ran on a track from `start` to `end`. What the two numbers name is up to the sender.
struct Span {
  std::uint32_t track = 0;
  std::uint32_t name = 0;
  Time start;
  Time end;
  bool operator==(const Span&) const = default;
};

/// A simulation takes its sink as a template parameter and writes
///   if constexpr (Sink::kEnabled) sink.record({track, name, start, end});
template <class Sink>
concept SpanSink = requires(Sink sink, Span span) {
  { Sink::kEnabled } -> std::convertible_to<bool>;
  sink.record(span);
};

/// Records nothing.
struct NoSpans {
  static constexpr bool kEnabled = false;
  void record(const Span&) {}
};

/// Keeps every span in the order of recording.
struct SpanList {
  static constexpr bool kEnabled = true;
  void record(const Span& span) { spans.push_back(span); }
  std::vector<Span> spans;
};

static_assert(SpanSink<NoSpans> && SpanSink<SpanList>);

}  // namespace pipecast
