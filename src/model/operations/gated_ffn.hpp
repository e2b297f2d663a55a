/// A SwiGLU feed-forward network on the GPU's own tokens: the shared expert, or a dense layer's.
/// Internal to model/operations.
#pragma once

#include "model/operations/layer_parts.hpp"

namespace pipecast {

/// Labels of the matrix products.
struct GatedFfnLabels {
  std::string_view up;
  std::string_view up_dgrad;
  std::string_view up_wgrad;
  std::string_view down;
  std::string_view down_dgrad;
  std::string_view down_wgrad;
};

/// Launches of the parts, for the caller to interleave with others.
class GatedFfn {
 public:
  GatedFfn(LayerDraft& draft, const GatedFfnLabels& labels, std::int64_t width);

  /// Forward up-projection of an input that is cast already.
  void up(LaunchList& list) const;
  void activation_and_down(LaunchList& list) const;
  /// Writes the activation's input in the format in which it is kept.
  void cache(LaunchList& list) const;

  /// From the output's gradient (FP8 already, BF16 copy beside it) to the activation input's.
  void backward_down(LaunchList& list) const;
  /// The input again, if its norm is recomputed.
  /// @param dispatched  whether the forward product read it as other GPUs were sent it
  void recompute_input(LaunchList& list, bool dispatched) const;
  void backward_up(LaunchList& list) const;
  void down_weight(LaunchList& list) const;
  void up_weight(LaunchList& list) const;

  void keep() const;

 private:
  LayerDraft& draft_;
  GatedFfnLabels labels_;
  std::int64_t tokens_;
  std::int64_t hidden_;
  std::int64_t width_;
};

/// SwiGLU of `rows` rows to `width` columns, in the format that the next product reads and in that
/// in which it is kept, if it is.
void swiglu_forward(const LayerDraft& draft, LaunchList& list, std::string_view label,
                    std::int64_t rows, std::int64_t width);

}  // namespace pipecast
