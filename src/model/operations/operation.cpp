#include "model/operations/operation.hpp"

namespace pipecast {

std::string_view name_of(Phase phase) {
  static constexpr std::array<std::string_view, kPhases> kNames = {
      "attn(F)", "dispatch(F)", "mlp(F)",  "combine(F)", "combine(B)",
      "mlp(B)",  "dispatch(B)", "attn(B)", "mlp(W)",     "attn(W)"};
  return kNames[static_cast<std::size_t>(phase)];
}

}  // namespace pipecast
