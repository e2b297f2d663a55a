#include <algorithm>

#include "base/registry.hpp"
#include "model/routing/popularity.hpp"

namespace pipecast {

namespace {

/// Every expert is as popular as any other.
class Balanced : public Popularity {
 public:
  explicit Balanced(int experts) : experts_(static_cast<std::size_t>(experts)) {}

  void draw(int, int, int, std::vector<double>& weights) const override {
    weights.assign(experts_, 1);
  }
  void mean(int, std::vector<double>& weights) const override { weights.assign(experts_, 1); }

 private:
  std::size_t experts_;
};

std::unique_ptr<Popularity> make(const RoutingSpec&, const PopularityScope& scope) {
  return std::make_unique<Balanced>(scope.experts);
}

const Register<PopularityKind> kEntry{"balanced", {make}};

}  // namespace

}  // namespace pipecast
