#include "app/report/kernel_report.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <numeric>
#include <set>

#include "app/report/table.hpp"
#include "base/error.hpp"

namespace pipecast {

namespace {

using Json = nlohmann::ordered_json;

constexpr double kTera = 1e12;
constexpr double kGiga = 1e9;

double count(Bytes bytes) { return static_cast<double>(bytes.count()); }
double seconds_of(const KernelCost& cost) { return to_seconds(cost.time); }
double rate_of(const KernelCost& cost) { return cost.flops.count() / seconds_of(cost); }
double gigahertz(Frequency clock) { return clock.count() / kGiga; }
std::string percent(double share) { return fmt::format("{:.1f} %", 100 * share); }

/// "812 B", "52.3 MB": three digits or more.
std::string byte_text(Bytes bytes) {
  constexpr std::array<std::string_view, 5> kUnits = {"B", "kB", "MB", "GB", "TB"};
  double value = count(bytes);
  std::size_t unit = 0;
  while (value >= 1000 && unit + 1 < kUnits.size()) {
    value /= 1000;
    ++unit;
  }
  return fmt::format("{:.{}f} {}", value, unit == 0 || value >= 100 ? 0 : 1, kUnits[unit]);
}

std::string bandwidth_text(double bytes_per_second) {
  return fmt::format("{} GB/s", grouped(bytes_per_second / kGiga));
}

std::string rate_text(double flop_per_second) {
  const double value = flop_per_second / kTera;
  return fmt::format("{} TFLOP/s", value >= 100 ? grouped(value) : fmt::format("{:.3g}", value));
}

std::string time_text(Duration time) {
  const double us = to_microseconds(time);
  return us >= 10'000 ? fmt::format("{:.2f} ms", us / 1000) : fmt::format("{:.2f} us", us);
}

std::string shape_text(const KernelAnswer& answer) {
  std::string out;
  for (const ShapeValue& option : answer.shape) {
    if (option.is_fallback) continue;
    out += fmt::format("{}{}={}", out.empty() ? "" : " ", option.name, option.value);
  }
  return out;
}

std::string sms_text(const KernelPrediction& p, const GpuSpec& gpu) {
  return p.sms == gpu.sm_count ? fmt::format("all {} SMs", p.sms)
                               : fmt::format("{} of {} SMs", p.sms, gpu.sm_count);
}

std::string calibration_text(const KernelMachine& machine) {
  return fmt::format(
      "{}, measured on {}{}", machine.calibration_file, machine.calibration.gpu,
      machine.measured_on_this_gpu() ? "" : fmt::format(" and not on {}", machine.gpu.name));
}

std::string_view name_of_limit(Limit limit) {
  switch (limit) {
    case Limit::kTensor:
      return "tensor cores";
    case Limit::kHbm:
      return "HBM";
    case Limit::kL2:
      return "L2";
    case Limit::kSmem:
      return "shared memory";
    case Limit::kPromotion:
      return "promotion to FP32";
    case Limit::kIssue:
      return "instruction issue";
    case Limit::kLatency:
      return "latency";
    case Limit::kOccupancy:
      return "too few thread blocks";
  }
  return "";
}

std::string_view explanation_of(Limit limit) {
  switch (limit) {
    case Limit::kTensor:
      return "The tensor cores: their multiply-add instructions take the largest part of the time. "
             "Faster memory would not help; fewer operations, more SMs or a higher clock would.";
    case Limit::kHbm:
      return "HBM: the SMs wait for bytes from or to the GPU's memory. More arithmetic per byte "
             "(larger blocks, fused kernels, narrower formats) or faster memory would help; more "
             "tensor-core throughput would not.";
    case Limit::kL2:
      return "L2: the SMs wait for bytes that pass between the L2 cache and them. Larger tiles, or "
             "tiles shared between neighbouring SMs, would move fewer.";
    case Limit::kSmem:
      return "Shared memory: the tensor cores wait for their operands, which every instruction "
             "reads from shared memory. Larger tiles per instruction would reuse them more.";
    case Limit::kPromotion:
      return "Promotion: the partial sums of the FP8 tensor cores are scaled and added in FP32 on "
             "the CUDA cores, and that takes longer than the multiplications.";
    case Limit::kIssue:
      return "Instruction issue: the CUDA cores cannot start their instructions any faster.";
    case Limit::kLatency:
      return "Latency: launch, first loads and last stores take longer than the work itself. More "
             "work per launch would come almost free.";
    case Limit::kOccupancy:
      return "Occupancy: there are too few thread blocks for the SMs, so that many of them idle. "
             "Smaller tiles, or a split of the sums, would spread the work.";
  }
  return "";
}

bool is_used(const KernelPart& part) { return !part.name.empty(); }

/// Lines of at most 92 characters, indented by two.
std::string paragraph(std::string_view text) {
  constexpr std::size_t kLongest = 92;
  std::string out;
  std::string line;
  const auto flush = [&] {
    if (!line.empty()) out += "  " + line + "\n";
    line.clear();
  };
  while (!text.empty()) {
    const std::size_t end = std::min(text.find(' '), text.size());
    const std::string_view word = text.substr(0, std::max<std::size_t>(end, 1));
    const bool unit = word.front() == '%';  // stays with its number
    if (!unit && line.size() + word.size() + 3 > kLongest) flush();
    line += line.empty() ? "" : " ";
    line += word;
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  flush();
  return out;
}

/// What is busy of the thread blocks' places on the SMs.
std::string wave_text(const KernelTiling& t, int sms) {
  const std::int64_t before_last = (t.waves - 1) * sms;
  const bool one_each = t.waves * sms >= t.blocks && t.blocks > before_last;
  if (!one_each) {
    return fmt::format("They run in {} wave{}, {:.1f} of them on an SM at a time.",
                       grouped(static_cast<double>(t.waves)), t.waves == 1 ? "" : "s",
                       static_cast<double>(t.blocks) / static_cast<double>(t.waves * sms));
  }
  const std::int64_t last = t.blocks - before_last;
  const double used = static_cast<double>(t.blocks) / static_cast<double>(t.waves * sms);
  if (t.waves == 1) {
    return fmt::format("They all run at once, on {} of {} SMs ({}).", last, sms, percent(used));
  }
  return fmt::format(
      "{} SMs take them in {} waves, one on each SM; the last wave has {} of them and leaves {} "
      "SMs idle. Over all waves {} of the SMs' time is used.",
      sms, t.waves, last, sms - last, percent(used));
}

std::string tiling_text(const KernelPrediction& p) {
  const KernelTiling& t = p.cost.tiling;
  if (t.blocks == 0 || t.waves == 0) {
    return paragraph("The model of this kernel counts no thread blocks.");
  }
  const std::string blocks = grouped(static_cast<double>(t.blocks));
  const std::string cut = t.block_m > 0 && t.block_n > 0
                              ? fmt::format("The result is cut into {} tile{} of {} x {} elements.",
                                            blocks, t.blocks == 1 ? "" : "s", t.block_m, t.block_n)
                              : fmt::format("The work is cut into {} thread block{}.", blocks,
                                            t.blocks == 1 ? "" : "s");
  return paragraph(cut + " " + wave_text(t, p.sms));
}

std::string parts_text(const KernelCost& cost) {
  constexpr double kBarWidth = 30;
  Table table({"  part", "cycles", "share", ""}, {3});
  for (const KernelPart& part : cost.parts) {
    if (!is_used(part) || part.cycles <= 0) continue;
    const double share = part.cycles / cost.cycles;
    const auto length = static_cast<std::size_t>(std::max(0.0, std::round(kBarWidth * share)));
    table.add({fmt::format("  {}", part.name), grouped(part.cycles), percent(share),
               std::string(length, '#')});
  }
  table.add({"  sum", grouped(cost.cycles), percent(1), ""});
  return table.text();
}

std::string level_text(const KernelPrediction& p, const GpuSpec& gpu) {
  const KernelCost& cost = p.cost;
  const double seconds = seconds_of(cost);
  Table table({"  level", "bytes", "rate", "of peak", "FLOP per byte"});
  const auto add = [&](std::string_view level, Bytes bytes, const std::string& share) {
    if (bytes.count() == 0) return;
    table.add({fmt::format("  {}", level), byte_text(bytes), bandwidth_text(count(bytes) / seconds),
               share, grouped(cost.flops.count() / count(bytes))});
  };
  add("HBM", cost.hbm_bytes, percent(count(cost.hbm_bytes) / seconds / gpu.hbm_bandwidth.count()));
  add("L2", cost.l2_bytes, "");
  return table.text();
}

/// Where the operation stands below the roof of HBM and arithmetic.
std::string balance_text(const KernelPrediction& p, const GpuSpec& gpu) {
  const KernelCost& cost = p.cost;
  if (cost.flops.count() <= 0 || cost.hbm_bytes.count() <= 0) return "";
  const double peak = peak_rate(p.operation, gpu, p.sms).count();
  const double balance = peak / gpu.hbm_bandwidth.count();
  const double intensity = cost.flops.count() / count(cost.hbm_bytes);
  return paragraph(fmt::format(
      "These SMs at their peak do {} floating-point operations in the time in which HBM moves a "
      "byte. This kernel does {} per byte: {}.",
      grouped(balance), grouped(intensity),
      intensity >= balance ? "enough for arithmetic to be the limit"
                           : "too few, so that memory is the limit at best"));
}

std::string speed_text(const KernelPrediction& p, const GpuSpec& gpu) {
  const KernelCost& cost = p.cost;
  const Duration best = roofline_time(p, gpu);
  std::string out = fmt::format("{} at {:.3f} GHz are {} cycles.", time_text(cost.time),
                                gigahertz(cost.clock), grouped(cost.cycles));
  const double clock = cost.clock.count() / gpu.tensor_clock.count();
  if (std::abs(clock - 1) > 1e-3) {
    out += fmt::format(
        " That is the clock which the chip sustains under this load; the vendor states peaks at "
        "{:.2f} GHz.",
        gigahertz(gpu.tensor_clock));
  }
  const double peak = peak_rate(p.operation, gpu, p.sms).count();
  if (cost.flops.count() > 0 && peak > 0) {
    out +=
        fmt::format(" {} is {} of the {} peak of these SMs, {}", rate_text(rate_of(cost)),
                    percent(rate_of(cost) / peak), name_of(p.operation.precision), rate_text(peak));
    out += std::abs(clock - 1) > 1e-3
               ? fmt::format(", and {} of what they could do at the sustained clock.",
                             percent(rate_of(cost) / (peak * clock)))
               : ".";
  }
  out += fmt::format(
      " The roofline, the longer of arithmetic and HBM at the vendor's peaks, is {}: the kernel "
      "takes {:.2f} times as long.",
      time_text(best), seconds_of(cost) / to_seconds(best));
  return paragraph(out);
}

std::string heading(const KernelAnswer& answer, const KernelMachine& machine) {
  return fmt::format("{} on {}, {}: {}", answer.prediction.operation.op, machine.gpu.name,
                     sms_text(answer.prediction, machine.gpu), shape_text(answer));
}

/// The constant that decides a large kernel's time, and where it was measured.
const Constant& deciding_constant(std::string_view op, const KernelMachine& machine) {
  return Registry<KernelKind>::instance().find(op).constant(machine.calibration);
}

Json calibration_json(std::string_view op, const KernelMachine& machine) {
  return {{"file", machine.calibration_file},
          {"gpu", machine.calibration.gpu},
          {"measured_on_this_gpu", machine.measured_on_this_gpu()},
          {"source", deciding_constant(op, machine).source}};
}

/// A cell as JSON: numbers as numbers, everything else as text.
Json cell_json(const std::string& cell) {
  const char* const begin = cell.data();
  const char* const end = begin + cell.size();
  std::int64_t whole = 0;
  const auto as_whole = std::from_chars(begin, end, whole);
  if (as_whole.ec == std::errc() && as_whole.ptr == end) return whole;
  double real = 0;
  const auto as_real = std::from_chars(begin, end, real);
  if (as_real.ec == std::errc() && as_real.ptr == end && std::isfinite(real)) return real;
  return cell;
}

/// The operations of a table: a family may be one product in one row and grouped in the next.
std::string operations_of(const std::vector<KernelTableRow>& rows) {
  std::set<std::string_view> out;
  for (const KernelTableRow& row : rows) out.insert(row.prediction.operation.op);
  return fmt::format("{}", fmt::join(out, ", "));
}

Json errors_json(const std::optional<ErrorSummary>& errors) {
  if (!errors) return {{"rows", 0}};
  return {{"rows", errors->rows},
          {"median", errors->median},
          {"p90", errors->p90},
          {"worst", errors->worst},
          {"bias", errors->bias}};
}

std::string errors_text(const KernelErrors& errors) {
  Table table({"rows", "", "median", "p90", "worst", "bias"});
  const auto add = [&](std::string_view name, const std::optional<ErrorSummary>& summary) {
    if (!summary) return;
    table.add({std::string(name), grouped(static_cast<double>(summary->rows)),
               percent(summary->median), percent(summary->p90), percent(summary->worst),
               fmt::format("{:+.1f} %", 100 * summary->bias)});
  };
  add("all", errors.all);
  add(fmt::format("of at least {:g} GFLOP", kLargeKernelFlop / kGiga), errors.large);
  add("smaller", errors.small);
  return table.text();
}

std::string worst_text(const KernelTableAnswer& answer, std::size_t worst) {
  std::vector<std::size_t> order(answer.rows.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
    return std::abs(answer.rows[a].error()) > std::abs(answer.rows[b].error());
  });
  order.resize(std::min(worst, order.size()));

  std::vector<std::string> columns;  // the shape's
  for (const KernelOption& option : options_of(answer.name)) {
    const std::optional<std::string> column = column_of(answer.table, option.name);
    if (column) columns.push_back(*column);
  }
  std::vector<std::string> header = {"line"};
  header.insert(header.end(), columns.begin(), columns.end());
  header.insert(header.end(), {"measured us", "predicted us", "error", "limited by"});
  Table table(header);
  for (const std::size_t row : order) {
    const KernelTableRow& r = answer.rows[row];
    std::vector<std::string> cells = {std::to_string(row + 2)};
    for (const std::string& column : columns) cells.push_back(answer.table.text(row, column));
    cells.insert(cells.end(),
                 {fmt::format("{:.2f}", *r.measured_us), fmt::format("{:.2f}", r.predicted_us()),
                  fmt::format("{:+.1f} %", 100 * r.error()),
                  std::string(name_of(r.prediction.cost.limited_by))});
    table.add(std::move(cells));
  }
  return table.text();
}

}  // namespace

Json kernel_json(const KernelAnswer& answer, const KernelMachine& machine) {
  const KernelPrediction& p = answer.prediction;
  const KernelCost& cost = p.cost;
  const KernelTiling& t = cost.tiling;
  Json shape = Json::object();
  for (const ShapeValue& option : answer.shape) shape[option.name] = cell_json(option.value);
  Json parts = Json::object();
  for (const KernelPart& part : cost.parts) {
    if (is_used(part)) parts[std::string(part.name)] = part.cycles;
  }
  return {
      {"format", "pipecast-kernel/1"},
      {"op", p.operation.op},
      {"shape", std::move(shape)},
      {"precision", name_of(p.operation.precision)},
      {"gpu", machine.gpu.name},
      {"sms", p.sms},
      {"time_us", to_microseconds(cost.time)},
      {"cycles", cost.cycles},
      {"clock_ghz", gigahertz(cost.clock)},
      {"flops", cost.flops.count()},
      {"tflops", rate_of(cost) / kTera},
      {"bytes_hbm", cost.hbm_bytes.count()},
      {"bytes_l2", cost.l2_bytes.count()},
      {"limited_by", name_of(cost.limited_by)},
      {"tiling",
       {{"block_m", t.block_m}, {"block_n", t.block_n}, {"blocks", t.blocks}, {"waves", t.waves}}},
      {"parts", std::move(parts)},
      {"roofline_us", to_microseconds(roofline_time(p, machine.gpu))},
      {"calibration", calibration_json(p.operation.op, machine)}};
}

std::string kernel_text(const KernelAnswer& answer, const KernelMachine& machine) {
  const KernelPrediction& p = answer.prediction;
  const KernelCost& cost = p.cost;
  const double seconds = seconds_of(cost);
  Table table({std::string(p.operation.op), shape_text(answer)}, {1});
  table.add({"GPU", fmt::format("{}, {}", machine.gpu.name, sms_text(p, machine.gpu))});
  table.add({"time", fmt::format("{}, {} cycles at {:.3f} GHz", time_text(cost.time),
                                 grouped(cost.cycles), gigahertz(cost.clock))});
  table.add({"limited by", std::string(name_of_limit(cost.limited_by))});
  const double peak = peak_rate(p.operation, machine.gpu, p.sms).count();
  if (cost.flops.count() > 0 && peak > 0) {
    table.add({"rate", fmt::format("{}, {} of peak", rate_text(rate_of(cost)),
                                   percent(rate_of(cost) / peak))});
  }
  table.add({"HBM", fmt::format("{}, {}", byte_text(cost.hbm_bytes),
                                bandwidth_text(count(cost.hbm_bytes) / seconds))});
  if (cost.l2_bytes.count() > 0) {
    table.add({"L2", fmt::format("{}, {}", byte_text(cost.l2_bytes),
                                 bandwidth_text(count(cost.l2_bytes) / seconds))});
  }
  const Duration best = roofline_time(p, machine.gpu);
  table.add({"roofline", fmt::format("{}, {} of the time", time_text(best),
                                     percent(to_seconds(best) / seconds))});
  table.add({"calibration", calibration_text(machine)});
  return table.text();
}

std::string kernel_explanation(const KernelAnswer& answer, const KernelMachine& machine) {
  const KernelPrediction& p = answer.prediction;
  const Constant& constant = deciding_constant(p.operation.op, machine);
  std::string out = heading(answer, machine) + "\n";
  out += fmt::format("\nTime: {}\n", time_text(p.cost.time)) + speed_text(p, machine.gpu);
  out += "\nWhat limits it\n" + paragraph(explanation_of(p.cost.limited_by));
  out += "\nHow the work is cut\n" + tiling_text(p);
  out += "\nWhere the cycles of the busiest SM go\n" + parts_text(p.cost);
  out += "\nBytes by level\n" + level_text(p, machine.gpu) + balance_text(p, machine.gpu);
  out += "\nWhere the numbers come from\n";
  out += paragraph(fmt::format("Calibration: {}.", calibration_text(machine)));
  out += paragraph(fmt::format("The constant that decides large ones: {:.4g}, from {}.",
                               constant.value, constant.source));
  return out;
}

Json kernel_table_json(const KernelTableAnswer& answer, const KernelMachine& machine) {
  Json rows = Json::array();
  for (std::size_t i = 0; i < answer.rows.size(); ++i) {
    Json& row = rows.emplace_back(Json::object());
    for (const std::string& column : answer.table.header()) {
      row[column] = cell_json(answer.table.text(i, column));
    }
    row[kPredictedColumn] = answer.rows[i].predicted_us();
  }
  Json out = {{"format", "pipecast-kernel-table/1"},
              {"op", operations_of(answer.rows)},
              {"gpu", machine.gpu.name},
              {"calibration", calibration_json(answer.name.op, machine)},
              {"rows", std::move(rows)}};
  const KernelErrors errors = errors_of(answer.rows);
  if (errors.all) {
    out["errors"] = errors_json(errors.all);
    out["errors_large"] = errors_json(errors.large);
    out["errors_small"] = errors_json(errors.small);
  }
  return out;
}

std::string kernel_table_text(const KernelTableAnswer& answer, const KernelMachine& machine,
                              std::size_t worst) {
  std::string out =
      fmt::format("{}: {} rows of {} on {}\nCalibration: {}\n", answer.table.name(),
                  grouped(static_cast<double>(answer.rows.size())), operations_of(answer.rows),
                  machine.gpu.name, calibration_text(machine));
  const KernelErrors errors = errors_of(answer.rows);
  if (!errors.all) return out + "Without a column time_us there is nothing to compare with.\n";
  out +=
      "\nError: predicted time over measured time, less 1; without its sign but for the bias, "
      "its mean\n\n";
  out += errors_text(errors);
  if (worst > 0) {
    out += fmt::format("\nThe {} worst rows\n\n{}", std::min(worst, answer.rows.size()),
                       worst_text(answer, worst));
  }
  return out;
}

RooflinePicture roofline_picture(const std::vector<KernelTableRow>& rows,
                                 const KernelMachine& machine) {
  RooflinePicture out;
  const KernelPrediction* fastest = nullptr;
  int sms = 0;
  for (const KernelTableRow& row : rows) {
    const KernelCost& cost = row.prediction.cost;
    if (cost.flops.count() <= 0 || cost.hbm_bytes.count() <= 0) continue;
    const double intensity = cost.flops.count() / count(cost.hbm_bytes);
    out.predicted.push_back({intensity, FlopRate(rate_of(cost))});
    if (row.measured_us) {
      out.measured.push_back({intensity, FlopRate(cost.flops.count() / *row.measured_us * 1e6)});
    }
    if (fastest == nullptr || rate_of(cost) > rate_of(fastest->cost)) fastest = &row.prediction;
    sms = std::max(sms, row.prediction.sms);
  }
  require(fastest != nullptr, "--roofline: {} computes nothing that could be drawn",
          rows.front().prediction.operation.op);

  const GpuSpec& gpu = machine.gpu;
  const FlopRate peak = peak_rate(fastest->operation, gpu, sms);
  out.title = fmt::format("{} on {}", operations_of(rows), gpu.name);
  out.slopes.push_back({"HBM", gpu.hbm_bandwidth});
  if (gpu.l2_bytes_per_clock_per_sm > 0) {
    out.slopes.push_back(
        {"L2", Bandwidth(gpu.l2_bytes_per_clock_per_sm * gpu.tensor_clock.count() * sms)});
  }
  out.ceilings.push_back(
      {fmt::format("{} peak at {:.2f} GHz", name_of(fastest->operation.precision),
                   gigahertz(gpu.tensor_clock)),
       peak});
  const double clock = fastest->cost.clock.count() / gpu.tensor_clock.count();
  if (std::abs(clock - 1) > 1e-3) {
    out.ceilings.push_back(
        {fmt::format("sustained at {:.2f} GHz", gigahertz(fastest->cost.clock)), peak * clock});
  }
  std::sort(out.ceilings.begin(), out.ceilings.end(),
            [](const RooflineCeiling& a, const RooflineCeiling& b) { return a.rate > b.rate; });
  out.subtitle = fmt::format(
      "{} shapes, {}", grouped(static_cast<double>(rows.size())),
      sms == gpu.sm_count ? fmt::format("all {} SMs", sms) : fmt::format("{} SMs at most", sms));
  return out;
}

RooflinePicture roofline_picture(const KernelAnswer& answer, const KernelMachine& machine) {
  const KernelPrediction& p = answer.prediction;
  RooflinePicture out = roofline_picture({KernelTableRow{p, std::nullopt}}, machine);
  out.subtitle = fmt::format("{}, {}", shape_text(answer), sms_text(p, machine.gpu));
  if (p.cost.l2_bytes.count() > 0 && out.slopes.size() > 1) {
    out.second = {p.cost.flops.count() / count(p.cost.l2_bytes), FlopRate(rate_of(p.cost))};
  }
  out.label = {fmt::format("{}, {}", time_text(p.cost.time), rate_text(rate_of(p.cost))),
               fmt::format("limited by {}", name_of_limit(p.cost.limited_by))};
  return out;
}

}  // namespace pipecast
