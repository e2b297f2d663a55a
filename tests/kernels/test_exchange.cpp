#include <catch2/catch.hpp>
#include <cmath>
#include <limits>
#include <memory>
#include <vector>

#include "kernels/exchange/exchange.hpp"
#include "kernels/memory/ranks.hpp"
#include "kernels/reference/exchange.hpp"
#include "run.hpp"

namespace pipecast::kernels {
namespace {

using namespace testing;
using reference::ExchangeRouting;
using reference::Index;
using reference::IndexMatrix;
using reference::Matrix;

constexpr int kColumns = 272;  // no whole number of a warp's pieces
constexpr int kScales = 3;
constexpr int kNobody = -1;

std::size_t extent(std::int64_t rows, std::int64_t columns) {
  return static_cast<std::size_t>(rows * columns);
}

enum class Choices { kMixed, kOneExpert, kNone };

struct ExchangeCase {
  std::vector<int> tokens;  // of each rank
  int experts_per_rank;
  int top_k;
  int channels;
  int slots;
  Choices choices;
};

/// Distinct experts of each token; some choices are nobody's.
IndexMatrix draw_choices(const ExchangeCase& c, int rank) {
  const int experts = c.experts_per_rank * static_cast<int>(c.tokens.size());
  std::mt19937_64 generator(static_cast<std::uint64_t>(rank) + 17);
  const int tokens = c.tokens[extent(rank, 1)];
  IndexMatrix chosen = IndexMatrix::Constant(tokens, c.top_k, kNobody);
  for (int token = 0; token < tokens; ++token) {
    if (c.choices == Choices::kOneExpert) chosen(token, token % c.top_k) = experts - 1;
    if (c.choices != Choices::kMixed) continue;
    const int start = static_cast<int>(generator() % static_cast<std::uint64_t>(experts));
    const int stride = 1 + 2 * static_cast<int>(generator() % 2);  // to neighbours or far apart
    for (int k = 0; k < c.top_k; ++k) {
      if (generator() % 4 != 0) chosen(token, k) = (start + k * stride) % experts;
    }
  }
  return chosen;
}

/// As reference::exchange_routing, for choices of which some are nobody's.
ExchangeRouting routing_of(const std::vector<IndexMatrix>& experts, Index experts_per_rank) {
  ExchangeRouting routing{.experts_per_rank = experts_per_rank, .tokens = {}, .received = {}};
  for (const IndexMatrix& own : experts) routing.tokens.push_back(own.rows());
  for (std::size_t receiver = 0; receiver < experts.size(); ++receiver) {
    auto& received = routing.received.emplace_back();
    const Index first = static_cast<Index>(receiver) * experts_per_rank;
    for (std::size_t sender = 0; sender < experts.size(); ++sender) {
      for (Index token = 0; token < experts[sender].rows(); ++token) {
        const auto chosen = experts[sender].row(token).array();
        if ((chosen >= first && chosen < first + experts_per_rank).any()) {
          received.push_back({static_cast<Index>(sender), token});
        }
      }
    }
  }
  return routing;
}

/// A rank's own tokens and what it receives.
struct RankState {
  int tokens = 0;
  Buffer<int> chosen;
  Buffer<float> weights;
  Buffer<E4m3> rows;
  Buffer<float> scales;
  Buffer<std::uint32_t> ranks_of_token;
  Buffer<int> channel_counts;
  Buffer<int> expert_counts;
  Buffer<int> first_rows;
  Buffer<int> local_counts;
  Buffer<int> sent_rows;
  Buffer<E4m3> received_rows;
  Buffer<float> received_scales;
  Buffer<int> received_experts;
  Buffer<float> received_weights;
  Buffer<int> received_tokens;
};

/// Ranks that exchange rows through their windows.
class Node {
 public:
  explicit Node(const ExchangeCase& c) : ranks_(static_cast<int>(c.tokens.size())), case_(c) {
    const int dispatched = dispatch_slot_bytes(kColumns, kScales, c.top_k);
    const int combined = combine_slot_bytes(kColumns, c.top_k);
    shape = {.ranks = ranks_,
             .experts = c.experts_per_rank * ranks_,
             .top_k = c.top_k,
             .channels = c.channels,
             .slots = c.slots,
             .slot_bytes = dispatched > combined ? dispatched : combined};
    std::vector<IndexMatrix> experts;
    for (int rank = 0; rank < ranks_; ++rank) {
      experts.push_back(draw_choices(c, rank));
      windows_.emplace_back(std::vector<std::uint32_t>(exchange_window_bytes(shape) / 4, 0U));
    }
    routing = routing_of(experts, c.experts_per_rank);
    for (int rank = 0; rank < ranks_; ++rank) states.push_back(fresh_state(rank, experts));
  }

  [[nodiscard]] ExchangeRank self(int rank) {
    ExchangeRank result{.windows = {}, .rank = rank};
    for (int i = 0; i < ranks_; ++i) result.windows[i] = windows_[extent(i, 1)].data();
    return result;
  }
  [[nodiscard]] std::int64_t received(int rank) const {
    return static_cast<std::int64_t>(routing.received[extent(rank, 1)].size());
  }

  void notify() {
    run_ranks_apart(ranks_, [&](int rank) {
      RankState& s = states[extent(rank, 1)];
      ep_layout({shape, s.chosen.data(), s.ranks_of_token.data(), s.channel_counts.data(),
                 s.expert_counts.data(), s.tokens, 0});
    });
    run_ranks_together(ranks_, [&](int rank) {
      RankState& s = states[extent(rank, 1)];
      ep_notify({shape, self(rank), s.channel_counts.data(), s.expert_counts.data(),
                 s.first_rows.data(), s.local_counts.data()});
    });
  }
  void cached_notify() {
    run_ranks_together(ranks_, [&](int rank) { ep_cached_notify({shape, self(rank)}); });
  }
  void dispatch() {
    run_ranks_together(ranks_, [&](int rank) {
      RankState& s = states[extent(rank, 1)];
      ep_dispatch({.shape = shape,
                   .self = self(rank),
                   .rows = s.rows.data(),
                   .scales = s.scales.data(),
                   .chosen = s.chosen.data(),
                   .weights = s.weights.data(),
                   .ranks_of_token = s.ranks_of_token.data(),
                   .first_rows = s.first_rows.data(),
                   .received_rows = s.received_rows.data(),
                   .received_scales = s.received_scales.data(),
                   .received_experts = s.received_experts.data(),
                   .received_weights = s.received_weights.data(),
                   .received_tokens = s.received_tokens.data(),
                   .sent_rows = s.sent_rows.data(),
                   .tokens = s.tokens,
                   .row_bytes = kColumns,
                   .scale_count = kScales});
    });
  }
  /// Rows in BF16 along known ways, without experts and weights.
  void dispatch_again(const std::vector<Buffer<Bf16>>& rows, std::vector<Buffer<Bf16>>& results) {
    run_ranks_together(ranks_, [&](int rank) {
      RankState& s = states[extent(rank, 1)];
      ep_dispatch({.shape = shape,
                   .self = self(rank),
                   .rows = rows[extent(rank, 1)].data(),
                   .scales = nullptr,
                   .chosen = nullptr,
                   .weights = nullptr,
                   .ranks_of_token = s.ranks_of_token.data(),
                   .first_rows = s.first_rows.data(),
                   .received_rows = results[extent(rank, 1)].data(),
                   .received_scales = nullptr,
                   .received_experts = nullptr,
                   .received_weights = nullptr,
                   .received_tokens = s.received_tokens.data(),
                   .sent_rows = s.sent_rows.data(),
                   .tokens = s.tokens,
                   .row_bytes = 2 * kColumns,
                   .scale_count = 0});
    });
  }
  /// @param addends  two tensors of each rank's tokens, or none
  void combine(const std::vector<Buffer<Bf16>>& rows, const std::vector<Buffer<float>>& weights,
               const std::vector<Buffer<Bf16>>& addends, std::vector<Buffer<Bf16>>& outputs,
               std::vector<Buffer<float>>& output_weights) {
    run_ranks_together(ranks_, [&](int rank) {
      RankState& s = states[extent(rank, 1)];
      const auto addend = [&](int which) {
        return addends.empty() ? nullptr : addends[extent(2 * rank + which, 1)].data();
      };
      ep_combine(
          {.shape = shape,
           .self = self(rank),
           .rows = rows[extent(rank, 1)].data(),
           .weights = weights.empty() ? nullptr : weights[extent(rank, 1)].data(),
           .first_rows = s.first_rows.data(),
           .sent_rows = s.sent_rows.data(),
           .addends = {addend(0), addend(1)},
           .output = outputs[extent(rank, 1)].data(),
           .output_weights = weights.empty() ? nullptr : output_weights[extent(rank, 1)].data(),
           .tokens = s.tokens,
           .columns = kColumns});
    });
  }

  ExchangeExtents shape{};
  ExchangeRouting routing;
  std::vector<RankState> states;

 private:
  RankState fresh_state(int rank, const std::vector<IndexMatrix>& experts) {
    RankState s;
    const auto seed = static_cast<std::uint64_t>(rank) + 100;
    s.tokens = case_.tokens[extent(rank, 1)];
    s.chosen = Buffer<int>(extent(s.tokens, case_.top_k));
    for (std::size_t i = 0; i < s.chosen.size(); ++i) {
      s.chosen[i] = static_cast<int>(experts[extent(rank, 1)].data()[i]);
    }
    s.weights = Buffer<float>(normal_values(s.chosen.size(), seed));
    s.rows = Buffer<E4m3>(extent(s.tokens, kColumns));
    // All codes, NaN among them: rows are moved, not read.
    std::mt19937_64 generator(seed);
    for (E4m3& value : s.rows) value.bits = static_cast<std::uint8_t>(generator());
    s.scales = Buffer<float>(normal_values(extent(s.tokens, kScales), seed + 1));
    s.ranks_of_token = Buffer<std::uint32_t>(extent(s.tokens, 1));
    s.channel_counts = Buffer<int>(extent(ranks_, case_.channels));
    s.expert_counts = Buffer<int>(extent(shape.experts, 1));
    s.first_rows = Buffer<int>(extent(ranks_ * case_.channels + 1, 1));
    s.local_counts = Buffer<int>(extent(case_.experts_per_rank, 1));
    s.sent_rows = Buffer<int>(extent(s.tokens, ranks_));
    s.received_rows = Buffer<E4m3>(extent(received(rank), kColumns));
    s.received_scales = Buffer<float>(extent(received(rank), kScales));
    s.received_experts = Buffer<int>(extent(received(rank), case_.top_k));
    s.received_weights = Buffer<float>(extent(received(rank), case_.top_k));
    s.received_tokens = Buffer<int>(extent(received(rank), 1));
    return s;
  }

  int ranks_;
  ExchangeCase case_;
  std::vector<Buffer<std::uint32_t>> windows_;
};

ExchangeCase any_case() {
  return GENERATE(ExchangeCase{{37, 20}, 4, 3, 2, 4, Choices::kMixed},
                  ExchangeCase{{25, 0, 40, 9}, 4, 4, 1, 7, Choices::kMixed},
                  ExchangeCase{{25, 0, 40, 9}, 2, 4, 2, 5, Choices::kOneExpert},
                  ExchangeCase{{5}, 8, 2, 3, 1, Choices::kMixed},
                  ExchangeCase{{3, 4, 1, 0, 2, 5, 1, 2}, 1, 8, 1, 2, Choices::kMixed},
                  ExchangeCase{{70, 33}, 2, 2, 1, 64, Choices::kMixed},
                  ExchangeCase{{6, 6}, 2, 2, 2, 3, Choices::kNone});
}

/// Whether there are as many GPUs; always in emulation.
bool enough_ranks(const ExchangeCase& c) {
  return static_cast<int>(c.tokens.size()) <= most_ranks();
}

/// Everything that one rank received is what the reference says, in its order.
void require_received(Node& node, int rank) {
  const RankState& s = node.states[extent(rank, 1)];
  const int top_k = node.shape.top_k;
  for (std::int64_t row = 0; row < node.received(rank); ++row) {
    const auto source = node.routing.received[extent(rank, 1)][extent(row, 1)];
    const RankState& sender = node.states[static_cast<std::size_t>(source.rank)];
    REQUIRE(s.received_tokens[extent(row, 1)] == source.token);
    for (int i = 0; i < kColumns; ++i) {
      REQUIRE(s.received_rows[extent(row, kColumns) + extent(i, 1)].bits ==
              sender.rows[extent(source.token, kColumns) + extent(i, 1)].bits);
    }
    for (int i = 0; i < kScales; ++i) {
      REQUIRE(s.received_scales[extent(row, kScales) + extent(i, 1)] ==
              sender.scales[extent(source.token, kScales) + extent(i, 1)]);
    }
    for (int k = 0; k < top_k; ++k) {
      const std::size_t at = extent(row, top_k) + extent(k, 1);
      const std::size_t choice = extent(source.token, top_k) + extent(k, 1);
      const int per_rank = static_cast<int>(node.routing.experts_per_rank);
      const int expert = sender.chosen[choice] - rank * per_rank;
      const bool here = expert >= 0 && expert < per_rank;
      REQUIRE(s.received_experts[at] == (here ? expert : -1));
      REQUIRE(s.received_weights[at] == (here ? sender.weights[choice] : 0.0F));
    }
  }
}

/// Tensors of BF16 whole numbers up to 8: their sums over 8 ranks are exact in BF16.
std::vector<Buffer<Bf16>> whole_numbers(const std::vector<std::int64_t>& rows, std::uint64_t seed) {
  std::mt19937_64 generator(seed);
  std::vector<Buffer<Bf16>> result;
  for (const std::int64_t count : rows) {
    auto& values = result.emplace_back(extent(count, kColumns));
    for (Bf16& value : values) {
      value = to_bf16(static_cast<float>(static_cast<int>(generator() % 17) - 8));
    }
  }
  return result;
}
std::vector<Buffer<Bf16>> empty_rows(const std::vector<std::int64_t>& rows) {
  std::vector<Buffer<Bf16>> result;
  for (const std::int64_t count : rows) result.emplace_back(extent(count, kColumns));
  return result;
}

std::vector<Matrix> as_matrices(const std::vector<Buffer<Bf16>>& tensors) {
  std::vector<Matrix> result;
  for (const auto& tensor : tensors) {
    Matrix& matrix = result.emplace_back(static_cast<Index>(tensor.size()) / kColumns, kColumns);
    for (std::size_t i = 0; i < tensor.size(); ++i) {
      matrix.data()[i] = static_cast<double>(to_float(tensor[i]));
    }
  }
  return result;
}

void require_equal(const std::vector<Buffer<Bf16>>& actual, const std::vector<Matrix>& expected) {
  for (std::size_t rank = 0; rank < actual.size(); ++rank) {
    REQUIRE(static_cast<std::size_t>(expected[rank].size()) == actual[rank].size());
    for (std::size_t i = 0; i < actual[rank].size(); ++i) {
      REQUIRE(static_cast<double>(to_float(actual[rank][i])) == expected[rank].data()[i]);
    }
  }
}

struct Extents {
  std::vector<std::int64_t> tokens;
  std::vector<std::int64_t> received;
};
Extents extents_of(const Node& node) {
  Extents result;
  for (int rank = 0; rank < node.shape.ranks; ++rank) {
    result.tokens.push_back(node.states[extent(rank, 1)].tokens);
    result.received.push_back(node.received(rank));
  }
  return result;
}

double product(const std::vector<Buffer<Bf16>>& a, const std::vector<Buffer<Bf16>>& b) {
  double sum = 0;
  const auto left = as_matrices(a);
  const auto right = as_matrices(b);
  for (std::size_t i = 0; i < left.size(); ++i) sum += left[i].cwiseProduct(right[i]).sum();
  return sum;
}

}  // namespace

TEST_CASE("before a dispatch every rank learns how many rows come, and where they go",
          "[exchange]") {
  const ExchangeCase c = any_case();
  if (!enough_ranks(c)) return;
  in_every_order([&] {
    Node node(c);
    node.notify();
    for (int rank = 0; rank < node.shape.ranks; ++rank) {
      const RankState& s = node.states[extent(rank, 1)];
      const int streams = node.shape.ranks * c.channels;
      REQUIRE(s.first_rows[0] == 0);
      REQUIRE(s.first_rows[extent(streams, 1)] == node.received(rank));
      std::vector<int> from(c.tokens.size(), 0);
      for (const auto& row : node.routing.received[extent(rank, 1)]) {
        ++from[static_cast<std::size_t>(row.rank)];
      }
      for (int peer = 0; peer < node.shape.ranks; ++peer) {
        REQUIRE(s.first_rows[extent(peer + 1, c.channels)] -
                    s.first_rows[extent(peer, c.channels)] ==
                from[extent(peer, 1)]);
      }
      for (int expert = 0; expert < c.experts_per_rank; ++expert) {
        int choices = 0;
        for (const RankState& sender : node.states) {
          for (const int chosen : sender.chosen) {
            choices += chosen == rank * c.experts_per_rank + expert ? 1 : 0;
          }
        }
        REQUIRE(s.local_counts[extent(expert, 1)] == choices);
      }
    }
  });
}

TEST_CASE("a dispatch brings every row once to each of its ranks, in order", "[exchange]") {
  const ExchangeCase c = any_case();
  if (!enough_ranks(c)) return;
  in_every_order([&] {
    Node node(c);
    node.notify();
    node.dispatch();
    for (int rank = 0; rank < node.shape.ranks; ++rank) require_received(node, rank);
    // The same windows serve the next one.
    node.notify();
    for (RankState& s : node.states) {
      for (E4m3& value : s.received_rows) value.bits = 0;
    }
    node.dispatch();
    for (int rank = 0; rank < node.shape.ranks; ++rank) require_received(node, rank);
  });
}

TEST_CASE("a combine sums what every rank sends back, and its addends", "[exchange]") {
  const ExchangeCase c = any_case();
  if (!enough_ranks(c)) return;
  in_every_order([&] {
    Node node(c);
    const Extents counts = extents_of(node);
    const auto rows = whole_numbers(counts.received, 1);
    std::vector<std::int64_t> twice;
    for (const std::int64_t tokens : counts.tokens) twice.insert(twice.end(), 2, tokens);
    const auto addends = whole_numbers(twice, 2);
    // Gradients of routing weights ride along: whole numbers too.
    std::vector<Buffer<float>> weights;
    std::vector<Buffer<float>> output_weights;
    std::vector<Matrix> weight_rows;
    for (int rank = 0; rank < node.shape.ranks; ++rank) {
      auto& weight = weights.emplace_back(extent(node.received(rank), c.top_k));
      Matrix& matrix = weight_rows.emplace_back(node.received(rank), c.top_k);
      for (std::size_t i = 0; i < weight.size(); ++i) {
        weight[i] = static_cast<float>(i % 13);
        matrix.data()[i] = static_cast<double>(i % 13);
      }
      output_weights.emplace_back(extent(counts.tokens[extent(rank, 1)], c.top_k));
    }
    auto outputs = empty_rows(counts.tokens);
    node.notify();
    node.dispatch();
    node.cached_notify();
    node.combine(rows, weights, addends, outputs, output_weights);

    auto expected = reference::combine_rows(node.routing, as_matrices(rows));
    const auto added = as_matrices(addends);
    for (std::size_t rank = 0; rank < expected.size(); ++rank) {
      expected[rank] += added[2 * rank] + added[2 * rank + 1];
    }
    require_equal(outputs, expected);
    const auto expected_weights = reference::combine_rows(node.routing, weight_rows);
    for (std::size_t rank = 0; rank < expected_weights.size(); ++rank) {
      for (std::size_t i = 0; i < output_weights[rank].size(); ++i) {
        REQUIRE(static_cast<double>(output_weights[rank][i]) == expected_weights[rank].data()[i]);
      }
    }
  });
}

TEST_CASE("dispatch and combine are each other's gradients", "[exchange]") {
  const ExchangeCase c = any_case();
  if (!enough_ranks(c)) return;
  in_every_order([&] {
    Node node(c);
    const Extents counts = extents_of(node);
    const auto sent = whole_numbers(counts.tokens, 3);
    const auto slopes = whole_numbers(counts.received, 4);
    auto arrived = empty_rows(counts.received);
    auto returned = empty_rows(counts.tokens);
    std::vector<Buffer<float>> none;
    node.notify();
    node.dispatch_again(sent, arrived);
    require_equal(arrived, reference::dispatch_rows(node.routing, as_matrices(sent)));
    node.cached_notify();
    node.combine(slopes, {}, {}, returned, none);
    // Linear maps: <dispatch(x), y> = <x, combine(y)>, exact in whole numbers.
    REQUIRE(product(arrived, slopes) == product(sent, returned));
  });
}

TEST_CASE("a combine rounds once, after FP32 sums, and keeps a NaN to its own token",
          "[exchange]") {
  const ExchangeCase c{{12, 7, 9}, 2, 6, 1, 4, Choices::kMixed};
  if (!enough_ranks(c)) return;
  in_every_order([&] {
    Node node(c);
    const Extents counts = extents_of(node);
    std::vector<Buffer<Bf16>> rows;
    for (int rank = 0; rank < 3; ++rank) {
      rows.push_back(as_bf16(normal_values(extent(counts.received[extent(rank, 1)], kColumns),
                                           static_cast<std::uint64_t>(rank))));
    }
    rows[1][0] = to_bf16(std::numeric_limits<float>::quiet_NaN());
    auto outputs = empty_rows(counts.tokens);
    std::vector<Buffer<float>> none;
    node.notify();
    node.dispatch();
    node.cached_notify();
    node.combine(rows, {}, {}, outputs, none);
    const auto expected = reference::combine_rows(node.routing, as_matrices(rows));
    int poisoned = 0;
    for (std::size_t rank = 0; rank < 3; ++rank) {
      for (std::size_t i = 0; i < outputs[rank].size(); ++i) {
        const double wanted = expected[rank].data()[i];
        const auto got = static_cast<double>(to_float(outputs[rank][i]));
        poisoned += std::isnan(got) ? 1 : 0;
        if (std::isnan(wanted)) {
          REQUIRE(std::isnan(got));
        } else {
          // Half a unit in BF16's last place; two FP32 sums of terms below 5.
          REQUIRE(std::abs(got - wanted) <= 0x1p-8 * std::abs(wanted) + 2 * 0x1p-24 * 10);
        }
      }
    }
    REQUIRE(poisoned == 1);
  });
}

TEST_CASE("an exchange refuses shapes that its windows cannot hold", "[exchange]") {
  ExchangeExtents shape{
      .ranks = 3, .experts = 8, .top_k = 2, .channels = 1, .slots = 1, .slot_bytes = 64};
  REQUIRE_THROWS_WITH(exchange_window_bytes(shape), Catch::Contains("share the experts evenly"));
  shape.ranks = 2;
  EpDispatch dispatch{};
  dispatch.shape = shape;
  dispatch.row_bytes = 64;  // and no room for the token's number
  REQUIRE_THROWS_WITH(ep_dispatch(dispatch), Catch::Contains("fit into a slot"));
  EpCombine combine{};
  combine.shape = shape;
  combine.columns = 36;
  REQUIRE_THROWS_WITH(ep_combine(combine), Catch::Contains("multiple of 8"));
}

}  // namespace pipecast::kernels
