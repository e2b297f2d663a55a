#include <fmt/format.h>

#include "app/commands/command.hpp"
#include "app/commands/command_line.hpp"
#include "app/network/fabric_case.hpp"
#include "app/report/fabric_report.hpp"
#include "app/report/network_report.hpp"
#include "base/error.hpp"

namespace pipecast {

namespace {

namespace po = boost::program_options;

TransferOptions options_of(const CommandLine& line) {
  TransferOptions out;
  const std::string mode = line.text("mode");
  require(mode == "flow" || mode == "coflow", "--mode: unknown '{}'; it is flow or coflow", mode);
  if (mode == "coflow") out.mode = NetworkMode::kCoflow;
  if (!line.has("arbitration")) return out;
  const std::string arbitration = line.text("arbitration");
  require(arbitration == "flow" || arbitration == "job",
          "--arbitration: unknown '{}'; it is flow or job", arbitration);
  require(out.mode == NetworkMode::kCoflow,
          "--arbitration is between the jobs of --mode coflow; with --mode flow every flow counts");
  if (arbitration == "job") out.arbitration = Arbitration::kJob;
  return out;
}

/// A fabric is costed, and what its collectives move is completed.
int run_fabric(const CommandLine& line, const TransferOptions& options, std::size_t limit) {
  const FabricCase fabric = load_fabric_case(line.text("CASE"), line.sets());
  const TransferPlan& plan = fabric.network.plan;
  const Completion completion = complete_transfers(plan, options);
  if (line.talks()) {
    fmt::print("{}", fabric_text(fabric));
    if (!plan.flows.empty())
      fmt::print("\n{}", network_text(fabric.network, options, completion, limit));
  }
  nlohmann::ordered_json json = network_json(plan, completion);
  json["fabric"] = fabric_json(fabric);
  line.write_json(json);
  return 0;
}

int run_network(const std::vector<std::string>& arguments) {
  CommandLine line(
      "network CASE.json|CASE.yaml [options]",
      "Completes a set of flows that share links: when each is complete, and how busy each link\n"
      "is. A flow takes bandwidth from latency_s after the later of start_s and the completion of\n"
      "the flows in `after`; flows that are on a link together share it max-min fairly.");
  line.options().add_options()                                                        //
      ("mode", po::value<std::string>()->default_value("flow")->value_name("M"),      //
       "flow: every flow by itself; coflow: the flows of a group progress together")  //
      ("arbitration", po::value<std::string>()->value_name("A"),                      //
       "with --mode coflow, what counts at a link: flow (default; a lone flow beside seven of a "  //
       "group gets 1/8) or job (1/2)")                                 //
      ("limit", po::value<int>()->default_value(20)->value_name("N"),  //
       "lines of each table, 0: all; --json gives everything")         //
      ("set", po::value<std::vector<std::string>>()->value_name("KEY=VALUE"),
       "set a key of the file, such as cluster.fabric.routing=ecmp or links.0.bandwidth_Bps=0; "
       "may be repeated");
  line.add_positional("CASE", "format pipecast-fabric/1, network-case/1 or network-packet-case/1");
  if (!line.parse(arguments)) return 0;
  const TransferOptions options = options_of(line);
  const int limit = line.get<int>("limit");
  require(limit >= 0, "--limit: {} is negative; expected a number of lines, or 0 for all", limit);

  if (is_fabric_case(line.text("CASE"))) {
    return run_fabric(line, options, static_cast<std::size_t>(limit));
  }
  const NetworkCase network = load_network_case(line.text("CASE"), line.sets());
  const Completion completion = complete_transfers(network.plan, options);
  if (line.talks()) {
    fmt::print("{}", network_text(network, options, completion, static_cast<std::size_t>(limit)));
  }
  line.write_json(network_json(network.plan, completion));
  return 0;
}

const Register<Command> kEntry{"network",
                               {run_network, "complete a set of flows on links that they share"}};

}  // namespace

}  // namespace pipecast
