#include "app/report/fixes_report.hpp"

#include <fmt/format.h>

#include "app/report/table.hpp"

namespace pipecast {

namespace {

using Json = nlohmann::ordered_json;

double gigabytes(Bytes bytes) { return static_cast<double>(bytes.count()) / 1e9; }

/// Ready for a shell: brackets would be a pattern there.
std::string as_options(const std::vector<std::string>& sets) {
  std::string out;
  for (const std::string& set : sets) {
    const char* const quote = set.find('[') == std::string::npos ? "" : "'";
    out += fmt::format("{}--set {}{}{}", out.empty() ? "" : " ", quote, set, quote);
  }
  return out;
}

std::string nothing_text(const FixSearch& search) {
  if (search.closest.empty()) {
    return "No change of recomputation, sharding, number formats, micro-batch or parallelism can "
           "run.";
  }
  return fmt::format(
      "None of {} changes of recomputation, sharding, number formats, micro-batch and parallelism, "
      "alone or in pairs, makes it fit; the best, {}, still lacks {:.1f} GB.",
      search.tried, as_options(search.closest), gigabytes(search.missing));
}

}  // namespace

std::string fixes_text(const FixSearch& search) {
  if (search.fixes.empty()) return nothing_text(search);
  const double now = to_seconds(search.step);
  Table table({search.pairs ? "two changes that make it fit" : "change that makes it fit",
               "fullest rank", "GB", "free GB", "step s", ""});
  for (const Fix& fix : search.fixes) {
    const double step = to_seconds(fix.step);
    table.add({as_options(fix.sets), std::to_string(fix.fullest.rank),
               fmt::format("{:.1f}", gigabytes(fix.fullest.peak.total())),
               fmt::format("{:.1f}", -gigabytes(fix.fullest.missing())),
               fmt::format("{:.3f}", step), fmt::format("{:+.1f} %", 100 * (step / now - 1))});
  }
  std::string text = fmt::format(
      "{}Each simulated, one replica for all; as it is, with memory enough, a step would take "
      "{:.3f} s:\n",
      search.pairs ? "No single change makes it fit. " : "", now);
  text += table.text();
  text.pop_back();  // main ends the message with a newline
  return text;
}

Json fixes_json(const FixSearch& search) {
  Json fixes = Json::array();
  for (const Fix& fix : search.fixes) {
    fixes.push_back({{"set", fix.sets},
                     {"step_time_s", to_seconds(fix.step)},
                     {"pipeline_rank", fix.fullest.rank},
                     {"peak_bytes", fix.fullest.peak.total().count()},
                     {"capacity_bytes", fix.fullest.capacity.count()}});
  }
  Json closest = nullptr;
  if (search.fixes.empty() && !search.closest.empty()) {
    closest = {{"set", search.closest}, {"missing_bytes", search.missing.count()}};
  }
  return {{"step_time_s", to_seconds(search.step)},
          {"tried", search.tried},
          {"fixes", std::move(fixes)},
          {"closest", std::move(closest)}};
}

}  // namespace pipecast
