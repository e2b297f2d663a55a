#include "app/report/chrome_trace.hpp"

#include <fmt/format.h>
#include <zlib.h>

#include <algorithm>
#include <iterator>
#include <system_error>
#include <tuple>

#include "app/report/output_path.hpp"
#include "base/assert.hpp"
#include "base/error.hpp"

namespace pipecast {

namespace {

/// A gzip file that appears under its name only when it is complete.
class GzipFile {
 public:
  explicit GzipFile(const std::filesystem::path& path)
      : path_(path), aside_(path_while_writing(path)) {
    file_ = gzopen(aside_.c_str(), "wb6");
    if (file_ == nullptr) fail();
  }
  ~GzipFile() {
    if (file_ == nullptr) return;
    gzclose(file_);
    remove_part();
  }
  GzipFile(const GzipFile&) = delete;
  GzipFile& operator=(const GzipFile&) = delete;

  void write(const std::string& text) {
    if (!text.empty() && gzwrite(file_, text.data(), static_cast<unsigned>(text.size())) <= 0)
      fail();
  }

  void finish() {
    const int closed = gzclose(file_);
    file_ = nullptr;
    std::error_code failure;
    if (closed == Z_OK && aside_ != path_) std::filesystem::rename(aside_, path_, failure);
    if (closed != Z_OK || failure) fail();
  }

 private:
  void remove_part() const {
    std::error_code ignored;
    if (aside_ != path_) std::filesystem::remove(aside_, ignored);
  }
  [[noreturn]] void fail() const {
    remove_part();
    throw Error(fmt::format("{}: cannot be written", path_.string()));
  }

  std::filesystem::path path_;
  std::filesystem::path aside_;
  gzFile file_;
};

/// Microseconds to the picosecond.
std::string timestamp(Time t) {
  constexpr std::int64_t kPicosecondsPerMicrosecond = 1'000'000;
  return fmt::format("{}.{:06}", t.count() / kPicosecondsPerMicrosecond,
                     t.count() % kPicosecondsPerMicrosecond);
}

/// The inside of a JSON string.
std::string escaped(std::string_view text) {
  std::string out;
  for (const char c : text) {
    if (c == '"' || c == '\\') {
      out += '\\';
      out += c;
    } else if (static_cast<unsigned char>(c) < 0x20) {
      out += fmt::format("\\u{:04x}", static_cast<unsigned>(c));
    } else {
      out += c;
    }
  }
  return out;
}

void append_metadata(std::string& out, const TraceTrack& t, bool new_process) {
  const auto event = [&](const char* name, const std::string& arguments) {
    fmt::format_to(std::back_inserter(out),
                   "{{\"ph\":\"M\",\"name\":\"{}\",\"pid\":{},\"tid\":{},\"args\":{{{}}}}},\n",
                   name, t.process, t.thread, arguments);
  };
  if (new_process) {
    event("process_name", fmt::format("\"name\":\"{}\"", escaped(t.process_name)));
    event("process_sort_index", fmt::format("\"sort_index\":{}", t.process));
  }
  event("thread_name", fmt::format("\"name\":\"{}\"", escaped(t.thread_name)));
  event("thread_sort_index", fmt::format("\"sort_index\":{}", t.thread));
}

}  // namespace

void write_chrome_trace(const std::filesystem::path& path, const std::vector<TraceTrack>& tracks,
                        std::vector<TraceSlice> slices, const std::vector<TraceCounter>& counters) {
  const auto track_of = [](const TraceSlice& s) { return std::tuple(s.process, s.thread); };
  // By end too, so that a slice of no length comes before the one that starts with it.
  const auto key = [&](const TraceSlice& s) { return std::tuple(track_of(s), s.start, s.end); };
  std::stable_sort(slices.begin(), slices.end(),
                   [&](const TraceSlice& a, const TraceSlice& b) { return key(a) < key(b); });

  GzipFile file(path);
  std::string chunk = "{\"displayTimeUnit\":\"ms\",\"traceEvents\":[\n";
  for (std::size_t i = 0; i < tracks.size(); ++i) {
    append_metadata(chunk, tracks[i], i == 0 || tracks[i].process != tracks[i - 1].process);
  }
  for (std::size_t i = 0; i < slices.size(); ++i) {
    const TraceSlice& s = slices[i];
    PIPECAST_ASSERT(s.start <= s.end);
    PIPECAST_ASSERT(i == 0 || track_of(slices[i - 1]) != track_of(s) ||
                    slices[i - 1].end <= s.start);
    fmt::format_to(
        std::back_inserter(chunk),
        "{{\"ph\":\"B\",\"name\":\"{}\",\"cat\":\"{}\",\"pid\":{},\"tid\":{},\"ts\":{}}},\n"
        "{{\"ph\":\"E\",\"pid\":{},\"tid\":{},\"ts\":{}}},\n",
        escaped(s.name), escaped(s.category), s.process, s.thread, timestamp(s.start), s.process,
        s.thread, timestamp(s.end));
    constexpr std::size_t kFlush = 1 << 20;
    if (chunk.size() < kFlush) continue;
    file.write(chunk);
    chunk.clear();
  }
  for (const TraceCounter& c : counters) {
    fmt::format_to(std::back_inserter(chunk),
                   "{{\"ph\":\"C\",\"name\":\"{}\",\"pid\":{},\"ts\":{},\"args\":{{\"value\":"
                   "{:.6g}}}}},\n",
                   escaped(c.name), c.process, timestamp(c.when), c.value);
  }
  // A last metadata event spares the list a trailing comma.
  chunk +=
      "{\"ph\":\"M\",\"name\":\"trace_name\",\"pid\":0,\"tid\":0,\"args\":{\"name\":\"pipecast\"}}"
      "\n]}\n";
  file.write(chunk);
  file.finish();
}

}  // namespace pipecast
