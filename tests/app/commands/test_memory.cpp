#include <catch2/catch.hpp>
#include <cmath>
#include <map>
#include <sstream>

#include "app/config/load.hpp"
#include "app/report/memory_report.hpp"
#include "base/error.hpp"
#include "run_command.hpp"

using namespace pipecast;
using namespace pipecast::testing;
using Catch::Contains;
using Catch::Matchers::WithinRel;
using Json = nlohmann::json;

namespace {

const std::string kTiny = PIPECAST_SOURCE_DIR "/configs/scenarios/tiny-moe-h100.yaml";

std::vector<std::string> with(const std::vector<std::string>& more) {
  std::vector<std::string> out = {kTiny};
  out.insert(out.end(), more.begin(), more.end());
  return out;
}

Json memory(const std::vector<std::string>& more = {}) { return run_command("memory", with(more)); }

/// A scenario's memory as the reports get it.
class Studied {
 public:
  explicit Studied(const std::vector<std::string>& sets, std::optional<int> rank = std::nullopt)
      : scenario_(load_scenario(kTiny, sets).scenario),
        answer_{.scenario = scenario_, .study = study_memory(scenario_, {}), .rank = rank} {}
  Studied(const Studied&) = delete;
  Studied& operator=(const Studied&) = delete;
  ~Studied() = default;

  [[nodiscard]] const MemoryAnswer& answer() const { return answer_; }
  [[nodiscard]] const StepMemory& memory() const { return answer_.study.memory; }

 private:
  Scenario scenario_;
  MemoryAnswer answer_;
};

/// Evaluates the arithmetic of an explanation: numbers with commas, `x`, `+`, `/`, parentheses and
/// ceil(). Words, and all in square brackets, say what a number is.
class Arithmetic {
 public:
  explicit Arithmetic(const std::string& text) {
    for (std::size_t i = 0; i < text.size();) {
      const char c = text[i];
      if (c == '[') {
        i = text.find(']', i) + 1;
      } else if (std::isdigit(static_cast<unsigned char>(c)) != 0) {
        std::string digits;
        for (; i < text.size() && std::string("0123456789.,").find(text[i]) != std::string::npos;
             ++i) {
          if (text[i] != ',') digits += text[i];
        }
        tokens_.push_back(digits);
      } else if (std::isalpha(static_cast<unsigned char>(c)) != 0 || c == '_') {
        std::string word;
        for (; i < text.size() &&
               (std::isalnum(static_cast<unsigned char>(text[i])) != 0 || text[i] == '_');
             ++i)
          word += text[i];
        if (word == "x" || word == "ceil") tokens_.push_back(word);
      } else {
        if (std::string("()+/").find(c) != std::string::npos) tokens_.emplace_back(1, c);
        ++i;
      }
    }
  }

  double value() {
    const double out = sum();
    REQUIRE(at_ == tokens_.size());
    return out;
  }

 private:
  [[nodiscard]] std::string next() const { return at_ < tokens_.size() ? tokens_[at_] : ""; }
  double sum() {
    double out = product();
    while (next() == "+") {
      ++at_;
      out += product();
    }
    return out;
  }
  double product() {
    double out = factor();
    while (next() == "x" || next() == "/") {
      const bool divides = tokens_[at_++] == "/";
      const double other = factor();
      out = divides ? out / other : out * other;
    }
    return out;
  }
  double factor() {
    const std::string token = next();
    ++at_;
    if (token == "ceil") return std::ceil(factor());
    if (token != "(") return std::stod(token);
    const double out = sum();
    REQUIRE(next() == ")");
    ++at_;
    return out;
  }

  std::vector<std::string> tokens_;
  std::size_t at_ = 0;
};

/// "1,234 B" at the end of a line.
double bytes_in(std::string text) {
  text.erase(std::remove(text.begin(), text.end(), ','), text.end());
  REQUIRE_THAT(text, Catch::EndsWith(" B"));
  return std::stod(text);
}

/// Requires every line of an explanation to come to what it says, and all lines to the sum.
double checked_sum(const std::string& explanation) {
  double sum = 0;
  std::istringstream lines(explanation);
  std::string line;
  while (std::getline(lines, line)) {
    CAPTURE(line);
    if (line.rfind("    ", 0) == 0) {
      const std::size_t equals = line.find(" = ");
      const double bytes = bytes_in(line.substr(equals + 3));
      REQUIRE(Arithmetic(line.substr(0, equals)).value() == bytes);
      sum += bytes;
    } else if (const std::size_t colon = line.find(": ");
               colon != std::string::npos && line.find(" GB", colon) != std::string::npos) {
      REQUIRE(bytes_in(line.substr(colon + 2, line.find(" = ") - colon - 2)) == sum);
    }
  }
  return sum;
}

}  // namespace

TEST_CASE("tensors sum to a rank's peak, categories too", "[commands][memory]") {
  const Json out = memory({"--set", "routing.distribution=dirichlet", "--set",
                           "routing.concentration=10", "--set", "plan.memory.ema=host"});
  REQUIRE(out.at("format") == "pipecast-memory/1");
  REQUIRE(out.at("fits") == true);
  const Json& config = out.at("config");
  REQUIRE(out.at("ranks").size() == config.at("plan").at("pp").get<std::size_t>());
  std::int64_t most = 0;
  for (const Json& rank : out.at("ranks")) {
    CAPTURE(rank.at("pipeline_rank").get<int>());
    std::map<std::string, std::int64_t> categories;
    std::int64_t sum = 0;
    for (const Json& tensor : rank.at("tensors")) {
      const auto bytes = tensor.at("bytes").get<std::int64_t>();
      categories[tensor.at("category")] += bytes;
      sum += bytes;
      REQUIRE_FALSE(tensor.at("precision").get<std::string>().empty());
      REQUIRE_FALSE(tensor.at("reason").get<std::string>().empty());
    }
    REQUIRE(sum == rank.at("peak_bytes"));
    most = std::max(most, sum);
    for (const char* key :
         {"weights", "gradients", "optimizer", "activations", "communication", "workspace"}) {
      REQUIRE(rank.at("categories").at(key) == categories[key]);
    }
    REQUIRE(rank.at("categories").at("total") == sum);
    REQUIRE(rank.at("categories").at("capacity") == out.at("capacity_bytes"));
    REQUIRE(rank.at("peak_time_s") >= 0);
    REQUIRE(rank.at("peak_time_s") <= out.at("step").at("time_s"));
    std::int64_t host = 0;
    for (const Json& tensor : rank.at("host_tensors")) host += tensor.at("bytes").get<int>();
    REQUIRE(host == rank.at("host_bytes"));
    REQUIRE(host > 0);
  }
  const auto fullest = out.at("fullest_rank").get<std::size_t>();
  REQUIRE(out.at("ranks").at(fullest).at("peak_bytes") == most);
}

TEST_CASE("a run reports the same memory", "[commands][memory]") {
  const Json run = run_command("run", with({"--mode", "folded"}));
  const Json out = memory();
  for (std::size_t rank = 0; rank < out.at("ranks").size(); ++rank) {
    REQUIRE(out.at("ranks").at(rank).at("categories") ==
            run.at("step").at("ranks").at(rank).at("memory_bytes"));
  }
}

TEST_CASE("explained arithmetic comes to the bytes of every category, whatever the plan",
          "[commands][memory]") {
  const std::vector<std::string> sets = GENERATE(
      std::vector<std::string>{}, std::vector<std::string>{"plan.zero_stage=2"},
      std::vector<std::string>{"plan.zero_stage=3", "plan.memory.ema=device"},
      std::vector<std::string>{"plan.recompute_modules=full"},
      std::vector<std::string>{"plan.precision.gemm=bf16", "plan.memory.optimizer=host"},
      std::vector<std::string>{"routing.distribution=dirichlet", "routing.concentration=10"});
  const int rank = GENERATE(0, 1);
  CAPTURE(sets, rank);
  const Studied studied(sets, rank);
  const MemoryTotals& peak = studied.memory().peak(rank).totals;
  double host = 0;
  for (const MemoryTensor& t : studied.memory().persistent(rank).on_host) {
    host += static_cast<double>(t.bytes.count());
  }
  double all = 0;
  for (std::size_t c = 0; c < kMemoryCategories; ++c) {
    const auto category = static_cast<MemoryCategory>(c);
    const std::string text = memory_explanation(studied.answer(), std::string(name_of(category)));
    const std::size_t split = text.find("\nin the node's memory\n");
    const double sum = checked_sum(text.substr(0, split));
    REQUIRE(sum == static_cast<double>(peak.of(category).count()));
    if (split != std::string::npos) host -= checked_sum(text.substr(split));
    all += sum;
  }
  REQUIRE(host == 0);
  const std::string total = memory_explanation(studied.answer(), "total");
  REQUIRE(checked_sum(total.substr(0, total.find("\nin the node's memory\n"))) == all);
  REQUIRE(all == static_cast<double>(peak.total().count()));
}

TEST_CASE("one tensor is explained by its name", "[commands][memory]") {
  const Studied studied({}, 0);
  double bytes = 0;
  for (const MemoryTensor& t : studied.memory().tensors_at_peak(0)) {
    if (t.name == "routed_gate_up") bytes += static_cast<double>(t.bytes.count());
  }
  REQUIRE(bytes > 0);
  REQUIRE(checked_sum(memory_explanation(studied.answer(), "routed_gate_up")) == bytes);
}

TEST_CASE("an unknown name is refused with the nearest, a rank without it with those that hold it",
          "[commands][memory]") {
  REQUIRE_THROWS_WITH(memory({"--rank", "0", "--explain", "activation"}),
                      Contains("pipeline rank 0 holds no 'activation' at its peak, did you mean "
                               "activations?; it holds: "));
  REQUIRE_THROWS_WITH(memory({"--rank", "1", "--explain", "embedding"}),
                      Contains("pipeline rank 1 holds no 'embedding' at its peak; these do: 0"));
}

TEST_CASE("arguments of memory out of range are refused", "[commands][memory]") {
  REQUIRE_THROWS_WITH(memory({"--rank", "99"}),
                      Contains("--rank: 99 is none of the pipeline rank"));
  REQUIRE_THROWS_WITH(memory({"--rank", "-1"}), Contains("--rank: -1 is none"));
  REQUIRE_THROWS_WITH(memory({"--tensors", "0"}), "--tensors: 0 is not positive");
  REQUIRE_THROWS_WITH(memory({"--threads", "0"}), "--threads: 0 is not positive");
  REQUIRE_THROWS_WITH(memory({"--mode", "half"}),
                      "--mode: unknown mode 'half'; expected full or folded");
}

TEST_CASE("the text has a line for every rank, the largest tensors and a verdict",
          "[commands][memory]") {
  const Studied studied({"plan.memory.ema=host"});
  const std::string text = memory_text(studied.answer(), 3);
  const StepMemory& memory = studied.memory();
  for (int rank = 0; rank < memory.ranks(); ++rank) {
    REQUIRE_THAT(text, Contains(doing_at_peak(studied.answer().study, rank)));
  }
  const auto groups = tensor_groups(memory.tensors_at_peak(memory.fullest()), false);
  const std::size_t largest = text.find("largest of rank");
  const std::string table = text.substr(largest, text.find("\n\n", largest) - largest);
  REQUIRE(count_of(table, "\n") == 1 + 3);  // below the heading a rule and the tensors
  for (std::size_t i = 0; i < 3; ++i) {
    REQUIRE_THAT(table, Contains("\n" + std::string(groups[i].tensor.name)));
  }
  REQUIRE_THAT(text, Contains("in the node's memory, per GPU") && Contains("\nfits: ") &&
                         Contains(fmt::format(
                             "fullest rank {} holds {:.1f} GB\n", memory.fullest(),
                             static_cast<double>(studied.answer().study.peak().count()) / 1e9)));
}

TEST_CASE("groups of tensors lose no byte and no copy", "[commands][memory]") {
  const Studied studied({});
  const auto tensors = studied.memory().tensors_at_peak(0);
  Bytes bytes;
  std::int64_t copies = 0;
  for (const MemoryTensor& t : tensors) {
    bytes += t.bytes;
    copies += t.copies;
  }
  const bool alike = GENERATE(false, true);
  for (const TensorGroup& group : tensor_groups(tensors, alike)) {
    bytes -= group.bytes;
    copies -= group.copies;
    if (!alike) continue;
    REQUIRE(group.bytes * group.tensor.copies == group.tensor.bytes * group.copies);
  }
  REQUIRE(bytes == Bytes());
  REQUIRE(copies == 0);
}

TEST_CASE("memory that is too small is told after everything else", "[commands][memory]") {
  const TemporaryFile out("pipecast-test-too-small");
  std::vector<std::string> arguments =
      with({"--set", "cluster.gpu.hbm_capacity=5GB", "--quiet", "--json", out.path()});
  const auto& command = Registry<Command>::instance().find("memory");
  REQUIRE_THROWS_AS(command.run(arguments), DoesNotFit);
  REQUIRE(Json::parse(text_of(out.path())).at("fits") == false);
  const Studied studied({"cluster.gpu.hbm_capacity=5GB"});
  REQUIRE_THAT(memory_text(studied.answer(), 1), Contains("\ndoes not fit: "));
}

TEST_CASE("the picture has an area for every category of every rank and is the same every time",
          "[commands][memory]") {
  const TemporaryFile picture("pipecast-test-memory-svg");
  const auto drawn = [&](const std::vector<std::string>& more) {
    std::vector<std::string> arguments = {"--svg", picture.path()};
    arguments.insert(arguments.end(), more.begin(), more.end());
    memory(arguments);
    return text_of(picture.path());
  };
  const std::string all = drawn({});
  const Studied studied({});
  const auto ranks = static_cast<std::size_t>(studied.memory().ranks());
  REQUIRE_THAT(all, Catch::StartsWith("<svg ") && Catch::EndsWith("</svg>\n"));
  REQUIRE(count_of(all, "<text") == count_of(all, "</text>"));
  REQUIRE(count_of(all, "Z\" fill=\"") == kMemoryCategories * ranks);
  REQUIRE(count_of(all, "<circle") == ranks);
  REQUIRE(all.size() < 500'000);
  REQUIRE(all == drawn({}));
  const std::string one = drawn({"--rank", "1"});
  REQUIRE(count_of(one, "Z\" fill=\"") == kMemoryCategories);
  REQUIRE_THAT(one, Contains("rank 1: "));
}
