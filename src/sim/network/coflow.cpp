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

/// A port that serves its flows at rates in proportion to their weights: which weight is left when
/// some bytes have gone through.
/// @returns falling weights, the whole one first
std::vector<SharedLinks::Fade> fades_of_port(const TransferPlan& plan,
                                             std::vector<FlowIndex> flows) {
  const auto level = [&](FlowIndex f) { return bytes_of(plan.flows[f]) / plan.flows[f].weight; };
  std::stable_sort(flows.begin(), flows.end(),
                   [&](FlowIndex a, FlowIndex b) { return level(a) < level(b); });
  // Summed from the last, so that the weight that is left is no difference of rounded sums.
  std::vector<SharedLinks::Fade> out(flows.size());
  double weight = 0;
  for (std::size_t i = flows.size(); i-- > 0;) {
    weight += plan.flows[flows[i]].weight;
    out[i].weight = weight;
  }
  double done = 0;
  for (std::size_t i = 0; i + 1 < flows.size(); ++i) {
    done += bytes_of(plan.flows[flows[i]]);
    out[i + 1].progress = done + out[i + 1].weight * level(flows[i]);
  }
  return out;
}

/// Sums the flows of jobs by port; its list is as long as the plan's links and used again.
class PortSums {
 public:
  explicit PortSums(const TransferPlan& plan) : plan_(plan), bytes_(plan.links.size()) {}

  void complete(TransferJob& job, Arbitration arbitration) {
    used_.clear();
    for (const FlowIndex f : job.flows) {
      for (const LinkIndex l : plan_.flows[f].links) {
        if (plan_.flows[f].bytes.count() == 0) continue;
        if (bytes_[l] == 0) used_.push_back(l);
        bytes_[l] += bytes_of(plan_.flows[f]);
      }
    }
    LinkIndex most_loaded = 0;
    for (const LinkIndex l : used_) {
      const double alone_s = bytes_[l] / plan_.links[l].bandwidth.count();
      if (alone_s <= job.alone_s) continue;
      job.alone_s = alone_s;
      job.work = bytes_[l];
      most_loaded = l;
    }
    for (const LinkIndex l : used_) {
      job.ports.push_back({l, bytes_[l] / job.work});
      bytes_[l] = 0;
    }
    if (!used_.empty()) weigh(job, most_loaded, arbitration);
  }

 private:
  void weigh(TransferJob& job, LinkIndex most_loaded, Arbitration arbitration) {
    if (arbitration == Arbitration::kJob || job.flows.size() == 1) {
      job.weight = 0;
      for (const FlowIndex f : job.flows) {
        job.weight = std::max(job.weight, plan_.flows[f].weight);
      }
      return;
    }
    std::vector<FlowIndex> there;
    for (const FlowIndex f : job.flows) {
      const Flow& flow = plan_.flows[f];
      const bool crosses =
          std::find(flow.links.begin(), flow.links.end(), most_loaded) != flow.links.end();
      if (crosses && flow.bytes.count() > 0) there.push_back(f);
    }
    job.fades = fades_of_port(plan_, std::move(there));
    job.weight = job.fades.front().weight;
    job.fades.erase(job.fades.begin());
  }

  const TransferPlan& plan_;
  std::vector<double> bytes_;
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
