#include "kernels/calibration/peer_exchange.hpp"

#include <algorithm>
#include <cstdint>
#include <random>

#include "kernels/numbers/bf16.hpp"
#include "kernels/simt/device_error.hpp"

namespace pipecast::kernels {
namespace {

constexpr int kScaleDepth = 128;
constexpr int kSlots = 64;        // rows of a ring: enough to keep a link busy
constexpr int kSampledRows = 97;  // one row in so many is compared

std::size_t area(std::int64_t rows, std::int64_t columns) {
  return static_cast<std::size_t>(rows) * static_cast<std::size_t>(columns);
}

/// Bytes and sums that tell rows, columns and ranks apart.
std::uint8_t byte_of(int rank, int token, int column) {
  return static_cast<std::uint8_t>(rank * 41 + token * 7 + column % 113);
}
/// Small integers: eight of them add up in FP32 without rounding.
float expert_value(int rank, std::int64_t row, int column) {
  return static_cast<float>((rank * 13 + row * 5 + column) % 61);
}

/// As many distinct experts as a token takes.
void choose(int* chosen, int top_k, int experts, std::mt19937_64& generator) {
  for (int k = 0; k < top_k;) {
    const auto expert = static_cast<int>(generator() % static_cast<std::uint64_t>(experts));
    if (std::find(chosen, chosen + k, expert) != chosen + k) continue;
    chosen[k++] = expert;
  }
}

}  // namespace

PeerExchange::PeerExchange(const PeerExchangeShape& shape) : shape_(shape) {
  if (shape.sms % 2 != 0 || shape.hidden % kScaleDepth != 0 || shape.top_k > shape.experts) {
    throw DeviceError("an exchange takes an even number of SMs and rows of a multiple of 128");
  }
  const int scales = shape.hidden / kScaleDepth;
  extents_ = {.ranks = shape.ranks,
              .experts = shape.experts,
              .top_k = shape.top_k,
              .channels = shape.sms / 2,
              .slots = kSlots,
              .slot_bytes = std::max(dispatch_slot_bytes(shape.hidden, scales, shape.top_k),
                                     combine_slot_bytes(shape.hidden, shape.top_k))};
  draw_routing();
  allocate();
  run_ranks_apart(shape_.ranks, [&](int rank) {
    const Rank& own = ranks_[area(rank, 1)];
    ep_layout({extents_, static_cast<const int*>(own.chosen.data()),
               static_cast<std::uint32_t*>(own.ranks_of_token.data()),
               static_cast<int*>(own.channel_counts.data()),
               static_cast<int*>(own.expert_counts.data()), shape_.tokens, 0});
  });
  run_ranks_together(shape_.ranks, [&](int rank) {
    const Rank& own = ranks_[area(rank, 1)];
    ep_notify({extents_, self(rank), static_cast<const int*>(own.channel_counts.data()),
               static_cast<const int*>(own.expert_counts.data()),
               static_cast<int*>(own.first_rows.data()),
               static_cast<int*>(own.local_counts.data())});
  });
  run_ranks_together(shape_.ranks, [&](int rank) { launch_dispatch(rank); });
  prepare();
  run_ranks_together(shape_.ranks, [&](int rank) { launch_combine(rank); });
}

void PeerExchange::draw_routing() {
  std::mt19937_64 generator(1);
  received_.resize(area(shape_.ranks, 1));
  const int of_rank = shape_.experts / shape_.ranks;
  for (int rank = 0; rank < shape_.ranks; ++rank) {
    std::vector<int>& chosen = chosen_.emplace_back(area(shape_.tokens, shape_.top_k));
    for (int token = 0; token < shape_.tokens; ++token) {
      int* own = chosen.data() + area(token, shape_.top_k);
      choose(own, shape_.top_k, shape_.experts, generator);
      for (int receiver = 0; receiver < shape_.ranks; ++receiver) {
        const auto lives_there = [&](int expert) { return expert / of_rank == receiver; };
        if (std::any_of(own, own + shape_.top_k, lives_there)) {
          received_[area(receiver, 1)].push_back({rank, token});
        }
      }
    }
  }
}

void PeerExchange::allocate() {
  const int scales = shape_.hidden / kScaleDepth;
  std::vector<std::uint8_t> rows(area(shape_.tokens, shape_.hidden));
  const std::vector<float> ones(area(shape_.tokens, std::max(shape_.top_k, scales)), 1.0F);
  for (int rank = 0; rank < shape_.ranks; ++rank) {
    windows_.emplace_back(rank, exchange_window_bytes(extents_));
    const auto memory = [rank](std::int64_t count, std::int64_t each, std::size_t bytes) {
      return RankMemory(rank, area(count, each) * bytes);
    };
    const auto received = static_cast<std::int64_t>(received_[area(rank, 1)].size());
    const int tokens = shape_.tokens;
    ranks_.push_back({.chosen = memory(tokens, shape_.top_k, sizeof(int)),
                      .weights = memory(tokens, shape_.top_k, sizeof(float)),
                      .rows = memory(tokens, shape_.hidden, 1),
                      .scales = memory(tokens, scales, sizeof(float)),
                      .ranks_of_token = memory(tokens, 1, sizeof(std::uint32_t)),
                      .channel_counts = memory(shape_.ranks, extents_.channels, sizeof(int)),
                      .expert_counts = memory(shape_.experts, 1, sizeof(int)),
                      .first_rows = memory(shape_.ranks * extents_.channels + 1, 1, sizeof(int)),
                      .local_counts = memory(shape_.experts / shape_.ranks, 1, sizeof(int)),
                      .received_rows = memory(received, shape_.hidden, 1),
                      .received_scales = memory(received, scales, sizeof(float)),
                      .received_experts = memory(received, shape_.top_k, sizeof(int)),
                      .received_weights = memory(received, shape_.top_k, sizeof(float)),
                      .received_tokens = memory(received, 1, sizeof(int)),
                      .sent_rows = memory(tokens, shape_.ranks, sizeof(int)),
                      .expert_rows = memory(received, shape_.hidden, sizeof(Bf16)),
                      .output = memory(tokens, shape_.hidden, sizeof(Bf16))});
    const Rank& own = ranks_.back();
    const std::vector<int>& chosen = chosen_[area(rank, 1)];
    own.chosen.write(chosen.data(), chosen.size() * sizeof(int));
    own.weights.write(ones.data(), area(tokens, shape_.top_k) * sizeof(float));
    own.scales.write(ones.data(), area(tokens, scales) * sizeof(float));
    for (int token = 0; token < tokens; ++token) {
      for (int column = 0; column < shape_.hidden; ++column) {
        rows[area(token, shape_.hidden) + area(column, 1)] = byte_of(rank, token, column);
      }
    }
    own.rows.write(rows.data(), rows.size());
    std::vector<Bf16> expert_rows(area(received, shape_.hidden));
    for (std::int64_t row = 0; row < received; ++row) {
      for (int column = 0; column < shape_.hidden; ++column) {
        expert_rows[area(row, shape_.hidden) + area(column, 1)] =
            to_bf16(expert_value(rank, row, column));
      }
    }
    own.expert_rows.write(expert_rows.data(), expert_rows.size() * sizeof(Bf16));
  }
}

ExchangeRank PeerExchange::self(int rank) const {
  ExchangeRank result{.windows = {}, .rank = rank};
  for (int i = 0; i < shape_.ranks; ++i) result.windows[i] = windows_[area(i, 1)].data();
  return result;
}

void PeerExchange::prepare() {
  run_ranks_together(shape_.ranks, [&](int rank) { ep_cached_notify({extents_, self(rank)}); });
}

void PeerExchange::launch_dispatch(int rank) {
  const Rank& own = ranks_[area(rank, 1)];
  ep_dispatch({.shape = extents_,
               .self = self(rank),
               .rows = own.rows.data(),
               .scales = static_cast<const float*>(own.scales.data()),
               .chosen = static_cast<const int*>(own.chosen.data()),
               .weights = static_cast<const float*>(own.weights.data()),
               .ranks_of_token = static_cast<const std::uint32_t*>(own.ranks_of_token.data()),
               .first_rows = static_cast<const int*>(own.first_rows.data()),
               .received_rows = own.received_rows.data(),
               .received_scales = static_cast<float*>(own.received_scales.data()),
               .received_experts = static_cast<int*>(own.received_experts.data()),
               .received_weights = static_cast<float*>(own.received_weights.data()),
               .received_tokens = static_cast<int*>(own.received_tokens.data()),
               .sent_rows = static_cast<int*>(own.sent_rows.data()),
               .tokens = shape_.tokens,
               .row_bytes = shape_.hidden,
               .scale_count = shape_.hidden / kScaleDepth});
}

void PeerExchange::launch_combine(int rank) {
  const Rank& own = ranks_[area(rank, 1)];
  ep_combine({.shape = extents_,
              .self = self(rank),
              .rows = static_cast<const Bf16*>(own.expert_rows.data()),
              .weights = nullptr,
              .first_rows = static_cast<const int*>(own.first_rows.data()),
              .sent_rows = static_cast<const int*>(own.sent_rows.data()),
              .addends = {nullptr, nullptr},
              .output = static_cast<Bf16*>(own.output.data()),
              .output_weights = nullptr,
              .tokens = shape_.tokens,
              .columns = shape_.hidden});
}

double PeerExchange::wrong_rows(int rank) const {
  const Rank& own = ranks_[area(rank, 1)];
  const std::vector<Origin>& origins = received_[area(rank, 1)];
  std::vector<std::uint8_t> row(area(shape_.hidden, 1));
  std::int64_t wrong = 0;
  std::int64_t seen = 0;
  for (std::size_t i = 0; i < origins.size(); i += kSampledRows) {
    own.received_rows.read(row.data(), i * row.size(), row.size());
    for (int column = 0; column < shape_.hidden; ++column, ++seen) {
      const std::uint8_t expected = byte_of(origins[i].rank, origins[i].token, column);
      wrong += row[area(column, 1)] == expected ? 0 : 1;
    }
  }
  return seen == 0 ? 0 : static_cast<double>(wrong) / static_cast<double>(seen);
}

double PeerExchange::wrong_sums(int rank) const {
  const Rank& own = ranks_[area(rank, 1)];
  std::vector<Bf16> row(area(shape_.hidden, 1));
  std::vector<float> sums(row.size());
  std::int64_t wrong = 0;
  std::int64_t seen = 0;
  for (int token = 0; token < shape_.tokens; token += kSampledRows) {
    std::fill(sums.begin(), sums.end(), 0.0F);
    for (int peer = 0; peer < shape_.ranks; ++peer) {
      const std::vector<Origin>& origins = received_[area(peer, 1)];
      const auto sent = std::find_if(origins.begin(), origins.end(), [&](const Origin& origin) {
        return origin.rank == rank && origin.token == token;
      });
      if (sent == origins.end()) continue;
      for (int column = 0; column < shape_.hidden; ++column) {
        sums[area(column, 1)] += expert_value(peer, sent - origins.begin(), column);
      }
    }
    own.output.read(row.data(), area(token, shape_.hidden) * sizeof(Bf16),
                    row.size() * sizeof(Bf16));
    for (std::size_t column = 0; column < row.size(); ++column, ++seen) {
      wrong += row[column].bits == to_bf16(sums[column]).bits ? 0 : 1;
    }
  }
  return seen == 0 ? 0 : static_cast<double>(wrong) / static_cast<double>(seen);
}

double PeerExchange::wrong_share() const {
  double worst = 0;
  for (int rank = 0; rank < shape_.ranks; ++rank) {
    worst = std::max({worst, wrong_rows(rank), wrong_sums(rank)});
  }
  return worst;
}

}  // namespace pipecast::kernels
