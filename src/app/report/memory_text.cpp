#include <fmt/format.h>

#include <algorithm>

#include "app/report/memory_report.hpp"
#include "app/report/result_json.hpp"
#include "app/report/table.hpp"

namespace pipecast {

namespace {

constexpr std::array<char, kMemoryCategories> kLetters = {'W', 'G', 'O', 'A', 'C', 'w'};

double in_gigabytes(Bytes bytes) { return static_cast<double>(bytes.count()) / 1e9; }
std::string gigabytes(Bytes bytes) { return fmt::format("{:.2f}", in_gigabytes(bytes)); }

std::string seconds_of(Time when) { return fmt::format("{:.3f}", to_seconds(when)); }

std::string heading(const MemoryAnswer& answer) {
  const StepForecast& step = answer.study.step;
  const GpuSpec& gpu = answer.scenario.cluster.gpu;
  const Bytes reserve = gpu.hbm_capacity - answer.study.capacity;
  return fmt::format(
      "{}: one step of {} micro-batches under {}, {:.3f} s\nA {} has {:.1f} GB; less a reserve of "
      "{:.1f} GB, {:.1f} GB are for tensors.\n\n",
      answer.scenario.name, grouped(step.microbatches), step.schedule, to_seconds(step.times.time),
      gpu.name, in_gigabytes(gpu.hbm_capacity), in_gigabytes(reserve),
      in_gigabytes(answer.study.capacity));
}

std::string ranks_table(const MemoryAnswer& answer) {
  std::vector<std::string> header = {"peak GB of rank"};
  for (std::size_t c = 0; c < kMemoryCategories; ++c) {
    header.emplace_back(name_of(static_cast<MemoryCategory>(c)));
  }
  header.insert(header.end(), {"total", "free", "at s", "in"});
  const std::size_t last = header.size() - 1;
  Table table(std::move(header), {last});
  const StepMemory& memory = answer.study.memory;
  for (int rank = 0; rank < memory.ranks(); ++rank) {
    const StepMemory::Peak& peak = memory.peak(rank);
    std::vector<std::string> cells = {std::to_string(rank)};
    for (std::size_t c = 0; c < kMemoryCategories; ++c) {
      cells.push_back(gigabytes(peak.totals.of(static_cast<MemoryCategory>(c))));
    }
    cells.insert(cells.end(), {gigabytes(peak.totals.total()),
                               gigabytes(answer.study.capacity - peak.totals.total()),
                               seconds_of(peak.when), doing_at_peak(answer.study, rank)});
    table.add(std::move(cells));
  }
  return table.text();
}

/// The largest few names of a category.
std::string mostly(const std::vector<MemoryTensor>& tensors, MemoryCategory category) {
  std::vector<std::pair<std::string_view, Bytes>> names;
  for (const MemoryTensor& t : tensors) {
    if (t.category != category) continue;
    const auto known = std::find_if(names.begin(), names.end(),
                                    [&](const auto& one) { return one.first == t.name; });
    if (known == names.end()) {
      names.emplace_back(t.name, t.bytes);
    } else {
      known->second += t.bytes;
    }
  }
  std::stable_sort(names.begin(), names.end(),
                   [](const auto& a, const auto& b) { return a.second > b.second; });
  constexpr std::size_t kFew = 3;
  std::string out;
  for (std::size_t i = 0; i < std::min(kFew, names.size()); ++i) {
    out += fmt::format("{}{} {}", i == 0 ? "" : ", ", names[i].first, gigabytes(names[i].second));
  }
  return out;
}

std::string composition(const MemoryAnswer& answer, const std::vector<MemoryTensor>& tensors) {
  const int rank = answer.shown();
  const StepMemory::Peak& peak = answer.study.memory.peak(rank);
  constexpr std::size_t kWidth = 72;
  std::vector<BarPart> parts;
  Table table({"of which", "", "GB", "share", "most of it, GB"}, {1, 4});
  for (std::size_t c = 0; c < kMemoryCategories; ++c) {
    const auto category = static_cast<MemoryCategory>(c);
    const Bytes bytes = peak.totals.of(category);
    const double share = in_gigabytes(bytes) / in_gigabytes(peak.totals.total());
    parts.push_back({in_gigabytes(bytes), kLetters[c]});
    table.add({std::string(name_of(category)), std::string(1, kLetters[c]), gigabytes(bytes),
               fmt::format("{:.1f} %", 100 * share), mostly(tensors, category)});
  }
  return fmt::format("\nPipeline rank {} at its peak, {} s into the step, in {}: {} GB\n{}\n{}",
                     rank, seconds_of(peak.when), doing_at_peak(answer.study, rank),
                     gigabytes(peak.totals.total()), bar(parts, kWidth, colours_wanted()),
                     table.text());
}

std::string tensors_table(const std::vector<MemoryTensor>& tensors, std::size_t most,
                          const std::string& name) {
  const std::vector<TensorGroup> groups = tensor_groups(tensors, false);
  Table table({name, "category", "layer", "stage", "rows", "precision", "copies", "GB"}, {1, 2, 4});
  for (std::size_t i = 0; i < std::min(most, groups.size()); ++i) {
    const MemoryTensor& t = groups[i].tensor;
    table.add({std::string(t.name), std::string(name_of(t.category)),
               t.layer ? std::string(name_of(*t.layer)) : "",
               t.stage < 0 ? "" : std::to_string(t.stage), std::string(t.rows_are),
               std::string(name_of(t.precision)), grouped(static_cast<double>(groups[i].copies)),
               gigabytes(groups[i].bytes)});
  }
  return "\n" + table.text();
}

std::string host_table(const MemoryAnswer& answer) {
  const PersistentMemory& held = answer.study.memory.persistent(answer.shown());
  if (held.on_host.empty()) return "";
  Bytes sum;
  for (const MemoryTensor& t : held.on_host) sum += t.bytes;
  return tensors_table(held.on_host, held.on_host.size(), "in the node's memory, per GPU") +
         fmt::format("together {} GB\n", gigabytes(sum));
}

std::string verdict(const MemoryStudy& study) {
  return fmt::format("\n{}: {:.1f} GB for tensors, fullest rank {} {} {:.1f} GB\n",
                     study.fits() ? "fits" : "does not fit", in_gigabytes(study.capacity),
                     study.memory.fullest(), study.fits() ? "holds" : "would hold",
                     in_gigabytes(study.peak()));
}

}  // namespace

std::string memory_text(const MemoryAnswer& answer, std::size_t tensors) {
  const std::vector<MemoryTensor> held = answer.study.memory.tensors_at_peak(answer.shown());
  return heading(answer) + ranks_table(answer) + composition(answer, held) +
         tensors_table(held, tensors, fmt::format("largest of rank {}", answer.shown())) +
         host_table(answer) + verdict(answer.study);
}

}  // namespace pipecast
