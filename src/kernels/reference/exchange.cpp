#include "kernels/reference/exchange.hpp"

#include "base/error.hpp"
#include "kernels/reference/permute.hpp"

namespace pipecast::kernels::reference {
namespace {

bool goes_to(const IndexMatrix& experts, Index token, Index rank, Index experts_per_rank) {
  for (Index slot = 0; slot < experts.cols(); ++slot) {
    if (experts(token, slot) / experts_per_rank == rank) return true;
  }
  return false;
}

void require_ranks(std::string_view name, std::size_t given, const ExchangeRouting& routing) {
  require(given == routing.tokens.size(), "{} of {} ranks, not {}", name, routing.tokens.size(),
          given);
}

/// Tensors of each rank's own tokens; returns their width.
template <class Tensor>
Index require_tokens(std::string_view name, const std::vector<Tensor>& tensors,
                     const ExchangeRouting& routing) {
  require_ranks(name, tensors.size(), routing);
  for (std::size_t rank = 0; rank < tensors.size(); ++rank) {
    require_extents(name, tensors[rank], routing.tokens[rank], tensors.front().cols());
  }
  return tensors.empty() ? 0 : tensors.front().cols();
}

/// Tensors of the rows that each rank received; returns their width.
Index require_received(const std::vector<Matrix>& rows, const std::vector<Vector>& weights,
                       const ExchangeRouting& routing) {
  require_ranks("rows", rows.size(), routing);
  require_ranks("weights", weights.size(), routing);
  for (std::size_t rank = 0; rank < rows.size(); ++rank) {
    const auto received = static_cast<Index>(routing.received[rank].size());
    require_extents("rows", rows[rank], received, rows.front().cols());
    require_length("weights", weights[rank], received);
  }
  return rows.empty() ? 0 : rows.front().cols();
}

/// Calls visit(receiving rank, received row, sent row) for every row that crosses.
template <class Visit>
void for_each_crossing(const ExchangeRouting& routing, Visit visit) {
  for (std::size_t rank = 0; rank < routing.received.size(); ++rank) {
    Index row = 0;
    for (const SentRow& sent : routing.received[rank]) visit(rank, row++, sent);
  }
}

}  // namespace

ExchangeRouting exchange_routing(const std::vector<IndexMatrix>& experts, Index experts_per_rank) {
  require(experts_per_rank > 0, "{} experts per rank", experts_per_rank);
  const auto ranks = static_cast<Index>(experts.size());
  ExchangeRouting routing = {.experts_per_rank = experts_per_rank};
  for (const IndexMatrix& of_rank : experts) {
    for (const Index expert : of_rank.reshaped()) {
      require(expert >= 0 && expert < ranks * experts_per_rank, "expert {} of {} on {} ranks",
              expert, ranks * experts_per_rank, ranks);
    }
    routing.tokens.push_back(of_rank.rows());
  }
  for (Index to = 0; to < ranks; ++to) {
    std::vector<SentRow>& received = routing.received.emplace_back();
    for (Index from = 0; from < ranks; ++from) {
      const IndexMatrix& of_rank = experts[static_cast<std::size_t>(from)];
      for (Index token = 0; token < of_rank.rows(); ++token) {
        if (goes_to(of_rank, token, to, experts_per_rank)) received.push_back({from, token});
      }
    }
  }
  return routing;
}

std::vector<Matrix> dispatch_rows(const ExchangeRouting& routing,
                                  const std::vector<Matrix>& tokens) {
  const Index width = require_tokens("tokens", tokens, routing);
  std::vector<Matrix> out;
  for (const std::vector<SentRow>& received : routing.received) {
    out.emplace_back(static_cast<Index>(received.size()), width);
  }
  for_each_crossing(routing, [&](std::size_t rank, Index row, const SentRow& sent) {
    out[rank].row(row) = tokens[static_cast<std::size_t>(sent.rank)].row(sent.token);
  });
  return out;
}

std::vector<IndexMatrix> dispatch_experts(const ExchangeRouting& routing,
                                          const std::vector<IndexMatrix>& experts) {
  const Index slots = require_tokens("experts", experts, routing);
  std::vector<IndexMatrix> out;
  for (const std::vector<SentRow>& received : routing.received) {
    out.emplace_back(static_cast<Index>(received.size()), slots);
  }
  for_each_crossing(routing, [&](std::size_t rank, Index row, const SentRow& sent) {
    for (Index slot = 0; slot < slots; ++slot) {
      const Index expert = experts[static_cast<std::size_t>(sent.rank)](sent.token, slot);
      const bool here = expert / routing.experts_per_rank == static_cast<Index>(rank);
      out[rank](row, slot) = here ? expert % routing.experts_per_rank : kElsewhere;
    }
  });
  return out;
}

std::vector<Matrix> combine_rows(const ExchangeRouting& routing, const std::vector<Matrix>& rows,
                                 const std::vector<Vector>& weights) {
  const Index width = require_received(rows, weights, routing);
  std::vector<Matrix> out;
  for (const Index tokens : routing.tokens) out.push_back(Matrix::Zero(tokens, width));
  for_each_crossing(routing, [&](std::size_t rank, Index row, const SentRow& sent) {
    out[static_cast<std::size_t>(sent.rank)].row(sent.token) +=
        weights[rank](row) * rows[rank].row(row);
  });
  return out;
}

std::vector<Matrix> combine_rows(const ExchangeRouting& routing, const std::vector<Matrix>& rows) {
  std::vector<Vector> ones;
  for (const std::vector<SentRow>& received : routing.received) {
    ones.push_back(Vector::Ones(static_cast<Index>(received.size())));
  }
  return combine_rows(routing, rows, ones);
}

CombineGradients combine_backward(const ExchangeRouting& routing, const std::vector<Matrix>& rows,
                                  const std::vector<Vector>& weights,
                                  const std::vector<Matrix>& output_gradient) {
  const Index width = require_received(rows, weights, routing);
  require(require_tokens("output gradient", output_gradient, routing) == width,
          "rows of {} columns, output gradient of another width", width);
  CombineGradients gradients{dispatch_rows(routing, output_gradient), weights};
  for_each_crossing(routing, [&](std::size_t rank, Index row, const SentRow&) {
    gradients.weights[rank](row) = gradients.rows[rank].row(row).dot(rows[rank].row(row));
    gradients.rows[rank].row(row) *= weights[rank](row);
  });
  return gradients;
}

}  // namespace pipecast::kernels::reference
