/// Tokens to the rows of their experts and back: src/kernels/routing/.
#include <vector>

#include "base/registry.hpp"
#include "kernels/calibration/cases/operands.hpp"
#include "kernels/calibration/timed_case.hpp"
#include "kernels/routing/gate.hpp"
#include "kernels/routing/permute.hpp"

namespace pipecast::kernels {

namespace {

constexpr std::int64_t kTopK = 8;         // choices of a token, most of them of other ranks
constexpr std::int64_t kExperts = 4;      // of this rank: 256 over 64 GPUs
constexpr std::int64_t kAlignment = 128;  // of an expert's rows, as grouped products want them
constexpr std::int64_t kScaleTile = 128;  // elements that share a scale

/// `rows` choices of local experts spread evenly over `tokens`, and where they go.
struct Routing {
  std::int64_t tokens = 0;
  std::int64_t capacity = 0;
  std::shared_ptr<Buffer<int>> chosen{};
  std::shared_ptr<Buffer<int>> row_of_choice{};
  std::shared_ptr<Buffer<int>> choice_of_row{};
  std::shared_ptr<Buffer<int>> first_row{};
  std::shared_ptr<Buffer<int>> counts{};
  std::shared_ptr<Buffer<int>> workspace{};

  void map(int sms) const {
    permute_map({.chosen = chosen->data(),
                 .row_of_choice = row_of_choice->data(),
                 .choice_of_row = choice_of_row->data(),
                 .first_row = first_row->data(),
                 .counts = counts->data(),
                 .workspace = workspace->data(),
                 .tokens = static_cast<int>(tokens),
                 .top_k = static_cast<int>(kTopK),
                 .experts = static_cast<int>(kExperts),
                 .alignment = static_cast<int>(kAlignment),
                 .capacity = static_cast<int>(capacity),
                 .sms = sms});
  }

  [[nodiscard]] RowPlaces places() const {
    return {.row_of_choice = row_of_choice->data(),
            .choice_of_row = choice_of_row->data(),
            .rows = first_row->data() + kExperts,
            .tokens = static_cast<int>(tokens),
            .top_k = static_cast<int>(kTopK),
            .capacity = static_cast<int>(capacity)};
  }

  /// Rows of a token, in the order of its choices.
  [[nodiscard]] std::vector<std::int64_t> rows_of(std::int64_t token) const {
    std::vector<std::int64_t> out;
    for (std::int64_t choice = 0; choice < kTopK; ++choice) {
      const int row = (*row_of_choice)[at(token * kTopK + choice)];
      if (row >= 0) out.push_back(row);
    }
    return out;
  }
};

/// Nothing where tokens have more local experts than there are.
std::optional<Routing> routing_of(std::int64_t rows, std::int64_t tokens) {
  if (tokens <= 0 || rows <= 0 || rows > tokens * kExperts) return std::nullopt;
  Routing out{.tokens = tokens, .capacity = rows + kExperts * kAlignment};
  out.chosen = result_of<int>(tokens * kTopK);
  std::fill(out.chosen->begin(), out.chosen->end(), -1);
  // Token t has the experts t, t + 1, ...: as many as make `rows` of all tokens together.
  for (std::int64_t token = 0; token < tokens; ++token) {
    const std::int64_t own = rows * (token + 1) / tokens - rows * token / tokens;
    for (std::int64_t choice = 0; choice < own; ++choice) {
      (*out.chosen)[at(token * kTopK + choice)] = static_cast<int>((token + choice) % kExperts);
    }
  }
  out.row_of_choice = result_of<int>(tokens * kTopK);
  out.choice_of_row = result_of<int>(out.capacity);
  out.first_row = result_of<int>(kExperts + 1);
  out.counts = result_of<int>(kExperts);
  out.workspace = std::make_shared<Buffer<int>>(permute_map_workspace(
      static_cast<int>(tokens), static_cast<int>(kTopK), static_cast<int>(kExperts)));
  return out;
}

/// The same with the map made.
std::optional<Routing> mapped(const CaseOptions& options) {
  const std::optional<Routing> out = routing_of(options.at("rows"), options.at("received"));
  if (!out) return std::nullopt;
  out->map(0);
  synchronise();
  return out;
}

std::optional<TimedCase> count(const CaseOptions& options, int sms) {
  const std::int64_t choices = options.at("choices");
  const std::int64_t experts = options.at("experts");
  if (choices <= 0 || experts <= 0) return std::nullopt;
  const auto chosen = result_of<int>(choices);
  Random random(1, "choices");
  for (int& choice : *chosen) {
    choice = static_cast<int>(random.below(static_cast<std::uint64_t>(experts)));
  }
  const auto counts = result_of<int>(experts);
  const auto run = [=] {
    expert_count({chosen->data(), counts->data(), choices, static_cast<int>(experts), sms});
  };
  const auto error = [=] {
    std::vector<std::int64_t> expected(at(experts));
    for (const int choice : *chosen) ++expected[at(choice)];
    double wrong = 0;
    for (std::int64_t e = 0; e < experts; ++e) wrong += (*counts)[at(e)] != expected[at(e)] ? 1 : 0;
    return wrong;
  };
  return TimedCase{.run = run, .error = error};
}

std::optional<TimedCase> map(const CaseOptions& options, int sms) {
  const std::int64_t choices = options.at("choices");
  if (choices % kTopK != 0) return std::nullopt;
  const std::optional<Routing> found = routing_of(options.at("rows"), choices / kTopK);
  if (!found) return std::nullopt;
  const Routing routing = *found;
  const auto error = [=] {
    double wrong = 0;
    std::vector<int> next(at(kExperts));
    for (std::size_t e = 0; e < next.size(); ++e) next[e] = (*routing.first_row)[e];
    for (std::int64_t i = 0; i < routing.tokens * kTopK; ++i) {
      const int expert = (*routing.chosen)[at(i)];
      const int row = (*routing.row_of_choice)[at(i)];
      const int expected = expert < 0 ? -1 : next[at(expert)]++;
      if (row != expected) ++wrong;
      if (row >= 0 && (*routing.choice_of_row)[at(row)] != i) ++wrong;
    }
    return wrong;
  };
  return TimedCase{.run = [=] { routing.map(sms); }, .error = error};
}

std::optional<TimedCase> to_rows(const CaseOptions& options, int sms) {
  const std::int64_t columns = options.at("columns");
  constexpr std::int64_t kStep = 8;
  if (columns <= 0 || columns % kStep != 0) return std::nullopt;
  const std::optional<Routing> found = mapped(options);
  if (!found) return std::nullopt;
  const Routing routing = *found;
  const auto tokens = bf16_operand(routing.tokens * columns, "tokens");
  const auto rows = result_of<Bf16>(routing.capacity * columns);
  const auto run = [=] {
    permute({.tokens = tokens->data(),
             .rows = rows->data(),
             .places = routing.places(),
             .columns = static_cast<int>(columns),
             .sms = sms});
  };
  const auto error = [=] {
    double wrong = 0;
    for (const std::int64_t element : sampled(routing.tokens * columns)) {
      for (const std::int64_t row : routing.rows_of(element / columns)) {
        const double moved = number((*rows)[at(row * columns + element % columns)]);
        if (moved != number((*tokens)[at(element)])) ++wrong;
      }
    }
    return wrong;
  };
  return TimedCase{.run = run, .error = error};
}

std::optional<TimedCase> to_scaled_rows(const CaseOptions& options, int sms) {
  const std::int64_t columns = options.at("columns");
  if (columns <= 0 || columns % kScaleTile != 0) return std::nullopt;
  const std::optional<Routing> found = mapped(options);
  if (!found) return std::nullopt;
  const Routing routing = *found;
  const std::int64_t tiles = columns / kScaleTile;
  constexpr double kDeviation = 100;
  const auto tokens = normal_operand<E4m3>(routing.tokens * columns, "tokens", kDeviation, to_e4m3);
  const auto scales =
      normal_operand<float>(routing.tokens * tiles, "scales", 1, [](float drawn) { return drawn; });
  const auto rows = result_of<E4m3>(routing.capacity * columns);
  const auto row_scales = result_of<float>(routing.capacity * tiles);
  const auto run = [=] {
    permute_with_scales({.tokens = tokens->data(),
                         .token_scales = scales->data(),
                         .rows = rows->data(),
                         .row_scales = row_scales->data(),
                         .row_step = tiles,
                         .block_step = 1,
                         .places = routing.places(),
                         .columns = static_cast<int>(columns),
                         .sms = sms});
  };
  const auto error = [=] {
    double wrong = 0;
    for (const std::int64_t element : sampled(routing.tokens * columns)) {
      const std::int64_t column = element % columns;
      const std::int64_t token = element / columns;
      const double scale = number((*scales)[at(token * tiles + column / kScaleTile)]);
      for (const std::int64_t row : routing.rows_of(token)) {
        const double moved = number((*rows)[at(row * columns + column)]);
        if (moved != number((*tokens)[at(element)])) ++wrong;
        if (number((*row_scales)[at(row * tiles + column / kScaleTile)]) != scale) ++wrong;
      }
    }
    return wrong;
  };
  return TimedCase{.run = run, .error = error};
}

std::optional<TimedCase> from_rows(const CaseOptions& options, int sms) {
  const std::int64_t columns = options.at("columns");
  constexpr std::int64_t kStep = 8;
  if (columns <= 0 || columns % kStep != 0) return std::nullopt;
  const std::optional<Routing> found = mapped(options);
  if (!found) return std::nullopt;
  const Routing routing = *found;
  const auto rows = bf16_operand(routing.capacity * columns, "rows");
  const auto weights = normal_operand<float>(routing.tokens * kTopK, "weights", 1,
                                             [](float drawn) { return std::abs(drawn); });
  const auto tokens = result_of<Bf16>(routing.tokens * columns);
  const auto run = [=] {
    unpermute_reduce({.rows = rows->data(),
                      .weights = weights->data(),
                      .tokens = tokens->data(),
                      .places = routing.places(),
                      .columns = static_cast<int>(columns),
                      .sms = sms});
  };
  const auto error = [=] {
    WorstError worst;
    for (const std::int64_t element : sampled(routing.tokens * columns)) {
      const std::int64_t token = element / columns;
      double sum = 0;
      for (std::int64_t choice = 0; choice < kTopK; ++choice) {
        const int row = (*routing.row_of_choice)[at(token * kTopK + choice)];
        if (row < 0) continue;
        sum += number((*weights)[at(token * kTopK + choice)]) *
               number((*rows)[at(row * columns + element % columns)]);
      }
      worst.add(number((*tokens)[at(element)]), sum);
    }
    return worst.value();
  };
  constexpr double kTolerance = 0.04;  // BF16's 2^-9 of products, up to 20 deviations
  return TimedCase{.run = run, .error = error, .tolerance = kTolerance};
}

const Register<CaseMaker> kEntries[] = {
    {"expert_count", {count}},
    {"permute", {to_rows}},
    {"permute_map", {map}},
    {"permute_with_scales", {to_scaled_rows}},
    {"unpermute_reduce", {from_rows}},
};

}  // namespace

}  // namespace pipecast::kernels
