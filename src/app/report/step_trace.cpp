#include "app/report/step_trace.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <optional>

#include "app/report/chrome_trace.hpp"
#include "model/operations/operation.hpp"

namespace pipecast {

namespace {

constexpr int kPassThread = 0;
constexpr std::array<std::string_view, 4> kThreads = {
    "schedule", name_of(Stream::kCompute), name_of(Stream::kSide), name_of(Stream::kCommunication)};

int thread_of(Stream stream) { return 1 + static_cast<int>(stream); }

/// "moe attn(F)"; what has MLP phases only is named without them: "head (B)"; "moe all_gather".
std::string slice_name(const StreamSpan& span) {
  if (span.move != ShardMove::kNone) {
    return fmt::format("{} {}", name_of(span.layer), name_of(span.move));
  }
  const std::string_view phase = name_of(span.phase);
  const bool simple = span.layer == LayerKind::kEmbedding || span.layer == LayerKind::kHead;
  return fmt::format("{} {}", name_of(span.layer), simple ? phase.substr(phase.find('(')) : phase);
}

std::string_view category_of(const StreamSpan& span) {
  if (span.stream != Stream::kCommunication) return "compute";
  return span.collective || span.move != ShardMove::kNone ? "transfer" : "local";
}

/// Counters of one rank. A value that did not change is not repeated.
class MemoryCounters {
 public:
  MemoryCounters(int rank, std::vector<TraceCounter>& out) : rank_(rank), out_(out) {}

  /// @param ends  of the rank's passes, in order
  void add(const StepMemory& memory, const std::vector<Time>& ends) {
    std::size_t pass = 0;
    memory.play(rank_, [&](Time when, const MemoryTotals& totals) {
      if (pass < ends.size() && when > ends[pass]) flush();
      while (pass < ends.size() && when > ends[pass]) ++pass;
      last_ = {when, totals};
      if (!most_ || totals.total() > most_->totals.total()) most_ = last_;
    });
    flush();
  }

 private:
  struct Moment {
    Time when;
    MemoryTotals totals;
  };

  void flush() {
    if (!most_) return;
    tell(*most_);
    tell(last_);
    most_.reset();
  }

  void tell(const Moment& moment) {
    for (std::size_t c = 0; c < kMemoryCategories; ++c) {
      const auto category = static_cast<MemoryCategory>(c);
      tell(c, name_of(category), moment.when, moment.totals.of(category));
    }
    tell(kMemoryCategories, "total", moment.when, moment.totals.total());
  }

  void tell(std::size_t counter, std::string_view name, Time when, Bytes bytes) {
    if (told_[counter] == bytes) return;
    told_[counter] = bytes;
    constexpr double kGiga = 1e9;
    out_.push_back({rank_, fmt::format("memory GB: {}", name), when,
                    static_cast<double>(bytes.count()) / kGiga});
  }

  int rank_;
  std::vector<TraceCounter>& out_;
  Moment last_{};
  std::optional<Moment> most_;
  std::array<std::optional<Bytes>, kMemoryCategories + 1> told_{};
};

std::vector<TraceCounter> memory_counters(const StepTrace& trace, const StepMemory& memory) {
  std::vector<std::vector<Time>> ends(static_cast<std::size_t>(memory.ranks()));
  for (const ChunkSpan& span : trace.chunks) {
    const auto rank = static_cast<std::size_t>(span.pipeline_rank);
    if (rank < ends.size()) ends[rank].push_back(span.end);
  }
  std::vector<TraceCounter> out;
  for (int rank = 0; rank < memory.ranks(); ++rank) {
    std::vector<Time>& of_rank = ends[static_cast<std::size_t>(rank)];
    std::sort(of_rank.begin(), of_rank.end());
    MemoryCounters(rank, out).add(memory, of_rank);
  }
  return out;
}

}  // namespace

void write_step_trace(const std::filesystem::path& path, int pipeline_ranks, const StepTrace& trace,
                      const StepMemory& memory) {
  std::vector<TraceTrack> tracks;
  for (int rank = 0; rank < pipeline_ranks; ++rank) {
    for (std::size_t thread = 0; thread < kThreads.size(); ++thread) {
      tracks.push_back({rank, static_cast<int>(thread), fmt::format("pipeline rank {}", rank),
                        std::string(kThreads[thread])});
    }
  }
  std::vector<TraceSlice> slices;
  slices.reserve(trace.chunks.size() + trace.streams.size());
  for (const ChunkSpan& span : trace.chunks) {
    slices.push_back(
        {span.pipeline_rank, kPassThread, span.name, "schedule", span.start, span.end});
  }
  for (const StreamSpan& span : trace.streams) {
    slices.push_back({span.pipeline_rank, thread_of(span.stream), slice_name(span),
                      std::string(category_of(span)), span.start, span.end});
  }
  write_chrome_trace(path, tracks, std::move(slices), memory_counters(trace, memory));
}

}  // namespace pipecast
