/// Launches, copies and reads from the L2: src/kernels/probes/bandwidth.hpp.
#include <memory>
#include <vector>

#include "base/registry.hpp"
#include "kernels/calibration/timed_case.hpp"
#include "kernels/memory/buffer.hpp"
#include "kernels/probes/bandwidth.hpp"

namespace pipecast::kernels {

namespace {

using Word = std::uint32_t;
constexpr std::int64_t kWordsOfSixteenBytes = 4;

/// Different everywhere, so that a word in a wrong place is seen.
Word pattern(std::size_t index) { return static_cast<Word>(index * 2654435761U + 1U); }

std::shared_ptr<Buffer<Word>> filled(std::int64_t words) {
  auto out = std::make_shared<Buffer<Word>>(static_cast<std::size_t>(words));
  for (std::size_t i = 0; i < out->size(); ++i) (*out)[i] = pattern(i);
  return out;
}

double no_result() { return 0; }

std::optional<TimedCase> empty_kernel(const CaseOptions&, int) {
  return TimedCase{.run = launch_nothing, .error = no_result};
}

std::optional<TimedCase> launch_chain(const CaseOptions&, int) {
  constexpr int kLaunches = 100;
  const auto run = [] {
    for (int i = 0; i < kLaunches; ++i) launch_nothing();
  };
  return TimedCase{.run = run, .error = no_result, .launches = kLaunches};
}

std::optional<TimedCase> copy(const CaseOptions& options, int sms) {
  const std::int64_t elements = options.at("elements");  // of 4 bytes
  if (elements % kWordsOfSixteenBytes != 0) return std::nullopt;
  const auto from = filled(elements);
  const auto to = std::make_shared<Buffer<Word>>(from->size());
  return TimedCase{.run =
                       [=] {
                         const auto bytes = elements * static_cast<std::int64_t>(sizeof(Word));
                         copy_bytes(from->data(), to->data(), bytes, sms);
                       },
                   .error =
                       [=] {
                         std::size_t wrong = 0;
                         for (std::size_t i = 0; i < to->size(); ++i)
                           wrong += (*to)[i] != pattern(i) ? 1 : 0;
                         return static_cast<double>(wrong);
                       }};
}

std::optional<TimedCase> l2_read(const CaseOptions& options, int sms) {
  const std::int64_t bytes = options.at("bytes");
  const auto passes = static_cast<int>(options.at("passes"));
  constexpr std::int64_t kWord = 16;
  if (bytes < kWord || bytes % kWord != 0) return std::nullopt;
  const auto data = filled(bytes / static_cast<std::int64_t>(sizeof(Word)));
  const auto sums = std::make_shared<Buffer<Word>>(static_cast<std::size_t>(read_blocks(sms)));
  return TimedCase{
      .run = [=] { read_repeatedly(data->data(), bytes / kWord, passes, sums->data(), sms); },
      .error =
          [=] {
            // Every word an even number of times leaves nothing, an odd number all of them.
            Word expected = 0;
            if (passes % 2 == 1) {
              for (const Word word : *data) expected ^= word;
            }
            std::size_t wrong = 0;
            for (const Word sum : *sums) wrong += sum != expected ? 1 : 0;
            return static_cast<double>(wrong);
          }};
}

const Register<CaseMaker> kEntries[] = {
    {"memcpy", {copy}},
    {"probe_empty_kernel", {empty_kernel}},
    {"probe_l2_read", {l2_read}},
    {"probe_launch_chain", {launch_chain}},
};

}  // namespace

}  // namespace pipecast::kernels
