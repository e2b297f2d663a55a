#include "sim/network/coflow.hpp"

#include <algorithm>
#include <numeric>
#include <tuple>

namespace pipecast {

namespace {

/// When a flow takes bandwidth.
double ready_s(const Flow& flow, double arrived_s) {
  return std::max(flow.start_s, arrived_s) + flow.latency_s;
}

double bytes_of(const Flow& flow) { return static_cast<double>(flow.bytes.count()); }

/// Sums the flows of jobs by port; its lists are as long as the plan's links and used again.
class PortSums {
 public:
  explicit PortSums(const TransferPlan& plan)
      : plan_(plan), bytes_(plan.links.size()), weight_(plan.links.size()) {}

  void complete(TransferJob& job, Arbitration arbitration) {
    used_.clear();
    double heaviest = 0;
    for (const FlowIndex f : job.flows) {
      const Flow& flow = plan_.flows[f];
      if (flow.bytes.count() == 0) continue;
      heaviest = std::max(heaviest, flow.weight);
      for (const LinkIndex l : flow.links) {
        if (bytes_[l] == 0) used_.push_back(l);
        bytes_[l] += bytes_of(flow);
        weight_[l] += flow.weight;
      }
    }
    double weight_there = 0;
    for (const LinkIndex l : used_) {
      const double alone_s = bytes_[l] / plan_.links[l].bandwidth.count();
      const bool as_late = alone_s == job.alone_s && weight_[l] > weight_there;
      if (alone_s < job.alone_s || (alone_s == job.alone_s && !as_late)) continue;
      job.alone_s = alone_s;
      job.work = bytes_[l];
      weight_there = weight_[l];
    }
    for (const LinkIndex l : used_) {
      job.ports.push_back({l, bytes_[l] / job.work});
      bytes_[l] = 0;
      weight_[l] = 0;
    }
    if (!used_.empty()) job.weight = arbitration == Arbitration::kFlow ? weight_there : heaviest;
  }

 private:
  const TransferPlan& plan_;
  std::vector<double> bytes_;
  std::vector<double> weight_;
  std::vector<LinkIndex> used_;
};

struct PortRelease {
  LinkIndex link = 0;
  double ready_s = 0;
  double bytes = 0;
};

/// The latest port, each by its suffixes of ready times.
double last_port_done(const TransferPlan& plan, const TransferJob& job, double arrived_s) {
  std::vector<PortRelease> releases;
  for (const FlowIndex f : job.flows) {
    const Flow& flow = plan.flows[f];
    if (flow.bytes.count() == 0) continue;
    for (const LinkIndex l : flow.links) {
      releases.push_back({l, ready_s(flow, arrived_s), bytes_of(flow)});
    }
  }
  std::sort(releases.begin(), releases.end(), [](const PortRelease& a, const PortRelease& b) {
    return std::tie(a.link, b.ready_s) < std::tie(b.link, a.ready_s);  // the last release first
  });
  double done_s = 0;
  double bytes = 0;
  for (std::size_t i = 0; i < releases.size(); ++i) {
    if (i == 0 || releases[i].link != releases[i - 1].link) bytes = 0;
    bytes += releases[i].bytes;
    const double bandwidth = plan.links[releases[i].link].bandwidth.count();
    done_s = std::max(done_s, releases[i].ready_s + bytes / bandwidth);
  }
  return done_s;
}

}  // namespace

std::vector<TransferJob> jobs_of_flows(const TransferPlan& plan) {
  PortSums sums(plan);
  std::vector<TransferJob> out(plan.flows.size());
  for (std::size_t f = 0; f < out.size(); ++f) {
    out[f].flows = {static_cast<FlowIndex>(f)};
    sums.complete(out[f], Arbitration::kFlow);
  }
  return out;
}

std::vector<TransferJob> jobs_of_groups(const TransferPlan& plan,
                                        std::span<const std::uint32_t> depth,
                                        Arbitration arbitration) {
  std::vector<FlowIndex> order(plan.flows.size());
  std::iota(order.begin(), order.end(), FlowIndex{0});
  const auto grouped = [&](FlowIndex f) { return plan.flows[f].group.has_value(); };
  const auto key = [&](FlowIndex f) {
    // Lone flows are told apart by their own number.
    return std::make_tuple(depth[f], !grouped(f), grouped(f) ? *plan.flows[f].group : f);
  };
  std::stable_sort(order.begin(), order.end(),
                   [&](FlowIndex a, FlowIndex b) { return key(a) < key(b); });
  std::vector<TransferJob> out;
  for (std::size_t i = 0; i < order.size(); ++i) {
    if (i == 0 || key(order[i]) != key(order[i - 1])) out.emplace_back();
    out.back().flows.push_back(order[i]);
  }
  PortSums sums(plan);
  for (TransferJob& job : out) sums.complete(job, arbitration);
  return out;
}

JobTiming job_timing(const TransferPlan& plan, const TransferJob& job, double arrived_s) {
  double first_s = std::numeric_limits<double>::infinity();  // of the flows with bytes
  double last_s = 0;                                         // of all flows
  for (const FlowIndex f : job.flows) {
    const Flow& flow = plan.flows[f];
    const double ready = ready_s(flow, arrived_s);
    last_s = std::max(last_s, ready);
    if (flow.bytes.count() > 0) first_s = std::min(first_s, ready);
  }
  if (job.ports.empty()) return {.ready_s = last_s};
  JobTiming out{.ready_s = first_s};
  if (last_s == first_s) return out;
  const double span_s = std::max(last_s, last_port_done(plan, job, arrived_s)) - first_s;
  if (span_s > job.alone_s) out.most_rate = job.work / span_s;
  return out;
}

}  // namespace pipecast
