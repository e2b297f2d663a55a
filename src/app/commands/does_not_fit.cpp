#include "app/commands/does_not_fit.hpp"

#include <fmt/format.h>

#include "app/config/load.hpp"
#include "app/report/fixes_report.hpp"

namespace pipecast {

void refuse_with_fixes(const DoesNotFit& why, const Scenario& scenario, const CommandLine& line,
                       const FixOptions& options) {
  const LoadWith load = [&](const std::vector<std::string>& changes) {
    std::vector<std::string> sets = line.sets();
    sets.insert(sets.end(), changes.begin(), changes.end());
    return load_scenario(line.text("scenario"), sets).scenario;
  };
  const FixSearch search = find_fixes(scenario, load, options);
  throw DoesNotFit(fmt::format("{}\n{}", why.what(), fixes_text(search)));
}

}  // namespace pipecast
