#include <fmt/format.h>

#include <algorithm>
#include <thread>

#include "app/commands/command.hpp"
#include "app/commands/command_line.hpp"
#include "app/commands/numerics_options.hpp"
#include "app/numerics/gemm_study.hpp"
#include "app/numerics/layer_study.hpp"
#include "app/numerics/moments_study.hpp"
#include "app/numerics/quantise_study.hpp"
#include "app/report/numerics_report.hpp"
#include "app/report/progress.hpp"
#include "base/error.hpp"
#include "base/text.hpp"

namespace pipecast {

namespace {

namespace po = boost::program_options;

constexpr int kMostExtent = 1 << 20;
constexpr int kMostThreads = 1024;

/// What a study is run with besides its own options.
struct Run {
  std::uint64_t seed = 0;
  int threads = 1;
  NumericsProgress progress;
};

void declare_samples(CommandLine& line) {
  add_list(line, "distribution", "normal", "of the numbers: normal, N(0, 1), or uniform, U(0, 1)");
  add_list(line, "outliers", "0", "fraction of the numbers that are outliers, from 0 to 1");
  add_list(line, "factor", "100", "what outliers are multiplied with");
}

void declare_gemm(CommandLine& line) {
  add_list(line, "k", "4096", "length of the sums, a multiple of 32");
  add_list(line, "promotion", "none,128",
           "partial sums of so many products are added in FP32; none: the tensor core adds all");
  add_list(line, "bits", "13", "fraction bits of the tensor core's sums (13: Hopper; 23: as FP32)");
  add_list(line, "format", "e4m3", "of the operands: e4m3 or e5m2");
  add_list(line, "tile", "tensor",
           "numbers of the left operand that share a scale: tensor, row, or ROWSxCOLUMNS, columns "
           "along k (DeepSeek-V3: 1x128)");
  add_list(line, "block", "tensor", "the same of the right operand (DeepSeek-V3: 128x128)");
  add_list(line, "scales", "fp32", "fp32, power-of-two (rounded up), or none");
  declare_samples(line);
  add_list(line, "rows", "128", "rows of the product");
  add_list(line, "columns", "128", "columns of the product");
}

NumericsTable run_gemm(const CommandLine& line, const Run& run) {
  return study_gemm({.k = whole_numbers(line, "k", 32, kMostExtent),
                     .promotion = whole_numbers(line, "promotion", 32, kMostExtent, "none"),
                     .fraction_bits = whole_numbers(line, "bits", 1, 23),
                     .format = fp8_formats(line),
                     .tile = tiles(line, "tile"),
                     .block = tiles(line, "block"),
                     .scales = scale_kinds(line),
                     .distribution = distributions(line),
                     .outliers = real_numbers(line, "outliers", 0, 1),
                     .factor = real_numbers(line, "factor", 0, 1e6),
                     .rows = whole_number(line, "rows", 1, kMostExtent),
                     .columns = whole_number(line, "columns", 1, kMostExtent),
                     .seed = run.seed,
                     .threads = run.threads,
                     .progress = run.progress});
}

void declare_quantise(CommandLine& line) {
  add_list(line, "format", "e4m3,e5m2,e5m6,bf16",
           "e4m3, e5m2, e5m6, fp16, bf16, fp32, or any eXmY");
  add_list(line, "tile", "tensor,128x128,1x128",
           "numbers that share a scale: tensor, row, or ROWSxCOLUMNS");
  add_list(line, "scales", "fp32", "fp32, power-of-two (rounded up), or none");
  declare_samples(line);
  add_list(line, "rows", "512", "rows of the tensor");
  add_list(line, "columns", "1024", "columns of the tensor");
}

NumericsTable run_quantise(const CommandLine& line, const Run& run) {
  return study_quantise({.format = small_formats(line),
                         .tile = tiles(line, "tile"),
                         .scales = scale_kinds(line),
                         .distribution = distributions(line),
                         .outliers = real_numbers(line, "outliers", 0, 1),
                         .factor = real_numbers(line, "factor", 0, 1e6),
                         .rows = whole_number(line, "rows", 1, kMostExtent),
                         .columns = whole_number(line, "columns", 1, kMostExtent),
                         .seed = run.seed,
                         .threads = run.threads,
                         .progress = run.progress});
}

void declare_moments(CommandLine& line) {
  add_list(line, "format", "fp32,bf16,fp16",
           "of both moments: e4m3, e5m2, e5m6, fp16, bf16, fp32, or any eXmY");
  add_list(line, "beta2", "0.95,0.999", "decay of the second moment (DeepSeek-V3: 0.95)");
  add_list(line, "steps", "10,100,1000", "training steps after which to measure");
  add_list(line, "rate", "0.001", "learning rate");
}

NumericsTable run_moments(const CommandLine& line, const Run& run) {
  constexpr int kMostSteps = 100'000;
  constexpr double kLargestBeta = 0.9999;
  return study_moments({.format = small_formats(line),
                        .beta2 = real_numbers(line, "beta2", 0, kLargestBeta),
                        .steps = whole_numbers(line, "steps", 1, kMostSteps),
                        .learning_rate = real_number(line, "rate", 1e-9, 1),
                        .seed = run.seed,
                        .threads = run.threads,
                        .progress = run.progress});
}

void declare_layer(CommandLine& line) {
  add_list(line, "recipe", "all", "what is rounded: names in the first column, or all");
  add_list(line, "outliers", "0", "fraction of the input's numbers that are outliers, 0 to 1");
  add_list(line, "factor", "100", "what outliers are multiplied with");
  add_list(line, "tokens", "128", "of one sequence");
  add_list(line, "hidden", "256", "hidden size, a multiple of 128");
  add_list(line, "experts", "8", "routed experts, a multiple of 4");
}

NumericsTable run_layer(const CommandLine& line, const Run& run) {
  constexpr int kMostTokens = 4096;
  constexpr int kMostHidden = 2048;
  constexpr int kMostExperts = 256;
  return study_layer({.recipe = recipes(line),
                      .outliers = real_numbers(line, "outliers", 0, 1),
                      .factor = real_numbers(line, "factor", 0, 1e6),
                      .tokens = whole_number(line, "tokens", 1, kMostTokens),
                      .hidden = whole_number(line, "hidden", 128, kMostHidden),
                      .experts = whole_number(line, "experts", 8, kMostExperts),
                      .seed = run.seed,
                      .threads = run.threads,
                      .progress = run.progress});
}

struct Study {
  std::string_view name;
  std::string_view summary;
  const char* measure;  ///< that a chart shows unless told otherwise
  void (*declare)(CommandLine& line);
  NumericsTable (*run)(const CommandLine& line, const Run& run);
};

constexpr Study kStudies[] = {
    {"gemm", "FP8 matrix products: error of the tensor cores' sums and of the operands' rounding.",
     "accumulation_largest_over_mean", declare_gemm, run_gemm},
    {"quantise", "Tensors rounded to small formats with a scale per tile.", "bulk_relative_rms",
     declare_quantise, run_quantise},
    {"layer",
     "A reduced transformer layer with experts, forward and backward: what each rounding of an FP8 "
     "recipe does to output, gradients and routing.",
     "output", declare_layer, run_layer},
    {"moments", "AdamW whose moments are stored in small formats, over training steps.",
     "weight_divergence", declare_moments, run_moments},
};

std::vector<std::string> study_names() {
  std::vector<std::string> out;
  for (const Study& study : kStudies) out.emplace_back(study.name);
  return out;
}

[[noreturn]] void refuse_study(const std::string& word) {
  const std::string meant = nearest(word, study_names());
  throw Error(fmt::format("unknown study '{}'{}; studies: {}", word,
                          meant.empty() ? "" : fmt::format(", did you mean {}?", meant),
                          join(study_names())));
}

/// The study that the arguments name, whose options are then known; nothing if they name none.
const Study* study_of(const std::vector<std::string>& arguments) {
  for (const std::string& word : arguments) {
    for (const Study& study : kStudies) {
      if (study.name == word) return &study;
    }
  }
  if (!arguments.empty() && arguments[0].rfind('-', 0) != 0) refuse_study(arguments[0]);
  return nullptr;
}

int run_numerics(const std::vector<std::string>& arguments) {
  const Study* const study = study_of(arguments);
  const std::string name = study == nullptr ? fmt::format("{}", fmt::join(study_names(), "|"))
                                            : std::string(study->name);
  CommandLine line("numerics " + name + " [options]",
                   study == nullptr ? "Studies errors of small number formats; --help after a "
                                      "study tells its options."
                                    : std::string(study->summary));
  line.add_positional("STUDY", "what is studied: " + join(study_names()));
  const int cores = static_cast<int>(std::max(1U, std::thread::hardware_concurrency()));
  if (study != nullptr) study->declare(line);
  line.options().add_options()  //
      ("seed", po::value<std::uint64_t>()->default_value(1)->value_name("N"),
       "of all random numbers")  //
      ("threads", po::value<std::string>()->default_value(std::to_string(cores))->value_name("N"),
       "the result does not depend on it")  //
      ("svg", po::value<std::string>()->value_name("FILE"),
       "draw a measure over the first option that has a list of numbers")  //
      ("measure", po::value<std::string>()->value_name("KEY"),
       "of the picture: a key of the rows of --json");
  if (!line.parse(arguments)) return 0;
  // A word that is the value of an option may have passed for the study.
  if (study == nullptr) refuse_study(line.text("STUDY"));
  require(line.text("STUDY") == study->name, "the study's name comes first: numerics {} [options]",
          line.text("STUDY"));
  require(line.has("svg") || !line.has("measure"), "--measure is of a picture; give --svg too");
  ProgressBar progress(!line.quiet());
  const NumericsTable table =
      study->run(line, {.seed = line.seed(),
                        .threads = whole_number(line, "threads", 1, kMostThreads),
                        .progress = [&progress](std::string_view stage, double fraction) {
                          progress.update(stage, fraction);
                        }});
  progress.finish();
  if (line.has("svg")) {
    const std::string measure = line.has("measure") ? line.text("measure") : study->measure;
    write_file(line.text("svg"), numerics_svg(table, measure));
  }
  if (line.talks()) fmt::print("{}", numerics_text(table));
  nlohmann::ordered_json document = {
      {"format", "pipecast-numerics/1"}, {"version", PIPECAST_VERSION}, {"seed", line.seed()}};
  document.update(numerics_json(table));
  line.write_json(document);
  return 0;
}

const Register<Command> kEntry{"numerics",
                               {run_numerics, "study errors of FP8 and other small formats"}};

}  // namespace

}  // namespace pipecast
