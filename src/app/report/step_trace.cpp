#include "app/report/step_trace.hpp"

#include <fmt/format.h>

#include <array>

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

}  // namespace

void write_step_trace(const std::filesystem::path& path, int pipeline_ranks,
                      const StepTrace& trace) {
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
  write_chrome_trace(path, tracks, std::move(slices));
}

}  // namespace pipecast
