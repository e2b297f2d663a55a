#include "app/commands/command_line.hpp"

#include <fmt/format.h>

#include <cstdio>
#include <fstream>
#include <sstream>
#include <system_error>

#include "app/report/output_path.hpp"
#include "base/error.hpp"
#include "base/text.hpp"

namespace pipecast {

namespace po = boost::program_options;

CommandLine::CommandLine(std::string usage, std::string summary)
    : usage_(std::move(usage)), summary_(std::move(summary)) {
  options_.add_options()                                                                          //
      ("json", po::value<std::string>()->value_name("FILE"),                                      //
       "write the result as JSON; - is standard output, and then nothing else is printed there")  //
      ("quiet,q", "print errors only")                                                            //
      ("help,h", "show this text")                                                                //
      ("version", "show the version");
}

void CommandLine::add_scenario_options() {
  options_.add_options()                                                              //
      ("set", po::value<std::vector<std::string>>()->value_name("KEY=VALUE"),         //
       "override a key of the scenario, e.g. plan.communication_sms=24; repeatable")  //
      ("seed", po::value<std::uint64_t>()->default_value(1)->value_name("N"),         //
       "seed of everything random")                                                   //
      ("print-config",
       "print the complete resolved scenario with the origin of every value, and stop");
}

void CommandLine::add_positional(const std::string& name, const std::string& description,
                                 bool optional) {
  hidden_.add_options()(name.c_str(), po::value<std::string>(), description.c_str());
  positional_.add(name.c_str(), 1);
  if (!optional) required_.push_back(name);
}

bool CommandLine::parse(const std::vector<std::string>& arguments) {
  po::options_description all;
  all.add(options_).add(hidden_);
  try {
    const int style = po::command_line_style::unix_style & ~po::command_line_style::allow_guessing;
    const po::parsed_options parsed = po::command_line_parser(arguments)
                                          .options(all)
                                          .positional(positional_)
                                          .style(style)
                                          .allow_unregistered()
                                          .run();
    refuse_unknown(po::collect_unrecognized(parsed.options, po::exclude_positional));
    po::store(parsed, values_);
    po::notify(values_);
  } catch (const po::too_many_positional_options_error&) {
    // The superfluous argument may be the value of a misspelt option.
    refuse_unknown(unknown_options(arguments));
    throw Error(fmt::format("too many arguments; usage: pipecast {}", usage_));
  } catch (const po::error& error) {
    throw Error(fmt::format("{}; usage: pipecast {}", error.what(), usage_));
  }
  if (has("help")) {
    fmt::print("{}", help());
    return false;
  }
  if (has("version")) {
    fmt::print("pipecast {}\n", PIPECAST_VERSION);
    return false;
  }
  for (const std::string& name : required_) {
    require(has(name), "{} is missing; usage: pipecast {}", name, usage_);
  }
  return true;
}

std::vector<std::string> CommandLine::unknown_options(
    const std::vector<std::string>& arguments) const {
  std::vector<std::string> out;
  for (const std::string& word : arguments) {
    if (word.size() <= 2 || word.rfind("--", 0) != 0) continue;
    const std::string name = word.substr(2, word.find('=') - 2);
    if (options_.find_nothrow(name, false) == nullptr) out.push_back(word);
  }
  return out;
}

void CommandLine::refuse_unknown(const std::vector<std::string>& unrecognised) const {
  if (unrecognised.empty()) return;
  std::vector<std::string> known;
  for (const auto& option : options_.options()) known.push_back(option->long_name());
  const std::string& word = unrecognised.front();
  const std::string name = word.substr(
      word.find_first_not_of('-') == std::string::npos ? 0 : word.find_first_not_of('-'));
  const std::string close = nearest(name.substr(0, name.find('=')), known);
  require(false, "unknown option '{}'{}; usage: pipecast {}", word,
          close.empty() ? "" : fmt::format(", did you mean --{}?", close), usage_);
}

std::string CommandLine::help() const {
  std::ostringstream out;
  out << "Usage: pipecast " << usage_ << "\n\n" << summary_ << "\n\n" << options_;
  return out.str();
}

std::vector<std::string> CommandLine::sets() const {
  return has("set") ? get<std::vector<std::string>>("set") : std::vector<std::string>{};
}

void CommandLine::write_json(const nlohmann::ordered_json& document) const {
  if (!has("json")) return;
  // File names may be no UTF-8, which JSON has to be.
  const std::string content =
      document.dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n";
  if (text("json") == "-") {
    std::fwrite(content.data(), 1, content.size(), stdout);
  } else {
    write_file(text("json"), content);
  }
}

void write_file(const std::filesystem::path& path, const std::string& content) {
  const std::filesystem::path aside = path_while_writing(path);
  std::ofstream out(aside, std::ios::binary | std::ios::trunc);
  out << content;
  out.close();
  std::error_code failure;
  if (out && aside != path) std::filesystem::rename(aside, path, failure);
  if (!out || failure) {
    std::error_code ignored;
    if (aside != path) std::filesystem::remove(aside, ignored);
    throw Error(fmt::format("{}: cannot be written", path.string()));
  }
}

}  // namespace pipecast
