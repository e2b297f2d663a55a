#include "app/report/fabric_report.hpp"

#include "app/report/table.hpp"

namespace pipecast {

namespace {

double per_endpoint(const FabricCase& fabric) {
  return fabric.cost.count() / static_cast<double>(fabric.count.endpoints);
}

std::string_view name_of(FabricRouting routing) {
  switch (routing) {
    case FabricRouting::kStatic:
      return "static";
    case FabricRouting::kEcmp:
      return "ecmp";
    case FabricRouting::kAdaptive:
      return "adaptive";
  }
  return "";
}

}  // namespace

nlohmann::ordered_json fabric_json(const FabricCase& fabric) {
  return {{"topology", fabric.cluster.fabric.topology},
          {"routing", name_of(fabric.cluster.fabric.routing)},
          {"endpoints", fabric.count.endpoints},
          {"switches", fabric.count.switches},
          {"links", fabric.count.links},
          {"cost_usd", fabric.cost.count()},
          {"cost_per_endpoint_usd", per_endpoint(fabric)}};
}

std::string fabric_text(const FabricCase& fabric) {
  const auto whole = [](std::int64_t count) { return grouped(static_cast<double>(count)); };
  return fmt::format(
      "{}, {} routing: {} ports, {} switches, {} cables between switches\n"
      "{} USD for switches and cables, {} USD a port\n",
      fabric.cluster.fabric.topology, name_of(fabric.cluster.fabric.routing),
      whole(fabric.count.endpoints), whole(fabric.count.switches), whole(fabric.count.links),
      grouped(fabric.cost.count()), grouped(per_endpoint(fabric)));
}

}  // namespace pipecast
