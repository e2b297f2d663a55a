#include "kernels/reference/permute.hpp"

#include "base/error.hpp"

namespace pipecast::kernels::reference {
namespace {

/// Calls visit(row, slot) for every row that is no padding.
template <class Visit>
void for_each_row(const PermutedRows& order, Visit visit) {
  for (std::size_t row = 0; row < order.rows.size(); ++row) {
    if (order.rows[row]) visit(static_cast<Index>(row), *order.rows[row]);
  }
}

Index row_count(const PermutedRows& order) { return static_cast<Index>(order.rows.size()); }

}  // namespace

PermutedRows permuted_rows(const IndexMatrix& experts, Index expert_count, Index alignment) {
  require(expert_count > 0 && alignment > 0, "{} experts aligned to {} rows", expert_count,
          alignment);
  std::vector<std::vector<RoutedSlot>> of_expert(static_cast<std::size_t>(expert_count));
  for (Index token = 0; token < experts.rows(); ++token) {
    for (Index slot = 0; slot < experts.cols(); ++slot) {
      const Index expert = experts(token, slot);
      if (expert == kElsewhere) continue;
      require(expert >= 0 && expert < expert_count, "expert {} of {}", expert, expert_count);
      of_expert[static_cast<std::size_t>(expert)].push_back({token, slot});
    }
  }
  PermutedRows order = {.tokens = experts.rows(), .slots = experts.cols(), .offsets = {0}};
  for (const std::vector<RoutedSlot>& slots : of_expert) {
    order.counts.push_back(static_cast<Index>(slots.size()));
    order.rows.insert(order.rows.end(), slots.begin(), slots.end());
    while (row_count(order) % alignment != 0) order.rows.emplace_back();
    order.offsets.push_back(row_count(order));
  }
  return order;
}

Matrix permute_forward(const Matrix& input, const PermutedRows& order) {
  require_extents("input", input, order.tokens, input.cols());
  Matrix out = Matrix::Zero(row_count(order), input.cols());
  for_each_row(order, [&](Index row, RoutedSlot at) { out.row(row) = input.row(at.token); });
  return out;
}

Matrix permute_backward(const Matrix& row_gradient, const PermutedRows& order) {
  require_extents("row gradient", row_gradient, row_count(order), row_gradient.cols());
  Matrix out = Matrix::Zero(order.tokens, row_gradient.cols());
  for_each_row(order,
               [&](Index row, RoutedSlot at) { out.row(at.token) += row_gradient.row(row); });
  return out;
}

Matrix unpermute_forward(const Matrix& rows, const Matrix& weights, const PermutedRows& order) {
  require_extents("rows", rows, row_count(order), rows.cols());
  require_extents("weights", weights, order.tokens, order.slots);
  Matrix out = Matrix::Zero(order.tokens, rows.cols());
  for_each_row(order, [&](Index row, RoutedSlot at) {
    out.row(at.token) += weights(at.token, at.slot) * rows.row(row);
  });
  return out;
}

UnpermuteGradients unpermute_backward(const Matrix& output_gradient, const Matrix& rows,
                                      const Matrix& weights, const PermutedRows& order) {
  require_extents("rows", rows, row_count(order), rows.cols());
  require_extents("weights", weights, order.tokens, order.slots);
  require_extents("output gradient", output_gradient, order.tokens, rows.cols());
  UnpermuteGradients gradients{Matrix::Zero(rows.rows(), rows.cols()),
                               Matrix::Zero(weights.rows(), weights.cols())};
  for_each_row(order, [&](Index row, RoutedSlot at) {
    gradients.rows.row(row) = weights(at.token, at.slot) * output_gradient.row(at.token);
    gradients.weights(at.token, at.slot) = output_gradient.row(at.token).dot(rows.row(row));
  });
  return gradients;
}

}  // namespace pipecast::kernels::reference
