#include <catch2/catch.hpp>

#include "app/memory/headroom.hpp"
#include "app/report/headroom_report.hpp"
#include "scenarios.hpp"

using namespace pipecast;
using namespace pipecast::testing;

namespace {

const HeadroomOptions kFolded{.mode = SimulationMode::kFolded};

/// Peak of the main step's fullest rank, of a step that was simulated.
FullestRank simulated_fullest(const Scenario& s) {
  const PhaseSpec& main = main_phase(s.recipe);
  const StepRouting routing = step_routing(s, main.plan, 1);
  const StepForecast step =
      forecast_step(s, main.plan, main.global_batch_size->to, routing, SimulationMode::kFolded);
  return fullest_rank(step_memory(s, main.plan, step, routing, SimulationMode::kFolded),
                      memory_capacity(s.cluster.gpu, main.plan));
}

std::string of_capacity(Bytes tensors) {
  return fmt::format("cluster.gpu.hbm_capacity={}B", (tensors + MemoryPlanSpec().reserve).count());
}

std::string sequence(double tokens) { return fmt::format("recipe.seq_length={:.0f}", tokens); }

/// tiny-moe has 512 sequences a step in micro-batches of two.
std::vector<std::string> micro_batch(double sequences) {
  return {fmt::format("plan.micro_batch_size={:.0f}", sequences),
          fmt::format("recipe.phases.0.global_batch_size={:.0f}", 256 * sequences)};
}

/// Capacity that the step as shipped fills to the last byte, times a factor.
Bytes capacity_times(double factor) {
  static const Bytes kNeeded = simulated_fullest(tiny()).peak.total();
  return Bytes(static_cast<std::int64_t>(static_cast<double>(kNeeded.count()) * factor));
}

}  // namespace

TEST_CASE("the longest sequence fits and 128 tokens more do not", "[headroom]") {
  const std::string capacity = of_capacity(capacity_times(GENERATE(0.7, 1.0, 1.9)));
  CAPTURE(capacity);
  const HeadroomLimit found = find_headroom(tiny({capacity}), kFolded).sequence;
  REQUIRE(found.largest);
  REQUIRE(std::fmod(*found.largest, 128) == 0);
  REQUIRE(found.stopped_by->at == *found.largest + 128);
  const FullestRank fits = simulated_fullest(tiny({capacity, sequence(*found.largest)}));
  REQUIRE(fits.missing() <= Bytes());
  REQUIRE(fits.peak == found.fullest->peak);
  REQUIRE(fits.rank == found.fullest->rank);
  const FullestRank beyond = simulated_fullest(tiny({capacity, sequence(found.stopped_by->at)}));
  REQUIRE(beyond.missing() > Bytes());
  REQUIRE(beyond.missing() == found.stopped_by->missing);
}

TEST_CASE("the largest micro-batch fits and one sequence more does not", "[headroom]") {
  const std::string capacity = of_capacity(capacity_times(GENERATE(0.7, 1.0, 1.9)));
  CAPTURE(capacity);
  const Headroom headroom = find_headroom(tiny({capacity}), kFolded);
  const HeadroomLimit& found = headroom.micro_batch;
  REQUIRE(found.largest);
  const auto with = [&](double sequences) {
    std::vector<std::string> sets = micro_batch(sequences);
    sets.push_back(capacity);
    return simulated_fullest(tiny(sets));
  };
  REQUIRE(headroom.microbatches == 16);
  REQUIRE(with(*found.largest).peak == found.fullest->peak);
  REQUIRE(with(*found.largest).fits());
  REQUIRE(with(*found.largest + 1).missing() == found.stopped_by->missing);
  REQUIRE(!with(*found.largest + 1).fits());
}

TEST_CASE("the largest imbalance fits and a hundredth more does not", "[headroom]") {
  const Scenario s = tiny({of_capacity(capacity_times(GENERATE(1.0, 1.1, 1.4)))});
  const HeadroomLimit found = find_headroom(s, kFolded).imbalance;
  REQUIRE(found.largest);
  const StepForecast step =
      forecast_step(s, s.plan, 512, step_routing(s, s.plan, 1), SimulationMode::kFolded);
  const auto fits = [&](double share) {
    return fullest_rank({s, s.plan, step.passes, step.plan, uniform_row_shares(share, step.plan),
                         step.times.spans},
                        memory_capacity(s.cluster.gpu, s.plan))
        .fits();
  };
  REQUIRE(fits(*found.largest));
  REQUIRE(found.stopped_by->at == Approx(*found.largest + 0.01));
  REQUIRE(!fits(found.stopped_by->at));
}

TEST_CASE("more memory never shrinks the headroom", "[headroom]") {
  double sequence = 0;
  double micro_batch = 0;
  double imbalance = 0;
  for (const double factor : {0.6, 0.9, 1.0, 1.2, 1.6, 2.5}) {
    const Headroom headroom = find_headroom(tiny({of_capacity(capacity_times(factor))}), kFolded);
    CAPTURE(factor);
    REQUIRE(headroom.sequence.largest.value_or(0) >= sequence);
    REQUIRE(headroom.micro_batch.largest.value_or(0) >= micro_batch);
    REQUIRE(headroom.imbalance.largest.value_or(0) >= imbalance);
    sequence = headroom.sequence.largest.value_or(0);
    micro_batch = headroom.micro_batch.largest.value_or(0);
    imbalance = headroom.imbalance.largest.value_or(0);
  }
  REQUIRE(sequence > 4096);
  REQUIRE(micro_batch > 2);
  REQUIRE(imbalance > 1);
}

TEST_CASE("where no tensor fits there is no answer but a reason", "[headroom]") {
  const Headroom headroom = find_headroom(tiny({"cluster.gpu.hbm_capacity=1GB"}), kFolded);
  for (const HeadroomLimit* limit :
       {&headroom.sequence, &headroom.micro_batch, &headroom.imbalance}) {
    REQUIRE(!limit->largest);
    REQUIRE(!limit->fullest);
    REQUIRE(limit->stopped_by);
    REQUIRE(limit->stopped_by->missing > limit->stopped_by->grown);  // 3 GB of the reserve are owed
  }
  REQUIRE(headroom.sequence.stopped_by->at == 128);
  REQUIRE(headroom.micro_batch.stopped_by->at == 1);
  REQUIRE(headroom.imbalance.stopped_by->at == 1);
  REQUIRE(headroom_json(headroom)["seq_length"]["largest"].is_null());
  REQUIRE_THAT(headroom_text(headroom), Catch::Contains("none"));
}

TEST_CASE("with memory without end only the definitions stop a search", "[headroom]") {
  const Headroom headroom = find_headroom(tiny({"cluster.gpu.hbm_capacity=1000000TB"}), kFolded);
  REQUIRE(!headroom.sequence.stopped_by);
  REQUIRE(headroom.sequence.largest == 2 << 22);  // 2^24 tokens in two sequences
  REQUIRE(!headroom.micro_batch.stopped_by);
  REQUIRE(headroom.micro_batch.largest == 1 << 12);  // of 2^12 tokens
  // One of 16 GPUs holds a sixteenth of the experts: if it is chosen as often as it can be.
  const ModelSpec model = tiny().model;
  const double local = static_cast<double>(model.n_routed_experts) / 16;
  const auto chosen = static_cast<double>(model.num_experts_per_tok);
  REQUIRE(*headroom.imbalance.largest ==
          Approx(16 * std::min(local, chosen) / chosen).margin(0.01));
  REQUIRE(headroom_json(headroom)["imbalance"]["stopped_by"].is_null());
  REQUIRE_THAT(headroom_text(headroom), Catch::Contains("nothing: it is the largest there is"));
}

TEST_CASE("what a longer sequence needs are activations, and the report says so", "[headroom]") {
  const Headroom headroom = find_headroom(tiny({of_capacity(capacity_times(1.5))}), kFolded);
  const HeadroomStop& stop = *headroom.sequence.stopped_by;
  REQUIRE(stop.category == MemoryCategory::kActivations);
  const nlohmann::ordered_json json = headroom_json(headroom);
  REQUIRE(json["phase"] == "pretraining");
  REQUIRE(json["schedule"] == "dualpipe");
  REQUIRE(json["seq_length"]["present"] == 4096);
  REQUIRE(json["seq_length"]["largest"] == *headroom.sequence.largest);
  REQUIRE(json["seq_length"]["stopped_by"]["category"] == "activations");
  REQUIRE(json["seq_length"]["peak_bytes"] <= json["capacity_bytes"]);
  REQUIRE_THAT(headroom_text(headroom),
               Catch::Contains(fmt::format("rank {}, activations (+", stop.rank)));
}

TEST_CASE("the present imbalance is one where routing is balanced, more where it is drawn",
          "[headroom]") {
  REQUIRE(find_headroom(tiny(), kFolded).imbalance.present == 1);
  const Scenario drawn = tiny({"routing={distribution: dirichlet, concentration: 10}"});
  REQUIRE(find_headroom(drawn, kFolded).imbalance.present > 1);
}
