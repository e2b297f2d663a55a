#include "model/routing/group_response.hpp"

#include <algorithm>
#include <cmath>

#include "base/assert.hpp"
#include "base/random.hpp"

namespace pipecast {

namespace {

// Grid of log(weight): the ends are out of reach of any popularity of interest.
constexpr double kStep = 0.25;
constexpr int kHalf = 14;  // points on either side of weight 1: e^3.5 = 33 times
constexpr std::size_t kPoints = 2 * kHalf + 1;

// Standard error of a probability of one half: 0.5 %; of differences between close weights far
// less.
constexpr int kTokens = 8192;

/// Tokens as arrival times of the experts of each group, best first.
class ArrivalTokens {
 public:
  explicit ArrivalTokens(const ModelSpec& model)
      : groups_(static_cast<std::size_t>(model.n_group)),
        kept_(static_cast<std::size_t>(model.topk_group)),
        top_k_(static_cast<std::size_t>(model.num_experts_per_tok)),
        group_size_(static_cast<std::size_t>(model.n_routed_experts / model.n_group)),
        depth_(std::min(top_k_, group_size_)),
        times_(groups_ * depth_),
        group_scores_(groups_),
        order_(groups_),
        next_(groups_) {}

  void draw() {
    for (std::size_t g = 0; g < groups_; ++g) {
      double time = 0;
      for (std::size_t i = 0; i < depth_; ++i) {
        // Of the experts left each comes at rate 1 (Renyi 1953).
        time += -std::log1p(-random_.uniform()) / static_cast<double>(group_size_ - i);
        times_[g * depth_ + i] = time;
      }
      group_scores_[g] = score(g, 1);
    }
  }

  /// Experts that the token uses in the first `together` groups, whose arrivals come `weight` times
  /// as fast.
  std::size_t count(std::size_t together, double weight) {
    for (std::size_t g = 0; g < groups_; ++g) {
      order_[g] = g;
      if (g < together) group_scores_[g] = score(g, weight);
    }
    std::nth_element(
        order_.begin(), order_.begin() + static_cast<std::ptrdiff_t>(kept_ - 1), order_.end(),
        [this](std::size_t a, std::size_t b) { return group_scores_[a] > group_scores_[b]; });
    std::fill(next_.begin(), next_.end(), 0);
    std::size_t inside = 0;
    for (std::size_t used = 0; used < top_k_; ++used) {
      std::size_t best = groups_;
      double best_time = 0;
      for (std::size_t i = 0; i < kept_; ++i) {
        const std::size_t g = order_[i];
        if (next_[g] == depth_) continue;
        const double time = times_[g * depth_ + next_[g]] / (g < together ? weight : 1);
        if (best == groups_ || time < best_time) {
          best = g;
          best_time = time;
        }
      }
      ++next_[best];
      inside += best < together ? 1 : 0;
      last_ = best_time;
    }
    return inside;
  }

  /// Distance to 1 of the score of the last expert that the last count() used.
  [[nodiscard]] double cut() const { return -std::expm1(-last_); }

 private:
  [[nodiscard]] double score(std::size_t group, double weight) const {
    double sum = std::exp(-times_[group * depth_] / weight);
    if (depth_ > 1) sum += std::exp(-times_[group * depth_ + 1] / weight);
    return sum;
  }

  std::size_t groups_;
  std::size_t kept_;
  std::size_t top_k_;
  std::size_t group_size_;
  std::size_t depth_;
  std::vector<double> times_;  // [group][arrival]
  std::vector<double> group_scores_;
  std::vector<std::size_t> order_;
  std::vector<std::size_t> next_;
  double last_ = 0;
  Random random_{0, "group-response"};
};

struct Cubic {
  double value[4];
  double slope[4];
};

/// Catmull-Rom: passes through the two middle points with the slopes of their neighbours.
Cubic cubic(double t) {
  const double t2 = t * t;
  const double t3 = t2 * t;
  return {{0.5 * (-t3 + 2 * t2 - t), 0.5 * (3 * t3 - 5 * t2 + 2), 0.5 * (-3 * t3 + 4 * t2 + t),
           0.5 * (t3 - t2)},
          {0.5 * (-3 * t2 + 4 * t - 1), 0.5 * (9 * t2 - 10 * t), 0.5 * (-9 * t2 + 8 * t + 1),
           0.5 * (3 * t2 - 2 * t)}};
}

}  // namespace

GroupResponse::GroupResponse(const ModelSpec& model, int together)
    : stride_(static_cast<std::size_t>(model.num_experts_per_tok) + 1),
      counts_(kPoints * stride_),
      means_(kPoints) {
  PIPECAST_ASSERT(together > 0 && together < model.n_group);
  const auto inside = static_cast<std::size_t>(together);
  std::vector<double> weights(kPoints);
  for (std::size_t p = 0; p < kPoints; ++p)
    weights[p] = std::exp(kStep * (static_cast<double>(p) - kHalf));
  ArrivalTokens tokens(model);
  for (int token = 0; token < kTokens; ++token) {
    tokens.draw();
    for (std::size_t p = 0; p < kPoints; ++p) {
      counts_[p * stride_ + tokens.count(inside, weights[p])] += 1.0 / kTokens;
      if (p == kHalf) cut_ += tokens.cut() / kTokens;
    }
  }
  const auto mean_at = [this](std::size_t p) {
    double mean = 0;
    for (std::size_t n = 1; n < stride_; ++n)
      mean += static_cast<double>(n) * counts_[p * stride_ + n];
    return mean;
  };
  const double exact = static_cast<double>(model.num_experts_per_tok) * together /
                       static_cast<double>(model.n_group);
  const double correction = exact / mean_at(kHalf);
  for (std::size_t p = 0; p < kPoints; ++p) {
    // Fades where nearly all or none of the experts are inside: a sure event needs no correction.
    double used = 0;
    const double unused = counts_[p * stride_];
    for (std::size_t n = 1; n < stride_; ++n) {
      counts_[p * stride_ + n] *=
          1 + (correction - 1) * std::min(1.0, unused / counts_[kHalf * stride_]);
      used += counts_[p * stride_ + n];
    }
    counts_[p * stride_] = 1 - used;
    means_[p] = mean_at(p);
  }
}

GroupResponse::Place GroupResponse::place(double weight) {
  constexpr double kEnd = static_cast<double>(kPoints - 1);
  const double x = std::clamp(std::log(weight) / kStep + kHalf, 1.0, kEnd - 1);
  const double second = std::min(std::floor(x), kEnd - 2);
  return {.first = static_cast<std::size_t>(second) - 1, .position = x - second};
}

void GroupResponse::counts(double weight, double* out) const {
  const Place at = place(weight);
  const Cubic c = cubic(at.position);
  const double* row = &counts_[at.first * stride_];
  for (std::size_t n = 0; n < stride_; ++n) {
    out[n] =
        std::max(0.0, c.value[0] * row[n] + c.value[1] * row[n + stride_] +
                          c.value[2] * row[n + 2 * stride_] + c.value[3] * row[n + 3 * stride_]);
  }
}

double GroupResponse::unused(double weight) const {
  const Place at = place(weight);
  const Cubic c = cubic(at.position);
  double out = 0;
  for (std::size_t i = 0; i < 4; ++i) out += c.value[i] * counts_[(at.first + i) * stride_];
  return std::max(0.0, out);
}

GroupResponse::Mean GroupResponse::mean(double weight) const {
  const Place at = place(weight);
  const Cubic c = cubic(at.position);
  Mean out;
  for (std::size_t i = 0; i < 4; ++i) {
    out.value += c.value[i] * means_[at.first + i];
    out.slope += c.slope[i] * means_[at.first + i] / kStep;
  }
  return out;
}

}  // namespace pipecast
