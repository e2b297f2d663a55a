/// The exchange that the calibrator times between GPUs, checked between emulated ones.
#include <catch2/catch.hpp>

#include "kernels/calibration/peer_exchange.hpp"
#include "kernels/simt/device_error.hpp"
#include "run.hpp"

namespace pipecast::kernels {

using namespace testing;

TEST_CASE("the timed exchange brings every row and sums what comes back", "[exchange]") {
  const auto [ranks, tokens] = GENERATE(std::pair{2, 101}, std::pair{4, 40});
  CAPTURE(ranks, tokens);
  in_every_order([&, ranks = ranks, tokens = tokens] {
    PeerExchange exchange(
        {.ranks = ranks, .tokens = tokens, .hidden = 256, .experts = 16, .top_k = 4, .sms = 4});
    REQUIRE(exchange.wrong_share() == 0);
    // Again and again, as a timer does.
    exchange.prepare();
    run_ranks_together(ranks, [&](int rank) { exchange.launch_dispatch(rank); });
    exchange.prepare();
    run_ranks_together(ranks, [&](int rank) { exchange.launch_combine(rank); });
    REQUIRE(exchange.wrong_share() == 0);
  });
}

TEST_CASE("an exchange that the kernels are not made for is refused", "[exchange]") {
  REQUIRE_THROWS_AS(
      PeerExchange({.ranks = 2, .tokens = 1, .hidden = 200, .experts = 16, .top_k = 4, .sms = 4}),
      DeviceError);
}

}  // namespace pipecast::kernels
