/// Case and fabric files on one text: whatever the bytes, the plan completes or Error is thrown.
/// Lines "#--set path=value" at the top are applied, a text that begins with { is JSON.
#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

#include "app/network/fabric_case.hpp"
#include "base/assert.hpp"
#include "sets_of.hpp"
#include "sim/network/transfers.hpp"

namespace {

using namespace pipecast;

NetworkCase load(const std::string& text) {
  const std::string name = text.rfind('{', 0) == 0 ? "fuzz.json" : "fuzz.yaml";
  // No file but the one text: `extends` leads nowhere.
  const auto read = [&](const std::filesystem::path& path) {
    require(path == name, "cannot be read: no such file");
    return text;
  };
  const std::vector<std::string> sets = fuzz::sets_of(text);
  return is_fabric_case(name, read) ? load_fabric_case(name, sets, read).network
                                    : load_network_case(name, sets, read);
}

void complete(const TransferPlan& plan, const TransferOptions& options) {
  const Completion completion = complete_transfers(plan, options);
  for (std::size_t f = 0; f < plan.flows.size(); ++f) {
    const double least_s = plan.flows[f].start_s + plan.flows[f].latency_s;
    PIPECAST_ASSERT(std::isfinite(completion.flow_s[f]) && completion.flow_s[f] >= least_s);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string text(reinterpret_cast<const char*>(data), size);
  try {
    const TransferPlan plan = load(text).plan;
    // Larger ones take longer, and nothing else.
    constexpr std::size_t kMostFlows = 2'000;
    if (plan.flows.size() > kMostFlows) return 0;
    complete(plan, {});
    complete(plan, {.mode = NetworkMode::kCoflow, .arbitration = Arbitration::kFlow});
    complete(plan, {.mode = NetworkMode::kCoflow, .arbitration = Arbitration::kJob});
  } catch (const Error&) {
    return 0;
  }
  return 0;
}
