// What moves rows of tokens: permute, exchange.
#include <catch2/catch.hpp>

#include "base/error.hpp"
#include "differences.hpp"
#include "kernels/reference/exchange.hpp"
#include "kernels/reference/permute.hpp"

using namespace pipecast::kernels::reference;
using Catch::Matchers::Contains;

namespace {

IndexMatrix random_experts(std::string_view name, Index tokens, Index slots, Index experts) {
  pipecast::Random random(2, name);
  IndexMatrix out(tokens, slots);
  for (Index token = 0; token < tokens; ++token) {
    const auto first = static_cast<Index>(random.below(static_cast<std::uint64_t>(experts)));
    // Different experts of one token: steps of one around the circle.
    for (Index slot = 0; slot < slots; ++slot) out(token, slot) = (first + slot) % experts;
  }
  return out;
}

}  // namespace

TEST_CASE("rows of an expert are its tokens in order, aligned and padded", "[reference]") {
  const IndexMatrix experts{{2, 0}, {kElsewhere, 2}, {2, kElsewhere}};
  const PermutedRows order = permuted_rows(experts, 3, 4);
  REQUIRE(order.counts == Indices{1, 0, 3});
  REQUIRE(order.offsets == Indices{0, 4, 4, 8});
  const Matrix input{{1, 10}, {2, 20}, {3, 30}};
  Matrix expected = Matrix::Zero(8, 2);
  expected.row(0) = input.row(0);
  expected.middleRows(4, 3) = input;
  REQUIRE(permute_forward(input, order) == expected);
  REQUIRE(permuted_rows(experts, 3, 1).offsets == Indices{0, 1, 1, 4});
}

TEST_CASE("every slot held here has one row, whatever the alignment", "[reference]") {
  const Index alignment = GENERATE(1, 3, 8);
  const Index tokens = GENERATE(0, 1, 13);
  const IndexMatrix experts = random_experts("experts", tokens, 2, 5);
  const PermutedRows order = permuted_rows(experts, 5, alignment);
  Index held = 0;
  for (std::size_t expert = 0; expert < 5; ++expert) {
    REQUIRE(order.offsets[expert] % alignment == 0);
    held += order.counts[expert];
    for (Index row = order.offsets[expert]; row < order.offsets[expert + 1]; ++row) {
      const auto& slot = order.rows[static_cast<std::size_t>(row)];
      REQUIRE(slot.has_value() == (row < order.offsets[expert] + order.counts[expert]));
      if (slot) REQUIRE(experts(slot->token, slot->slot) == static_cast<Index>(expert));
    }
  }
  REQUIRE(held == tokens * 2);
}

TEST_CASE("unpermuting what was permuted weighs each token by the sum of its weights",
          "[reference]") {
  const IndexMatrix experts = random_experts("experts", 7, 3, 4);
  const PermutedRows order = permuted_rows(experts, 4, 4);
  const Matrix input = random_matrix("input", 7, 5);
  const Matrix weights = random_matrix("weights", 7, 3);
  const Matrix expected = weights.rowwise().sum().asDiagonal() * input;
  REQUIRE(relative_error(unpermute_forward(permute_forward(input, order), weights, order),
                         expected) < kSame);
}

TEST_CASE("gradients of permute and unpermute are their slopes", "[reference]") {
  IndexMatrix experts = random_experts("experts", 5, 2, 3);
  experts(1, 0) = kElsewhere;
  experts.row(3).setConstant(kElsewhere);
  const PermutedRows order = permuted_rows(experts, 3, 4);
  const auto rows_of_order = static_cast<Index>(order.rows.size());
  Matrix input = random_matrix("input", 5, 3);
  const Matrix of_rows = random_matrix("row gradient", rows_of_order, 3);
  const Matrix of_input =
      slopes(input, [&] { return weighted_sum(permute_forward(input, order), of_rows); });
  REQUIRE(relative_error(permute_backward(of_rows, order), of_input) < kSlopeTolerance);

  Matrix rows = random_matrix("rows", rows_of_order, 3);
  Matrix weights = random_matrix("weights", 5, 2);
  const Matrix of_output = random_matrix("gradient", 5, 3);
  const auto loss = [&] {
    return weighted_sum(unpermute_forward(rows, weights, order), of_output);
  };
  const UnpermuteGradients gradients = unpermute_backward(of_output, rows, weights, order);
  REQUIRE(relative_error(gradients.rows, slopes(rows, loss)) < kSlopeTolerance);
  REQUIRE(relative_error(gradients.weights, slopes(weights, loss)) < kSlopeTolerance);
}

TEST_CASE("permute refuses experts and tensors that do not fit", "[reference]") {
  REQUIRE_THROWS_WITH(permuted_rows(IndexMatrix{{3}}, 3, 1), Contains("expert 3 of 3"));
  REQUIRE_THROWS_WITH(permuted_rows(IndexMatrix{{0}}, 3, 0), Contains("aligned to 0 rows"));
  const PermutedRows order = permuted_rows(IndexMatrix{{0}}, 1, 2);
  REQUIRE_THROWS_WITH(permute_forward(Matrix(2, 3), order), Contains("input must be 1 x 3"));
  REQUIRE_THROWS_WITH(permute_backward(Matrix(1, 3), order),
                      Contains("row gradient must be 2 x 3"));
  REQUIRE_THROWS_WITH(unpermute_forward(Matrix(2, 3), Matrix(1, 2), order),
                      Contains("weights must be 1 x 1"));
}

TEST_CASE("a rank receives each token that needs it once, by sender and token", "[reference]") {
  // Two ranks of two experts; rank 1 has no tokens that stay.
  const std::vector<IndexMatrix> experts{IndexMatrix{{0, 2}, {2, 3}, {1, 0}}, IndexMatrix{{1, 0}}};
  const ExchangeRouting routing = exchange_routing(experts, 2);
  const std::vector<Matrix> tokens{Matrix{{1}, {2}, {3}}, Matrix{{4}}};
  const std::vector<Matrix> received = dispatch_rows(routing, tokens);
  REQUIRE(received[0] == Matrix{{1}, {3}, {4}});
  REQUIRE(received[1] == Matrix{{1}, {2}});
  const std::vector<IndexMatrix> local = dispatch_experts(routing, experts);
  REQUIRE(local[0] == IndexMatrix{{0, kElsewhere}, {1, 0}, {1, 0}});
  REQUIRE(local[1] == IndexMatrix{{kElsewhere, 0}, {0, 1}});
  const std::vector<Matrix> back =
      combine_rows(routing, received, {Vector{{1, 10, 100}}, Vector{{1000, 1}}});
  REQUIRE(back[0] == Matrix{{1 + 1000}, {2}, {30}});
  REQUIRE(back[1] == Matrix{{400}});
}

TEST_CASE("experts over ranks give what experts on one rank give", "[reference]") {
  const Index ranks = GENERATE(1, 2, 4);
  const Index experts_per_rank = 8 / ranks;
  std::vector<IndexMatrix> experts;
  std::vector<Matrix> tokens;
  std::vector<Matrix> weights;
  for (Index rank = 0; rank < ranks; ++rank) {
    const std::string name = "rank " + std::to_string(rank);
    const Index count = 3 * rank + 1;
    experts.push_back(random_experts(name, count, 3, 8));
    tokens.push_back(random_matrix(name, count, 4));
    weights.push_back(random_matrix(name + " weights", count, 3));
  }
  // Expert e multiplies by e + 1.
  const auto run = [](const Matrix& rows, const PermutedRows& order, Index first_expert) {
    Matrix out = permute_forward(rows, order);
    for (std::size_t e = 0; e < order.counts.size(); ++e) {
      out.middleRows(order.offsets[e], order.counts[e]) *=
          static_cast<double>(first_expert + static_cast<Index>(e) + 1);
    }
    return out;
  };
  const ExchangeRouting routing = exchange_routing(experts, experts_per_rank);
  const std::vector<Matrix> received = dispatch_rows(routing, tokens);
  const std::vector<Matrix> received_weights = dispatch_rows(routing, weights);
  const std::vector<IndexMatrix> local = dispatch_experts(routing, experts);
  std::vector<Matrix> processed;
  for (std::size_t rank = 0; rank < local.size(); ++rank) {
    const PermutedRows order = permuted_rows(local[rank], experts_per_rank, 4);
    const Matrix rows = run(received[rank], order, static_cast<Index>(rank) * experts_per_rank);
    processed.push_back(unpermute_forward(rows, received_weights[rank], order));
  }
  const std::vector<Matrix> combined = combine_rows(routing, processed);
  for (std::size_t rank = 0; rank < combined.size(); ++rank) {
    const PermutedRows order = permuted_rows(experts[rank], 8, 1);
    const Matrix expected = unpermute_forward(run(tokens[rank], order, 0), weights[rank], order);
    REQUIRE(relative_error(combined[rank], expected) < kSame);
  }
}

TEST_CASE("gradients of dispatch and combine are their slopes", "[reference]") {
  const std::vector<IndexMatrix> experts{random_experts("a", 3, 2, 6), random_experts("b", 0, 2, 6),
                                         random_experts("c", 4, 2, 6)};
  const ExchangeRouting routing = exchange_routing(experts, 2);
  std::vector<Matrix> tokens;
  std::vector<Matrix> of_output;
  for (const Index count : routing.tokens) {
    tokens.push_back(random_matrix("tokens " + std::to_string(count), count, 3));
    of_output.push_back(random_matrix("gradient " + std::to_string(count), count, 3));
  }
  std::vector<Matrix> rows;
  std::vector<Vector> weights;
  for (const auto& received : routing.received) {
    const auto count = static_cast<Index>(received.size());
    rows.push_back(random_matrix("rows " + std::to_string(rows.size()), count, 3));
    weights.push_back(random_vector("weights " + std::to_string(rows.size()), count));
  }
  const auto total = [](const std::vector<Matrix>& a, const std::vector<Matrix>& b) {
    double sum = 0;
    for (std::size_t rank = 0; rank < a.size(); ++rank) sum += weighted_sum(a[rank], b[rank]);
    return sum;
  };
  const auto combined = [&] { return total(combine_rows(routing, rows, weights), of_output); };
  const CombineGradients gradients = combine_backward(routing, rows, weights, of_output);
  const std::vector<Matrix> of_tokens = combine_rows(routing, rows);
  const auto dispatched = [&] { return total(dispatch_rows(routing, tokens), rows); };
  for (std::size_t rank = 0; rank < 3; ++rank) {
    REQUIRE(relative_error(gradients.rows[rank], slopes(rows[rank], combined)) < kSlopeTolerance);
    REQUIRE(relative_error(gradients.weights[rank], slopes(weights[rank], combined)) <
            kSlopeTolerance);
    REQUIRE(relative_error(of_tokens[rank], slopes(tokens[rank], dispatched)) < kSlopeTolerance);
  }
}

TEST_CASE("exchange refuses experts and tensors that do not fit", "[reference]") {
  REQUIRE_THROWS_WITH(exchange_routing({IndexMatrix{{2}}}, 2),
                      Contains("expert 2 of 2 on 1 ranks"));
  REQUIRE_THROWS_WITH(exchange_routing({IndexMatrix{{2}}}, 0), Contains("0 experts per rank"));
  const ExchangeRouting routing = exchange_routing({IndexMatrix{{1}}}, 2);
  REQUIRE_THROWS_WITH(dispatch_rows(routing, {}), Contains("tokens of 1 ranks, not 0"));
  REQUIRE_THROWS_WITH(dispatch_rows(routing, {Matrix(2, 1)}), Contains("tokens must be 1 x 1"));
  REQUIRE_THROWS_WITH(combine_rows(routing, {Matrix(2, 1)}), Contains("rows must be 1 x 1"));
  REQUIRE_THROWS_WITH(combine_backward(routing, {Matrix(1, 1)}, {Vector(1)}, {Matrix(1, 2)}),
                      Contains("output gradient of another width"));
}
