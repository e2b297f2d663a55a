#include <fmt/format.h>

#include <cmath>

#include "app/commands/command.hpp"
#include "app/commands/command_line.hpp"
#include "app/config/load.hpp"
#include "app/report/comparison_report.hpp"

namespace pipecast {

namespace {

namespace po = boost::program_options;

ComparisonView view_of(const CommandLine& line) {
  const int limit = line.get<int>("limit");
  require(limit >= 0, "--limit: {} is negative; expected a number of lines, or 0 for all", limit);
  const double threshold = line.get<double>("threshold");
  require(threshold >= 0 && std::isfinite(threshold),
          "--threshold: {} is no threshold; expected a percentage from 0 on", threshold);
  return {.limit = static_cast<std::size_t>(limit), .threshold_percent = threshold};
}

int run_compare(const std::vector<std::string>& arguments) {
  CommandLine line(
      "compare A.json B.json [options]",
      "Sets two results of any command side by side: the settings that differ, then the\n"
      "numbers, largest difference first. The weight that orders them is the difference as a\n"
      "share of the largest value with the same unit in the same section of the results.\n"
      "Pipeline ranks that differ in the same quantity share a line, with the largest.\n"
      "`simulator` (what a simulation took) and `version` are not compared.");
  line.options().add_options()                                                     //
      ("limit", po::value<int>()->default_value(20)->value_name("N"),              //
       "lines of each table, 0: all; --json gives everything")                     //
      ("threshold", po::value<double>()->default_value(0)->value_name("PERCENT"),  //
       "leave out of the printed table what changes by less; what was 0 is shown");
  line.add_positional("A", "result, written with --json");
  line.add_positional("B", "result, written with --json");
  if (!line.parse(arguments)) return 0;
  const ComparisonView view = view_of(line);

  const ComparedNames names{line.text("A"), line.text("B")};
  const Comparison comparison = compare_results(load_json(names.a), load_json(names.b));
  if (line.talks()) fmt::print("{}", comparison_text(names, comparison, view));
  line.write_json(comparison_json(names, comparison));
  return 0;
}

const Register<Command> kEntry{
    "compare", {run_compare, "two results side by side, largest differences first"}};

}  // namespace

}  // namespace pipecast
