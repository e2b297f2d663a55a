#include "app/validate/exchange_rows.hpp"

#include <fmt/format.h>

#include <map>

#include "app/calibration/exchange_tables.hpp"
#include "app/validate/compared.hpp"

namespace pipecast {

namespace {

/// Appends the rows of one table: first all dispatches, then all combines, and of those one row for
/// every number that `part_of(const MeasuredExchange&)` gives, in words `part_text(number)`.
template <class PartOf, class PartText>
void add_exchanges(std::vector<ValidationRow>& out, const std::vector<MeasuredExchange>& exchanges,
                   const ClusterSpec& cluster, const CalibrationSpec& calibration,
                   const std::string& file, PartOf part_of, PartText part_text) {
  for (const bool dispatch : {true, false}) {
    std::map<int, Compared> parts;
    for (const MeasuredExchange& exchange : exchanges) {
      if (exchange.dispatch() != dispatch) continue;
      const TransferCost cost = all_to_all_time(exchange.load, cluster, calibration, exchange.sms);
      parts[part_of(exchange)].add(to_microseconds(cost.time), exchange.time_us);
    }
    for (const auto& [part, compared] : parts) {
      out.push_back(
          row_of(fmt::format("DeepEP {} {}", dispatch ? "dispatch" : "combine", part_text(part)),
                 "traces/" + file, compared));
    }
  }
}

}  // namespace

std::vector<ValidationRow> exchange_rows(const Scenario& h800, const CalibratedCluster& h100,
                                         const std::filesystem::path& traces) {
  std::vector<ValidationRow> out;
  add_exchanges(
      out, published_exchanges(traces, h800.model, h800.cluster.gpus_per_node), h800.cluster,
      h800.calibration, kPublishedExchanges, [](const MeasuredExchange&) { return 0; },
      [](int) { return "on H800, 8 to 64 GPUs"; });
  const auto on_h100 = [&](const char* file, auto part_of, auto part_text) {
    add_exchanges(out, timed_exchanges(traces, file, h100.cluster.gpus_per_node), h100.cluster,
                  h100.calibration, file, part_of, part_text);
  };
  on_h100(
      kExchangesInNode, [](const MeasuredExchange& exchange) { return exchange.sms; },
      [](int sms) { return fmt::format("on H100, 1 node, {} SMs", sms); });
  on_h100(
      kExchangesAcrossNodes,
      [](const MeasuredExchange& exchange) { return exchange.nodes <= kUncongestedNodes ? 0 : 1; },
      [](int congested) {
        return congested == 0 ? "on H100, 1 to 4 nodes, 4 to 24 SMs"
                              : "on H100, 8 nodes: congested, not modelled";
      });
  return out;
}

}  // namespace pipecast
