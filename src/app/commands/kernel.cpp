#include <fmt/format.h>

#include <algorithm>
#include <filesystem>

#include "app/commands/command.hpp"
#include "app/commands/command_line.hpp"
#include "app/config/load.hpp"
#include "app/report/kernel_report.hpp"
#include "base/text.hpp"

namespace pipecast {

namespace {

namespace po = boost::program_options;

constexpr std::string_view kSummary =
    "Predicts one kernel alone on one GPU: its time, cycles and what limits it; or every row of a "
    "table of measured ones.";
constexpr std::size_t kWorstShown = 10;

/// Options of the command whose next argument is no value of theirs.
bool takes_no_value(std::string_view option) {
  return option == "--quiet" || option == "-q" || option == "--help" || option == "-h" ||
         option == "--version" || option == "--explain";
}

/// What is needed of the command line before its options are known: they are the operation's.
struct Preview {
  std::optional<std::string> operation;
  std::optional<std::string> precision;
};

Preview preview(const std::vector<std::string>& arguments) {
  Preview out;
  for (std::size_t i = 0; i < arguments.size(); ++i) {
    const std::string& word = arguments[i];
    const bool option = word.size() > 1 && word[0] == '-';
    if (!option) {
      if (!out.operation) out.operation = word;
      continue;
    }
    const std::size_t equals = word.find('=');
    const bool own_value = equals != std::string::npos;
    const bool next_value = !own_value && !takes_no_value(word) && i + 1 < arguments.size();
    if (next_value) ++i;
    const bool precision = word.substr(0, equals) == "--precision";
    if (precision && own_value) out.precision = word.substr(equals + 1);
    if (precision && next_value) out.precision = arguments[i];
  }
  return out;
}

/// `--kv_heads` is `--kv-heads`, as in tables.
std::vector<std::string> with_hyphens(std::vector<std::string> arguments) {
  for (std::string& word : arguments) {
    if (word.rfind("--", 0) != 0) continue;
    const auto end =
        word.begin() + static_cast<std::ptrdiff_t>(std::min(word.find('='), word.size()));
    std::replace(word.begin(), end, '_', '-');
  }
  return arguments;
}

/// "M" for m, "SEQUENCE" for sequence, "bfloat16|fp8" for words.
std::string value_hint(const KernelOption& option) {
  if (!option.names.empty()) {
    std::string out;
    for (const NamedValue& named : option.names) {
      out += (out.empty() ? "" : "|") + std::string(named.name);
    }
    return out;
  }
  std::string out(option.name);
  std::transform(out.begin(), out.end(), out.begin(), [](char c) {
    return 'a' <= c && c <= 'z' ? static_cast<char>(c - 'a' + 'A') : c;
  });
  return out;
}

std::string usage(const Preview& asked, std::span<const KernelOption> options) {
  if (!asked.operation) return "kernel OP [options]";
  std::string out = "kernel " + *asked.operation;
  for (const KernelOption& option : options) {
    const std::string one = fmt::format("--{} {}", hyphened(option.name), value_hint(option));
    out += option.fallback ? fmt::format(" [{}]", one) : " " + one;
  }
  return out + " [options]";
}

std::string word_of(const KernelOption& option, std::int64_t value) {
  for (const NamedValue& named : option.names) {
    if (named.value == value) return std::string(named.name);
  }
  return std::to_string(value);
}

std::string meaning(const KernelOption& option) {
  return option.fallback
             ? fmt::format("{} (default {})", option.meaning, word_of(option, *option.fallback))
             : std::string(option.meaning);
}

void declare_options(CommandLine& line, std::span<const KernelOption> options) {
  line.add_positional("OP", "operation or family of them");
  const auto text = [](const std::string& name) {
    return po::value<std::string>()->value_name(name);
  };
  for (const KernelOption& option : options) {
    line.options().add_options()(hyphened(option.name).c_str(), text(value_hint(option)),
                                 meaning(option).c_str());
  }
  line.options().add_options()                                                               //
      ("precision", text("P"), "fp8 or bf16: chooses within a family such as gemm")          //
      ("sms", text("S"), "SMs that the kernel may use (default: all of the GPU)")            //
      ("gpu", text("GPU")->default_value("h800"), "a shipped GPU, or a YAML file")           //
      ("calibration", text("FILE"), "constants of the kernels (default: those of the GPU)")  //
      ("explain", "say in words and numbers how the time comes about")                       //
      ("table", text("FILE.csv"),
       "predict every row; columns are the operation's options, and time_us where measured")  //
      ("worst", text("N"), "with --table: how many of the worst rows to show (default 10)")   //
      ("roofline", text("FILE.svg"), "draw arithmetic intensity against TFLOP/s");
}

std::optional<std::string> given(const CommandLine& line, const std::string& option) {
  return line.has(option) ? std::optional(line.text(option)) : std::nullopt;
}

/// A whole number from the command line.
std::optional<std::int64_t> number(const CommandLine& line, std::string_view name) {
  const std::optional<std::string> text = given(line, std::string(name));
  if (!text) return std::nullopt;
  return parse_option({name, {}}, *text);
}

KernelConstants constants_of(const CommandLine& line, std::span<const KernelOption> options) {
  KernelConstants out;
  for (const KernelOption& option : options) {
    const std::optional<std::string> text = given(line, hyphened(option.name));
    out.values.push_back(text ? std::optional(parse_option(option, *text)) : std::nullopt);
  }
  out.sms = number(line, "sms");
  return out;
}

KernelAnswer answer_of(const CommandLine& line, const KernelName& name,
                       const KernelMachine& machine) {
  const std::span<const KernelOption> options = options_of(name);
  const KernelConstants given = constants_of(line, options);
  KernelAnswer out;
  std::vector<std::int64_t> values;
  for (std::size_t i = 0; i < options.size(); ++i) {
    const KernelOption& option = options[i];
    require(given.values[i] || option.fallback, "--{} is missing: {}", hyphened(option.name),
            option.meaning);
    values.push_back(given.values[i] ? *given.values[i] : *option.fallback);
  }
  const Operation operation = make_operation(name, values);
  out.prediction = predict_kernel(operation, machine, given.sms);
  // A single product of the family `gemm` need not have a number of groups.
  for (const KernelOption& own : Registry<KernelKind>::instance().find(operation.op).options) {
    const auto same = [&](const KernelOption& option) { return option.name == own.name; };
    const auto at = std::find_if(options.begin(), options.end(), same) - options.begin();
    const std::int64_t value = values[static_cast<std::size_t>(at)];
    out.shape.push_back({std::string(own.name), word_of(own, value), value == own.fallback});
  }
  return out;
}

void draw(const CommandLine& line, const RooflinePicture& picture) {
  write_file(line.text("roofline"), roofline_svg(picture));
}

int predict_one(const CommandLine& line, const KernelName& name, const KernelMachine& machine) {
  require(!line.has("worst"), "--worst counts rows of a table; give --table too");
  const KernelAnswer answer = answer_of(line, name, machine);
  if (line.has("roofline")) draw(line, roofline_picture(answer, machine));
  if (line.talks()) {
    fmt::print("{}", line.has("explain") ? kernel_explanation(answer, machine)
                                         : kernel_text(answer, machine));
  }
  line.write_json(kernel_json(answer, machine));
  return 0;
}

int predict_rows(const CommandLine& line, const KernelName& name, const KernelMachine& machine) {
  require(!line.has("explain"), "--explain is for one shape, --table for many");
  const std::optional<std::int64_t> worst = number(line, "worst");
  const CsvTable table(line.text("table"));
  const std::vector<KernelTableRow> rows =
      predict_table(table, name, constants_of(line, options_of(name)), machine);
  if (line.has("roofline")) draw(line, roofline_picture(rows, machine));
  const KernelTableAnswer answer{name, table, rows};
  if (line.talks()) {
    const auto shown = static_cast<std::size_t>(worst.value_or(kWorstShown));
    fmt::print("{}", kernel_table_text(answer, machine, shown));
  }
  line.write_json(kernel_table_json(answer, machine));
  return 0;
}

int run_kernel(const std::vector<std::string>& given_arguments) {
  const std::vector<std::string> arguments = with_hyphens(given_arguments);
  const Preview asked = preview(arguments);
  std::optional<KernelName> name;
  std::span<const KernelOption> options;
  if (asked.operation) {
    name = kernel_name(*asked.operation, asked.precision);
    options = options_of(*name);
  }
  CommandLine line(usage(asked, options), std::string(kSummary));
  declare_options(line, options);
  if (!line.parse(arguments)) return 0;
  const KernelMachine machine = kernel_machine(line.text("gpu"), given(line, "calibration"));
  return line.has("table") ? predict_rows(line, *name, machine) : predict_one(line, *name, machine);
}

const Register<Command> kEntry{"kernel",
                               {run_kernel, "predict one kernel on one GPU, or a table of them"}};

}  // namespace

}  // namespace pipecast
