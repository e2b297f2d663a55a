#include "app/report/network_report.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <functional>
#include <numeric>
#include <vector>

#include "app/config/node.hpp"
#include "app/report/table.hpp"

namespace pipecast {

namespace {

using Json = nlohmann::ordered_json;

/// "1.25 ms": three digits behind the point at most, in the unit that keeps the number readable.
std::string time_text(double seconds) {
  if (seconds >= 1) return fmt::format("{:.3f} s", seconds);
  if (seconds >= 1e-3) return fmt::format("{:.3f} ms", seconds * 1e3);
  if (seconds >= 1e-6) return fmt::format("{:.3f} us", seconds * 1e6);
  return fmt::format("{:.3f} ns", seconds * 1e9);
}

std::string bytes_text(Bytes bytes) {
  const auto count = static_cast<double>(bytes.count());
  if (count >= 1e9) return fmt::format("{:.2f} GB", count / 1e9);
  if (count >= 1e6) return fmt::format("{:.2f} MB", count / 1e6);
  if (count >= 1e3) return fmt::format("{:.2f} KB", count / 1e3);
  return fmt::format("{} B", bytes.count());
}

std::string percent(double share) { return fmt::format("{:.1f} %", share * 100); }

std::string name_text(const std::string& id) { return config::printable(id); }

std::string count_text(std::size_t count, std::string_view what) {
  return fmt::format("{} {}{}", grouped(static_cast<double>(count)), what, count == 1 ? "" : "s");
}

/// Numbers up to `count`, the ones with the largest value first, at most `limit` of them.
std::vector<std::size_t> largest(std::size_t count, std::size_t limit,
                                 const std::function<double(std::size_t)>& value) {
  std::vector<std::size_t> out(count);
  std::iota(out.begin(), out.end(), std::size_t{0});
  std::stable_sort(out.begin(), out.end(),
                   [&](std::size_t a, std::size_t b) { return value(a) > value(b); });
  if (limit > 0 && count > limit) out.resize(limit);
  return out;
}

/// "\nThe 20 busiest of 32 links\n\n", "\nThe busiest of 32 links\n\n" or "\nLinks, the busiest
/// first\n\n".
std::string title(std::size_t shown, std::size_t all, std::string_view what,
                  std::string_view order) {
  if (shown == all)
    return fmt::format("\n{}{}, the {} first\n\n", static_cast<char>(what[0] - 32), what.substr(1),
                       order);
  const std::string count = shown == 1 ? "" : fmt::format("{} ", shown);
  return fmt::format("\nThe {}{} of {} {}\n\n", count, order, grouped(static_cast<double>(all)),
                     what);
}

std::string groups_text(const TransferPlan& plan, const Completion& completion, std::size_t limit) {
  std::vector<std::size_t> flows(plan.groups.size());
  std::vector<Bytes> bytes(plan.groups.size());
  for (const Flow& flow : plan.flows) {
    if (!flow.group) continue;
    ++flows[*flow.group];
    bytes[*flow.group] += flow.bytes;
  }
  const auto rows =
      largest(plan.groups.size(), limit, [&](std::size_t g) { return completion.group_s[g]; });
  Table table({"  group", "flows", "bytes", "complete at"});
  for (const std::size_t g : rows) {
    table.add({"  " + name_text(plan.groups[g].id), std::to_string(flows[g]), bytes_text(bytes[g]),
               time_text(completion.group_s[g])});
  }
  return title(rows.size(), plan.groups.size(), "groups", "last") + table.text();
}

std::string flows_text(const TransferPlan& plan, const Completion& completion, std::size_t limit) {
  const auto rows =
      largest(plan.flows.size(), limit, [&](std::size_t f) { return completion.flow_s[f]; });
  Table table({"  flow", "group", "bytes", "complete at"}, {1});
  for (const std::size_t f : rows) {
    const Flow& flow = plan.flows[f];
    table.add({"  " + name_text(flow.id), flow.group ? name_text(plan.groups[*flow.group].id) : "",
               bytes_text(flow.bytes), time_text(completion.flow_s[f])});
  }
  return title(rows.size(), plan.flows.size(), "flows", "last") + table.text();
}

std::string links_text(const TransferPlan& plan, const Completion& completion, std::size_t limit) {
  const auto rows = largest(plan.links.size(), limit,
                            [&](std::size_t l) { return completion.links[l].busy_fraction; });
  Table table({"  link", "bandwidth", "bytes", "busy"});
  for (const std::size_t l : rows) {
    table.add({"  " + name_text(plan.links[l].id),
               fmt::format("{:.4g} GB/s", plan.links[l].bandwidth.count() / 1e9),
               bytes_text(completion.links[l].bytes), percent(completion.links[l].busy_fraction)});
  }
  return title(rows.size(), plan.links.size(), "links", "busiest") + table.text();
}

std::string mode_text(const TransferOptions& options) {
  if (options.mode == NetworkMode::kFlow) return "every flow by itself, max-min fair";
  return fmt::format("every group is one job, weighted by {}",
                     options.arbitration == Arbitration::kFlow ? "flows" : "job");
}

}  // namespace

Json network_json(const TransferPlan& plan, const Completion& completion) {
  Json flows = Json::object();
  for (std::size_t f = 0; f < plan.flows.size(); ++f) {
    flows[plan.flows[f].id] = completion.flow_s[f];
  }
  Json groups = Json::object();
  for (std::size_t g = 0; g < plan.groups.size(); ++g) {
    groups[plan.groups[g].id] = completion.group_s[g];
  }
  Json links = Json::object();
  for (std::size_t l = 0; l < plan.links.size(); ++l) {
    const LinkTraffic& traffic = completion.links[l];
    links[plan.links[l].id] = {{"bytes", traffic.bytes.count()},
                               {"busy_fraction", traffic.busy_fraction}};
  }
  return {{"completion_s", std::move(flows)},
          {"group_completion_s", std::move(groups)},
          {"makespan_s", completion.makespan_s},
          {"links", std::move(links)}};
}

std::string network_text(const NetworkCase& network, const TransferOptions& options,
                         const Completion& completion, std::size_t limit) {
  const TransferPlan& plan = network.plan;
  Bytes moved;
  for (const Flow& flow : plan.flows) moved += flow.bytes;
  std::string out = name_text(network.name) + "\n";
  if (!network.description.empty()) {
    constexpr std::size_t kLongest = 1'000;
    out += config::printable(network.description, kLongest) + "\n";
  }
  out += fmt::format("\n{} over {}, {}\n", count_text(plan.flows.size(), "flow"),
                     count_text(plan.links.size(), "link"), mode_text(options));
  out += fmt::format("{} complete after {}\n", bytes_text(moved), time_text(completion.makespan_s));
  if (!plan.groups.empty()) out += groups_text(plan, completion, limit);
  if (!plan.flows.empty()) out += flows_text(plan, completion, limit);
  if (!plan.links.empty()) out += links_text(plan, completion, limit);
  return out;
}

}  // namespace pipecast
