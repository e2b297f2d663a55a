#include "model/routing/group_response.hpp"

#include <algorithm>
#include <array>
#include <cmath>

#include "base/assert.hpp"
#include "base/random.hpp"

namespace pipecast {

namespace {

// Grid of log(weight): the ends are out of reach of any popularity of interest.
constexpr double kStep = 0.25;
constexpr std::size_t kHalf = 12;  // points on either side of weight 1: e^3 = 20 times
constexpr std::size_t kPoints = 2 * kHalf + 1;

// Standard error of a probability of one half: 0.8 %; of differences between close weights, and
// where all groups serve, far less.
constexpr int kTokens = 4096;
// A node that is kept and not used, one in 80: 1.8e-3 of the nodes of a token.
constexpr int kEvenTokens = 16384;

/// Tokens as arrival times of the experts of each group, best first.
class ArrivalTokens {
 public:
  explicit ArrivalTokens(const ModelSpec& model)
      : groups_(static_cast<std::size_t>(model.n_group)),
        kept_(static_cast<std::size_t>(model.topk_group)),
        top_k_(static_cast<std::size_t>(model.num_experts_per_tok)),
        group_size_(static_cast<std::size_t>(model.n_routed_experts / model.n_group)),
        depth_(std::min(top_k_, group_size_)),
        uniforms_(groups_ * depth_),
        times_(groups_ * depth_),
        scores_(groups_),
        weighted_scores_(groups_),
        order_(groups_),
        next_(groups_) {}

  /// Later arrivals than those that score a group are worked out for the groups that are kept.
  void draw() {
    for (double& uniform : uniforms_) uniform = random_.uniform();
    for (std::size_t g = 0; g < groups_; ++g) {
      arrive(g, 0, std::min(kScored, depth_));
      scores_[g] = score(g, 1);
    }
  }

  /// What the token uses of `together` groups from `first` on, whose arrivals come `weight` times
  /// as fast.
  struct Use {
    bool kept = false;
    std::size_t experts = 0;
  };
  Use use(std::size_t first, std::size_t together, double weight) {
    const auto inside = [=](std::size_t g) { return g >= first && g < first + together; };
    for (std::size_t g = 0; g < groups_; ++g) {
      order_[g] = g;
      next_[g] = 0;
      weighted_scores_[g] = inside(g) && weight != 1 ? score(g, weight) : scores_[g];
    }
    std::nth_element(
        order_.begin(), order_.begin() + static_cast<std::ptrdiff_t>(kept_ - 1), order_.end(),
        [this](std::size_t a, std::size_t b) { return weighted_scores_[a] > weighted_scores_[b]; });
    Use out;
    for (std::size_t i = 0; i < kept_; ++i) out.kept = out.kept || inside(order_[i]);
    if (!out.kept) return out;
    for (std::size_t i = 0; i < kept_; ++i) arrive(order_[i], kScored, depth_);
    for (std::size_t used = 0; used < top_k_; ++used) {
      std::size_t best = groups_;
      for (std::size_t i = 0; i < kept_; ++i) {
        const std::size_t g = order_[i];
        if (next_[g] == depth_) continue;
        const double time = times_[g * depth_ + next_[g]] / (inside(g) ? weight : 1);
        if (best == groups_ || time < last_) {
          best = g;
          last_ = time;
        }
      }
      ++next_[best];
      out.experts += inside(best) ? 1 : 0;
    }
    return out;
  }

  /// Prepares use_first() for the token drawn last.
  void rank_others() {
    for (std::size_t g = 1; g < groups_; ++g) order_[g - 1] = g;
    const auto last = order_.begin() + static_cast<std::ptrdiff_t>(groups_ - 1);
    const auto rival = order_.begin() + static_cast<std::ptrdiff_t>(kept_ - 1);
    if (kept_ < groups_) {
      std::nth_element(order_.begin(), rival, last,
                       [this](std::size_t a, std::size_t b) { return scores_[a] > scores_[b]; });
    }
    others_.clear();
    arrive(0, kScored, depth_);
    for (std::size_t i = 0; i + 1 < kept_; ++i) {
      arrive(order_[i], kScored, depth_);
      const double* const times = &times_[order_[i] * depth_];
      others_.insert(others_.end(), times, times + depth_);
    }
    std::sort(others_.begin(), others_.end());
    rival_score_ = kept_ < groups_ ? scores_[*rival] : -1;
  }

  /// use(0, 1, weight): the first group is kept if it beats the last one that is kept without it,
  /// and then meets the same others at every weight.
  [[nodiscard]] Use use_first(double weight) const {
    Use out{.kept = (weight == 1 ? scores_[0] : score(0, weight)) > rival_score_};
    if (!out.kept) return out;
    // An arrival is used if, with the own ones before it, fewer than top_k others are.
    for (std::size_t i = 0; i < depth_; ++i) {
      const std::size_t last = top_k_ - 1 - i;
      const bool used = last >= others_.size() || times_[i] / weight < others_[last];
      out.experts += used ? 1 : 0;
    }
    return out;
  }

  /// The same of other groups, from the choice that the last use() of all groups made.
  [[nodiscard]] Use last_use(std::size_t first, std::size_t together) const {
    Use out;
    for (std::size_t i = 0; i < kept_; ++i) {
      if (order_[i] < first || order_[i] >= first + together) continue;
      out.kept = true;
      out.experts += next_[order_[i]];
    }
    return out;
  }

  /// Distance to 1 of the score of the last expert that a kept set's token used.
  [[nodiscard]] double cut() const { return -std::expm1(-last_); }

 private:
  static constexpr std::size_t kScored = 2;  // arrivals that make a group's score

  /// Arrivals from one to before another; the one before them is there.
  void arrive(std::size_t group, std::size_t from, std::size_t to) {
    const std::size_t first = group * depth_;
    double time = from > 0 && from <= depth_ ? times_[first + from - 1] : 0;
    for (std::size_t i = from; i < to; ++i) {
      // Of the experts left each comes at rate 1 (Renyi 1953).
      time += -std::log(1 - uniforms_[first + i]) / static_cast<double>(group_size_ - i);
      times_[first + i] = time;
    }
  }

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
  std::vector<double> uniforms_;
  std::vector<double> times_;  // [group][arrival]
  std::vector<double> scores_;
  std::vector<double> weighted_scores_;
  std::vector<std::size_t> order_;
  std::vector<std::size_t> next_;
  std::vector<double> others_;  // arrivals of the groups kept beside the first, in order
  double rival_score_ = 0;
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

struct Place {
  std::size_t first = 0;  // of four grid points
  double position = 0;    // 0 .. 1 between the second and the third
};

Place place_of(double weight) {
  constexpr double kEnd = static_cast<double>(kPoints - 1);
  const double x = std::clamp(std::log(weight) / kStep + static_cast<double>(kHalf), 1.0, kEnd - 1);
  const double second = std::min(std::floor(x), kEnd - 2);
  return {.first = static_cast<std::size_t>(second) - 1, .position = x - second};
}

}  // namespace

GroupResponse::GroupResponse(const ModelSpec& model, int together)
    : stride_(static_cast<std::size_t>(model.num_experts_per_tok) + 1),
      kept_(kPoints),
      counts_(kPoints * stride_),
      means_(kPoints) {
  PIPECAST_ASSERT(together > 0 && together < model.n_group && model.n_group % together == 0);
  std::vector<double> even(stride_ + 1);  // at weight 1: probability of being kept, then counts
  evaluate(model, static_cast<std::size_t>(together), even);
  carry_over(even);
}

void GroupResponse::evaluate(const ModelSpec& model, std::size_t together,
                             std::vector<double>& even) {
  const auto groups = static_cast<std::size_t>(model.n_group);
  ArrivalTokens tokens(model);
  std::array<double, kPoints> weights{};
  for (std::size_t p = 0; p < kPoints; ++p) {
    weights[p] = std::exp(kStep * (static_cast<double>(p) - static_cast<double>(kHalf)));
  }
  for (int token = 0; token < kTokens; ++token) {
    tokens.draw();
    if (together == 1) tokens.rank_others();
    for (std::size_t p = 0; p < kPoints; ++p) {
      const ArrivalTokens::Use use =
          together == 1 ? tokens.use_first(weights[p]) : tokens.use(0, together, weights[p]);
      if (!use.kept) continue;
      kept_[p] += 1;
      counts_[p * stride_ + use.experts] += 1;
    }
  }
  double evened = 0;
  for (int token = 0; token < kEvenTokens; ++token) {
    tokens.draw();
    tokens.use(0, groups, 1);
    cut_ += tokens.cut() / kEvenTokens;
    for (std::size_t first = 0; first < groups; first += together) {
      const ArrivalTokens::Use use = tokens.last_use(first, together);
      if (!use.kept) continue;
      even[1 + use.experts] += 1;
      evened += 1;
    }
  }
  for (std::size_t p = 0; p < kPoints; ++p) {
    for (std::size_t n = 0; n < stride_; ++n) counts_[p * stride_ + n] /= std::max(1.0, kept_[p]);
    kept_[p] /= kTokens;
  }
  for (std::size_t n = 0; n < stride_; ++n) even[1 + n] /= evened;
  even[0] = evened * static_cast<double>(together) / static_cast<double>(groups) / kEvenTokens;
}

void GroupResponse::carry_over(const std::vector<double>& even) {
  // Odds of being kept and shares of counts change by the same factors at every weight.
  const auto odds = [](double p) { return p < 1 ? p / (1 - p) : 0; };
  const double own_odds = odds(kept_[kHalf]);
  const double factor = own_odds > 0 ? odds(even[0]) / own_odds : 1;
  const std::vector<double> own(&counts_[kHalf * stride_], &counts_[kHalf * stride_] + stride_);
  for (std::size_t p = 0; p < kPoints; ++p) {
    kept_[p] *= factor / (1 + kept_[p] * (factor - 1));
    double sum = 0;
    for (std::size_t n = 0; n < stride_; ++n) {
      double& share = counts_[p * stride_ + n];
      if (own[n] > 0) share *= even[1 + n] / own[n];
      sum += share;
    }
    for (std::size_t n = 0; n < stride_ && sum > 0; ++n) {
      counts_[p * stride_ + n] /= sum;
      means_[p] += static_cast<double>(n) * counts_[p * stride_ + n];
    }
  }
}

GroupResponse::Answer GroupResponse::at(const std::vector<double>& table, double weight) {
  const Place place = place_of(weight);
  const Cubic c = cubic(place.position);
  Answer out;
  for (std::size_t i = 0; i < 4; ++i) {
    out.value += c.value[i] * table[place.first + i];
    out.slope += c.slope[i] * table[place.first + i] / kStep;
  }
  return out;
}

void GroupResponse::counts(double weight, double* out) const {
  const Place place = place_of(weight);
  const Cubic c = cubic(place.position);
  const double* row = &counts_[place.first * stride_];
  double sum = 0;
  for (std::size_t n = 0; n < stride_; ++n) {
    out[n] =
        std::max(0.0, c.value[0] * row[n] + c.value[1] * row[n + stride_] +
                          c.value[2] * row[n + 2 * stride_] + c.value[3] * row[n + 3 * stride_]);
    sum += out[n];
  }
  for (std::size_t n = 0; n < stride_ && sum > 0; ++n) out[n] /= sum;
}

double GroupResponse::unused(double weight) const {
  std::vector<double> given(stride_);
  counts(weight, given.data());
  return 1 - std::clamp(kept(weight).value, 0.0, 1.0) * (1 - given[0]);
}

}  // namespace pipecast
