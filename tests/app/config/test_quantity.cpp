#include <fmt/format.h>

#include <catch2/catch.hpp>

#include "app/config/quantity.hpp"
#include "base/error.hpp"

using namespace pipecast;
using namespace pipecast::config;

namespace {

struct Whole {
  const char* text;
  Dimension dimension;
  std::int64_t value;
};
struct Real {
  const char* text;
  Dimension dimension;
  double value;
};
struct Bad {
  const char* text;
  Dimension dimension;
  const char* message;
};

constexpr auto kDuration = Dimension::kDuration;
constexpr auto kBytes = Dimension::kBytes;
constexpr auto kBandwidth = Dimension::kBandwidth;
constexpr auto kTokens = Dimension::kTokens;

}  // namespace

TEST_CASE("whole quantities are exact in picoseconds, bytes and tokens", "[config]") {
  const auto c = GENERATE(
      Whole{"1 ps", kDuration, 1}, Whole{"936 ns", kDuration, 936'000},
      Whole{"2.8 us", kDuration, 2'800'000}, Whole{"2.8us", kDuration, 2'800'000},
      Whole{"0.1 ns", kDuration, 100}, Whole{"1.5 ms", kDuration, 1'500'000'000},
      Whole{"2 s", kDuration, 2'000'000'000'000}, Whole{"0 s", kDuration, 0},
      Whole{"1e-6 s", kDuration, 1'000'000},
      Whole{"2.80000000000000000000000 us", kDuration, 2'800'000},
      Whole{"84943110144 B", kBytes, 84'943'110'144}, Whole{"50 MB", kBytes, 50'000'000},
      Whole{"80 GiB", kBytes, std::int64_t{80} << 30}, Whole{"0.5 KiB", kBytes, 512},
      Whole{"228 KiB", kBytes, 233'472}, Whole{"1 TiB", kBytes, std::int64_t{1} << 40},
      Whole{"3 kB", kBytes, 3'000}, Whole{"1.5 MiB", kBytes, 3 << 19},
      Whole{"9223372036854775807 B", kBytes, std::numeric_limits<std::int64_t>::max()},
      Whole{"469G", kTokens, 469'000'000'000}, Whole{"14.331 T", kTokens, 14'331'000'000'000},
      Whole{"4096", kTokens, 4096}, Whole{"32K", kTokens, 32'000}, Whole{"2M", kTokens, 2'000'000});
  CAPTURE(c.text);
  REQUIRE(parse_whole_quantity(c.text, c.dimension) == c.value);
}

TEST_CASE("rates are the doubles nearest to what is written", "[config]") {
  const auto c =
      GENERATE(Real{"400 Gb/s", kBandwidth, 50e9}, Real{"400Gbit/s", kBandwidth, 50e9},
               Real{"50 GB/s", kBandwidth, 50e9}, Real{"3.35 TB/s", kBandwidth, 3'350e9},
               Real{"0.1 GB/s", kBandwidth, 0.1e9}, Real{"1 GiB/s", kBandwidth, 1'073'741'824},
               Real{"8 Mb/s", kBandwidth, 1e6}, Real{"1.6 Tb/s", kBandwidth, 200e9},
               Real{"1.83 GHz", Dimension::kFrequency, 1.83e9},
               Real{"1830 MHz", Dimension::kFrequency, 1.83e9},
               Real{"67 TFLOP/s", Dimension::kFlopRate, 67e12},
               Real{"66.9 TFLOP/s", Dimension::kFlopRate, 66.9e12},
               Real{"1 PFLOP/s", Dimension::kFlopRate, 1e15}, Real{"2 USD", Dimension::kMoney, 2.0},
               Real{"1.99USD", Dimension::kMoney, 1.99}, Real{"0 USD", Dimension::kMoney, 0.0});
  CAPTURE(c.text);
  REQUIRE(parse_real_quantity(c.text, c.dimension) == c.value);
}

TEST_CASE("a number with three decimals in one unit is a whole number of the unit below it",
          "[config][property]") {
  const int n = GENERATE(take(100, random(0, 1'000'000)));
  CAPTURE(n);
  const std::string thousandths = fmt::format("{}.{:03}", n / 1'000, n % 1'000);
  REQUIRE(parse_whole_quantity(thousandths + " us", kDuration) == std::int64_t{n} * 1'000);
  REQUIRE(parse_whole_quantity(thousandths + "G", kTokens) == std::int64_t{n} * 1'000'000);
  // A byte has eight bits; both sides are exact in a double.
  REQUIRE(parse_real_quantity(thousandths + " Gb/s", kBandwidth) * 8 == n * 1e6);
}

TEST_CASE("a quantity without unit, of another dimension or out of range is refused", "[config]") {
  const std::string time = "a time such as '3.7 us' or '936 ns'";
  const std::string rate = "a bandwidth such as '50 GB/s' or '400 Gb/s'";
  const std::string bytes = "a number of bytes such as '80 GiB' or '50 MB'";
  const auto c = GENERATE_COPY(
      Bad{"400", kBandwidth, "'400' has no unit; expected "},
      Bad{"400 us", kBandwidth, "'400 us' is a time; expected "},
      Bad{"400 GB", kBandwidth, "'400 GB' is a number of bytes; expected "},
      Bad{"400 Gbps", kBandwidth, "'400 Gbps' has the unknown unit 'Gbps'; expected "},
      Bad{"400 gb/s", kBandwidth, "'400 gb/s' has the unknown unit 'gb/s'; expected "},
      Bad{"-1 GB/s", kBandwidth, "'-1 GB/s' is negative; expected "},
      Bad{"-0 GB/s", kBandwidth, "'-0 GB/s' is negative; expected "},
      Bad{"nan GB/s", kBandwidth, "'nan GB/s' is no quantity; expected "},
      Bad{"inf", kBandwidth, "'inf' is no quantity; expected "},
      Bad{"", kBandwidth, "'' is no quantity; expected "},
      Bad{"1e400 GB/s", kBandwidth, "'1e400 GB/s' is out of range; expected "},
      Bad{"1e4000 GB/s", kBandwidth, "'1e4000 GB/s' has too many digits; expected "},
      Bad{"1.2345678901234567890123 GB/s", kBandwidth,
          "'1.2345678901234567890123 GB/s' has too many digits; expected "},
      Bad{"010 GB/s", kBandwidth, "'010 GB/s' is no quantity; expected "},
      Bad{".5 GB/s", kBandwidth, "'.5 GB/s' is no quantity; expected "},
      Bad{"1. GB/s", kBandwidth, "'1. GB/s' is no quantity; expected "},
      Bad{"1,000 GB/s", kBandwidth, "'1,000 GB/s' has the unknown unit ',000 GB/s'; expected "},
      Bad{"1.5 ps", kDuration, "'1.5 ps' is not a whole number of picoseconds; expected "},
      Bad{"1 GB/s", kDuration, "'1 GB/s' is a bandwidth; expected "},
      Bad{"10000000 s", kDuration, "'10000000 s' is too large; expected "},
      Bad{"0.3 B", kBytes, "'0.3 B' is not a whole number of bytes; expected "},
      Bad{"9223372036854775808 B", kBytes, "'9223372036854775808 B' is too large; expected "},
      Bad{"1.83 GHz", kBytes, "'1.83 GHz' is a frequency; expected "},
      Bad{"67 TFLOP/s", kBytes, "'67 TFLOP/s' is a computing rate; expected "},
      Bad{"2 USD", kBytes, "'2 USD' is an amount of money; expected "},
      Bad{"2M", kBytes, "'2M' is a token count; expected "});
  CAPTURE(c.text);
  const std::string expected = c.dimension == kDuration ? time
                               : c.dimension == kBytes  ? bytes
                                                        : rate;
  const auto parse = [&] {
    if (c.dimension == kBandwidth) {
      parse_real_quantity(c.text, c.dimension);
    } else {
      parse_whole_quantity(c.text, c.dimension);
    }
  };
  REQUIRE_THROWS_WITH(parse(), c.message + expected);
}

TEST_CASE("numbers follow JSON's grammar", "[config]") {
  REQUIRE(parse_integer("0") == 0);
  REQUIRE(parse_integer("-7") == -7);
  REQUIRE(parse_integer("9223372036854775807") == std::numeric_limits<std::int64_t>::max());
  REQUIRE(parse_real("0.68") == 0.68);
  REQUIRE(parse_real("5e9") == 5e9);
  for (const char* const text : {"", "010", "+1", "1.0", "1e3", "0x10", "1_000", "1 ", " 1", "one"})
    REQUIRE_THROWS_WITH(parse_integer(text), Catch::EndsWith("' is no whole number"));
  REQUIRE_THROWS_WITH(parse_integer("9223372036854775808"),
                      "'9223372036854775808' is too large a number");
  for (const char* const text : {"", ".5", "5.", "nan", "inf", "-", "1e", "0.5x"})
    REQUIRE_THROWS_WITH(parse_real(text), Catch::EndsWith("' is no number"));
  REQUIRE_THROWS_WITH(parse_real("1e999"), "'1e999' is out of range");
}
