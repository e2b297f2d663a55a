#include "model/routing/aggregate_sampler.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "base/assert.hpp"
#include "base/error.hpp"
#include "model/routing/fast_normal.hpp"

namespace pipecast {

namespace {

std::size_t to_size(std::int64_t value) { return static_cast<std::size_t>(value); }

/// 1 - (1 - a y)^(1/a), which is y - (1 - a) y^2 / 2 ...: y itself for a = 1, 1 - exp(-y) for
/// a -> 0, never more than 1. For small y by its series (error below 1e-4).
double saturated(double y, double a, bool small) {
  if (small) {
    return y * (1 - (1 - a) * y * (1.0 / 2 - (1 - 2 * a) * y * (1.0 / 6 - (1 - 3 * a) * y / 24)));
  }
  if (a * y >= 1) return 1;
  return -std::expm1(std::log1p(-a * y) / a);
}

/// The factor at which `answer(group, factor)` adds up to `target`: Newton's method in its
/// logarithm.
template <class AnswerOf>
double solve(double target, std::size_t groups, AnswerOf answer_of) {
  constexpr int kMostSteps = 20;
  constexpr double kClose = 1e-5;
  double log_factor = 0;
  for (int step = 0; step < kMostSteps; ++step) {
    GroupResponse::Answer sum;
    for (std::size_t g = 0; g < groups; ++g) {
      const GroupResponse::Answer answer = answer_of(g, std::exp(log_factor));
      sum.value += answer.value;
      sum.slope += answer.slope;
    }
    if (std::abs(sum.value - target) < kClose * target || sum.slope <= 0) break;
    log_factor += std::clamp((target - sum.value) / sum.slope, -1.0, 1.0);
  }
  return std::exp(log_factor);
}

}  // namespace

AggregateSampler::AggregateSampler(const ModelSpec& model, const RoutingGroup& group)
    : group_(group),
      experts_(to_size(model.n_routed_experts)),
      top_k_(to_size(model.num_experts_per_tok)),
      // A gate that keeps all groups is one without groups.
      groups_(model.topk_group < model.n_group ? to_size(model.n_group) : 1),
      group_size_(experts_ / groups_),
      kept_groups_(groups_ > 1 ? to_size(model.topk_group) : 1) {
  require(group.gpus > 0 && group.gpus_per_node > 0 && group.tokens > 0,
          "routing: a group of {} GPUs, {} per node, with {} tokens each", group.gpus,
          group.gpus_per_node, group.tokens);
  require(model.n_routed_experts % group.gpus == 0,
          "routing: {} experts do not divide over ep={} GPUs", model.n_routed_experts, group.gpus);
  require(group.gpus <= group.gpus_per_node || group.gpus % group.gpus_per_node == 0,
          "routing: ep={} GPUs do not fill nodes of {}", group.gpus, group.gpus_per_node);
  if (groups_ > 1) response_.emplace(model, 1);
  gpus_ = make_units(model, group.gpus, "GPU");
  nodes_ = make_units(model, group.nodes(), "node");
  cut_ = response_ ? response_->cut()
                   : static_cast<double>(top_k_) / static_cast<double>(experts_ + 1);
}

AggregateSampler::Units AggregateSampler::make_units(const ModelSpec& model, int count,
                                                     const char* name) const {
  Units out;
  out.count = to_size(count);
  out.held = experts_ / out.count;
  require(out.held % group_size_ == 0 || group_size_ % out.held == 0,
          "routing: a {} holds {} experts, which cuts across groups of {}", name, out.held,
          group_size_);
  if (out.held > group_size_ && out.held < experts_)
    out.response.emplace(model, static_cast<int>(out.held / group_size_));
  return out;
}

ExpectedChoice AggregateSampler::expect(const std::vector<double>& weights) const {
  PIPECAST_ASSERT(weights.size() == experts_);
  ExpectedChoice choice;
  weigh_groups(weights, choice);
  choose_groups(choice);
  choose_experts(weights, choice);
  return choice;
}

void AggregateSampler::weigh_groups(const std::vector<double>& weights,
                                    ExpectedChoice& choice) const {
  choice.group_weights.resize(groups_);
  choice.group_shares.resize(groups_);
  choice.group_relative.resize(groups_);
  double sum = 0;
  for (std::size_t g = 0; g < groups_; ++g) {
    double total = 0;
    double squares = 0;
    for (std::size_t e = g * group_size_; e < (g + 1) * group_size_; ++e) {
      total += weights[e];
      squares += weights[e] * weights[e];
    }
    choice.group_weights[g] = total;
    choice.group_shares[g] = squares / (total * total);
    // The sum of the group's two highest scores is 2 less (2 E1 + E2 W / (W - w)) / W, where w is
    // the weight of the best one and E1, E2 are exponential: the more uneven its experts, the lower
    // the second.
    constexpr double kSure = 0.999;
    const double lost = choice.group_shares[g] / (1 - std::min(choice.group_shares[g], kSure));
    choice.group_relative[g] = total / (3 + lost);
    sum += choice.group_relative[g];
  }
  for (double& relative : choice.group_relative)
    relative *= static_cast<double>(groups_ - 1) / (sum - relative);
}

void AggregateSampler::choose_groups(ExpectedChoice& choice) const {
  const std::size_t stride = top_k_ + 1;
  choice.group_counts.assign(groups_ * stride, 0);
  if (groups_ == 1) {
    choice.group_counts[top_k_] = 1;
    return;
  }
  // What all groups share, because topk_group are kept and top_k experts used whatever the
  // popularities, is a common factor on them: one for each of the two choices.
  std::vector<double> kept(groups_);
  const auto keep = [&](std::size_t g, double factor) {
    return response_->kept(factor * choice.group_relative[g]);
  };
  const double keeping = solve(static_cast<double>(kept_groups_), groups_, keep);
  for (std::size_t g = 0; g < groups_; ++g) kept[g] = std::clamp(keep(g, keeping).value, 0.0, 1.0);
  const auto use = [&](std::size_t g, double factor) {
    const GroupResponse::Answer mean = response_->mean(factor * choice.group_relative[g]);
    return GroupResponse::Answer{kept[g] * mean.value, kept[g] * mean.slope};
  };
  const double using_them = solve(static_cast<double>(top_k_), groups_, use);
  for (std::size_t g = 0; g < groups_; ++g) {
    double* const counts = &choice.group_counts[g * stride];
    response_->counts(using_them * choice.group_relative[g], counts);
    for (std::size_t n = 0; n < stride; ++n) counts[n] *= kept[g];
    counts[0] += 1 - kept[g];
  }
}

void AggregateSampler::choose_experts(const std::vector<double>& weights,
                                      ExpectedChoice& choice) const {
  choice.experts.resize(experts_);
  choice.variances.resize(experts_);
  choice.group_means.resize(groups_);
  choice.group_within.assign(groups_, 0);
  choice.group_variance.resize(groups_);
  for (std::size_t g = 0; g < groups_; ++g) choose_in_group(g, &weights[g * group_size_], choice);
}

void AggregateSampler::choose_in_group(std::size_t group, const double* weights,
                                       ExpectedChoice& choice) const {
  double mean = 0;
  double square = 0;
  for (std::size_t n = 1; n <= top_k_; ++n) {
    const auto number = static_cast<double>(n);
    mean += number * choice.group_counts[group * (top_k_ + 1) + n];
    square += number * number * choice.group_counts[group * (top_k_ + 1) + n];
  }
  choice.group_means[group] = mean;
  choice.group_variance[group] = std::max(0.0, square - mean * mean);
  double* const p = &choice.experts[group * group_size_];
  double* const variances = &choice.variances[group * group_size_];
  if (mean <= 0) {
    std::fill(p, p + group_size_, 0.0);
    std::fill(variances, variances + group_size_, 0.0);
    return;
  }
  // n draws without replacement find a share q with the probability n q (1 - (n - 1) q / 2 ...).
  // Over the tokens that use the group at all, of n = `number` on average: the series of
  // saturated() at y = number * q with 1 - a = E[n (n - 1)] / number^2.
  const double used = 1 - choice.group_counts[group * (top_k_ + 1)];
  const double number = mean / used;
  const double pairs = (square - mean) / used / (number * number);
  constexpr double kLeast = 1e-6;  // a of exponential saturation, where the formula divides by a
  const double a = std::abs(1 - pairs) < kLeast ? kLeast : 1 - pairs;
  const double largest = *std::max_element(weights, weights + group_size_);
  double scale =
      number / choice.group_weights[group] * (1 + pairs * number * choice.group_shares[group] / 2);
  constexpr int kMostSteps = 20;
  constexpr double kClose = 1e-3;  // the rest is shared out in proportion
  double ratio = 0;
  for (int step = 0; step < kMostSteps && std::abs(ratio - 1) > kClose; ++step) {
    constexpr double kSmall = 0.3;
    const bool small = scale * largest < kSmall;
    double sum = 0;
    for (std::size_t e = 0; e < group_size_; ++e) {
      p[e] = used * saturated(scale * weights[e], a, small);
      sum += p[e];
    }
    ratio = mean / sum;
    scale *= ratio;
  }
  for (std::size_t e = 0; e < group_size_; ++e) {
    p[e] = std::min(1.0, p[e] * ratio);
    variances[e] = std::max(0.0, p[e] - p[e] * p[e] * square / (mean * mean));
    choice.group_within[group] += variances[e];
  }
}

double AggregateSampler::used_by(const Units& units, std::size_t unit,
                                 const std::vector<double>& weights,
                                 const ExpectedChoice& choice) const {
  if (units.count == 1) return 1;
  if (units.held > group_size_) {
    double inside = 0;
    double all = 0;
    const std::size_t groups = units.held / group_size_;
    for (std::size_t g = 0; g < groups_; ++g) {
      // Over the others of that one group: undone, so that it is over all.
      const double relative = choice.group_relative[g];
      const double share = relative / (relative + static_cast<double>(groups_ - 1));
      all += share;
      if (g / groups == unit) inside += share;
    }
    const double others = static_cast<double>(groups_ - groups) / static_cast<double>(groups);
    return 1 - units.response->unused(inside / (all - inside) * others);
  }
  const std::size_t group = unit * units.held / group_size_;
  double weight = 0;
  for (std::size_t e = unit * units.held; e < (unit + 1) * units.held; ++e) weight += weights[e];
  return used_part(group, weight / choice.group_weights[group], choice);
}

double AggregateSampler::used_part(std::size_t group, double share,
                                   const ExpectedChoice& choice) const {
  const double* const counts = &choice.group_counts[group * (top_k_ + 1)];
  double missing = counts[0];
  double none = 1;
  for (std::size_t n = 1; n <= top_k_; ++n) {
    // The n - 1 experts drawn before are others; their shares are gone.
    const double left = 1 - static_cast<double>(n - 1) * choice.group_shares[group];
    none *= left > share ? 1 - share / left : 0;
    missing += counts[n] * none;
  }
  return 1 - missing;
}

double AggregateSampler::variance_of(const Units& units, std::size_t unit,
                                     const ExpectedChoice& choice) const {
  double variance = 0;
  if (units.held >= group_size_) {
    const std::size_t groups = units.held / group_size_;
    for (std::size_t g = unit * groups; g < (unit + 1) * groups; ++g)
      variance += choice.group_variance[g];
    return variance;
  }
  const std::size_t group = unit * units.held / group_size_;
  double rows = 0;
  double inside = 0;
  for (std::size_t e = unit * units.held; e < (unit + 1) * units.held; ++e) {
    rows += choice.experts[e];
    inside += choice.variances[e];
  }
  const double share = choice.group_means[group] > 0 ? rows / choice.group_means[group] : 0;
  const double all = choice.group_within[group];
  const double remaining = all > 0 ? 1 - inside / all : 0;
  return share * share * choice.group_variance[group] + inside * remaining;
}

void AggregateSampler::add_noise(const ExpectedChoice& choice, Random& random,
                                 std::vector<double>& rows) const {
  const auto tokens = static_cast<double>(group_.all_tokens());
  // Normal numbers of given variances, less their sum in the same proportions: their sum is
  // constant. That takes its part of the variance, which the factor gives back on average.
  const auto draw = [&random](const double* variances, std::size_t count, double* out) {
    if (count < 2) {
      std::fill(out, out + count, 0.0);
      return;
    }
    const double factor = static_cast<double>(count) / static_cast<double>(count - 1);
    double all = 0;
    double sum = 0;
    for (std::size_t i = 0; i < count; ++i) {
      out[i] = std::sqrt(variances[i] * factor) * fast_normal(random);
      all += variances[i];
      sum += out[i];
    }
    if (all <= 0) return;
    for (std::size_t i = 0; i < count; ++i) out[i] -= sum * variances[i] / all;
  };
  const double root = std::sqrt(tokens);
  std::vector<double> groups(groups_);
  draw(choice.group_variance.data(), groups_, groups.data());
  std::vector<double> within(group_size_);
  for (std::size_t g = 0; g < groups_; ++g) {
    if (choice.group_means[g] <= 0) continue;
    const double* const p = &choice.experts[g * group_size_];
    draw(&choice.variances[g * group_size_], group_size_, within.data());
    for (std::size_t e = 0; e < group_size_; ++e) {
      const double noise = groups[g] * p[e] / choice.group_means[g] + within[e];
      double& row = rows[g * group_size_ + e];
      row = std::max(0.0, row + root * noise);
    }
  }
}

std::vector<float> AggregateSampler::distinct_tokens(const Units& units,
                                                     const std::vector<double>& weights,
                                                     const ExpectedChoice& choice,
                                                     const std::vector<double>& rows,
                                                     Random* random) const {
  const auto tokens = static_cast<double>(group_.all_tokens());
  std::vector<float> out(units.count);
  for (std::size_t unit = 0; unit < units.count; ++unit) {
    const double used = used_by(units, unit, weights, choice);
    double distinct = tokens * used;
    if (random != nullptr) {
      double actual = 0;
      double mean = 0;
      for (std::size_t e = unit * units.held; e < (unit + 1) * units.held; ++e) {
        actual += rows[e];
        mean += choice.experts[e];
      }
      // Regression on the rows n of the unit: the covariance of 1{n > 0} and n is E[n] (1 - used).
      const double covariance = mean * (1 - used);
      const double variance = variance_of(units, unit, choice);
      const double slope = variance > 0 ? covariance / variance : 0;
      const double rest = std::max(0.0, used * (1 - used) - slope * covariance);
      distinct +=
          slope * (actual - tokens * mean) + std::sqrt(tokens * rest) * fast_normal(*random);
      distinct = std::clamp(distinct, 0.0, std::min(actual, tokens));
    }
    out[unit] = static_cast<float>(distinct);
  }
  return out;
}

GroupLoad AggregateSampler::sample(const std::vector<double>& weights, double capacity_factor,
                                   Random* random, const ExpertPlacement* placement) const {
  const ExpectedChoice choice = expect(weights);
  const auto tokens = static_cast<double>(group_.all_tokens());
  std::vector<double> rows(experts_);
  for (std::size_t e = 0; e < experts_; ++e) rows[e] = tokens * choice.experts[e];
  if (random != nullptr) add_noise(choice, *random, rows);
  // Means are found to 1e-3 and no row falls below 0: what that leaves is shared out, so that no
  // pair is lost.
  const double wanted = tokens * static_cast<double>(top_k_);
  const double all = std::accumulate(rows.begin(), rows.end(), 0.0);
  for (double& row : rows) row *= wanted / all;
  GroupLoad out;
  out.received = distinct_tokens(gpus_, weights, choice, rows, random);
  out.node_copies = distinct_tokens(nodes_, weights, choice, rows, random);
  out.experts.assign(rows.begin(), rows.end());
  out.expert_max_over_mean =
      *std::max_element(rows.begin(), rows.end()) * static_cast<double>(experts_) / wanted;
  if (capacity_factor > 0) drop(capacity_factor, rows, out);
  out.nodes_per_token =
      std::accumulate(out.node_copies.begin(), out.node_copies.end(), 0.0) / tokens;
  out.rows.resize(gpus_.count);
  for (std::size_t gpu = 0; gpu < gpus_.count; ++gpu) {
    const auto first = rows.begin() + static_cast<std::ptrdiff_t>(gpu * gpus_.held);
    out.rows[gpu] = static_cast<float>(
        std::accumulate(first, first + static_cast<std::ptrdiff_t>(gpus_.held), 0.0));
  }
  if (placement != nullptr) spread_copies(*placement, weights, choice, rows, out);
  return out;
}

void AggregateSampler::spread_copies(const ExpertPlacement& placement,
                                     const std::vector<double>& weights,
                                     const ExpectedChoice& choice, const std::vector<double>& rows,
                                     GroupLoad& load) const {
  const auto tokens = static_cast<double>(group_.all_tokens());
  for (std::size_t gpu = 0; gpu < gpus_.count; ++gpu) {
    double weight = 0;
    double actual = 0;
    double mean = 0;
    for (const ExpertPlacement::Copy& copy : placement.gpus[gpu]) {
      weight += copy.share * weights[copy.expert];
      actual += copy.share * rows[copy.expert];
      mean += copy.share * tokens * choice.experts[copy.expert];
    }
    const std::size_t group = placement.gpus[gpu].front().expert / group_size_;
    const double used = used_part(group, weight / choice.group_weights[group], choice);
    load.rows[gpu] = static_cast<float>(actual);
    // Whatever moves the rows moves the distinct tokens as much.
    load.received[gpu] =
        static_cast<float>(mean > 0 ? std::min(actual, tokens * used * actual / mean) : 0);
  }
}

void AggregateSampler::drop(double capacity_factor, std::vector<double>& rows,
                            GroupLoad& load) const {
  const double mean = static_cast<double>(group_.all_tokens()) * static_cast<double>(top_k_) /
                      static_cast<double>(experts_);
  const double capacity = capacity_factor * mean;
  std::vector<double> before = rows;
  for (double& row : rows) {
    load.dropped += std::max(0.0, row - capacity);
    row = std::min(row, capacity);
  }
  const auto shrink = [&](const Units& units, std::vector<float>& distinct) {
    for (std::size_t unit = 0; unit < units.count; ++unit) {
      double kept = 0;
      double all = 0;
      for (std::size_t e = unit * units.held; e < (unit + 1) * units.held; ++e) {
        kept += rows[e];
        all += before[e];
      }
      if (all > 0) distinct[unit] *= static_cast<float>(kept / all);
    }
  };
  shrink(gpus_, load.received);
  shrink(nodes_, load.node_copies);
}

}  // namespace pipecast
