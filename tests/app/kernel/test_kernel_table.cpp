#include <catch2/catch.hpp>

#include "app/kernel/kernel_table.hpp"
#include "app/tables/table_file.hpp"
#include "base/error.hpp"
#include "model/machines.hpp"

using namespace pipecast;
using namespace pipecast::testing;
using Catch::EndsWith;

namespace {

// A kernel of this test: copies rows of one or two bytes.
constexpr NamedValue kFormats[] = {{"bfloat16", 2}, {"fp8", 1}};
constexpr KernelOption kOptions[] = {{"row_count", "rows"},
                                     {"dtype", "format of a row", 2, kFormats}};
Operation make_copy(std::string_view op, std::span<const std::int64_t> values) {
  require(values[0] > 0, "{}: no rows", op);
  return {.op = op,
          .m = values[0],
          .flops = Flops(static_cast<double>(values[0])),
          .read = Bytes(values[0] * values[1])};
}
KernelCost copy_cost(const Operation& op, const GpuSpec& gpu, const CalibrationSpec& calibration,
                     int sms) {
  GpuSpec slower = gpu;
  slower.hbm_bandwidth = gpu.hbm_bandwidth * (static_cast<double>(sms) / gpu.sm_count);
  return {.time = op.read / Bandwidth(slower.hbm_bandwidth.count() * calibration.link.hbm.value),
          .flops = op.flops,
          .hbm_bytes = op.read,
          .limited_by = Limit::kHbm};
}
const Constant& hbm(const CalibrationSpec& calibration) { return calibration.link.hbm; }
const Register<KernelKind> kEntry{"test_copy", {copy_cost, hbm, kOptions, make_copy}};

const KernelName kName{"test_copy", "test_copy"};
const KernelConstants kNone{{std::nullopt, std::nullopt}, std::nullopt};

/// On 100 SMs with 1 TB/s a byte takes a picosecond.
std::vector<KernelTableRow> predict(const std::string& content,
                                    const KernelConstants& constants = kNone) {
  const TableFile file(content);
  const KernelMachine machine{
      .gpu = round_gpu(), .calibration = ideal_calibration(), .calibration_file = "ideal.yaml"};
  return predict_table(CsvTable(file.path()), kName, constants, machine);
}

}  // namespace

TEST_CASE("rows are predicted in the file's order by columns of the options' names", "[kernel]") {
  const auto rows = predict("note,row_count,dtype\na,3000000,fp8\nb,1000000,bfloat16\n");
  REQUIRE(rows.size() == 2);
  REQUIRE(rows[0].predicted_us() == 3);
  REQUIRE(rows[1].predicted_us() == 2);
  REQUIRE_FALSE(rows[0].measured_us);
}

TEST_CASE("in column names - and _ are the same, and options may have their defaults", "[kernel]") {
  REQUIRE(predict("row-count\n1000000\n")[0].predicted_us() == 2);
}

TEST_CASE("an option on the command line holds for all rows", "[kernel]") {
  const auto rows = predict("row_count\n1000000\n2000000\n", {{std::nullopt, 1}, 50});
  REQUIRE(rows[0].prediction.sms == 50);
  REQUIRE(rows[0].predicted_us() == 2);  // a byte a row, half the SMs
  REQUIRE(rows[1].predicted_us() == 4);
}

TEST_CASE("a column sms sets the SMs of every row", "[kernel]") {
  const auto rows = predict("row_count,sms\n1000000,100\n1000000,25\n");
  REQUIRE(rows[1].predicted_us() == 4 * rows[0].predicted_us());
}

TEST_CASE("columns that are missing, double or reserved are refused", "[kernel]") {
  REQUIRE_THROWS_WITH(predict("a,b\n1,2\n"),
                      EndsWith(":1:1: no column row_count, and no --row-count for all rows; "
                               "columns: a, b"));
  REQUIRE_THROWS_WITH(predict("row_count\n1\n", {{1, std::nullopt}, std::nullopt}),
                      EndsWith(":1:1: --row-count is a column of the table too"));
  REQUIRE_THROWS_WITH(predict("row_count,sms\n1,1\n", {{std::nullopt, std::nullopt}, 5}),
                      EndsWith(":1:1: --sms is a column of the table too"));
  REQUIRE_THROWS_WITH(predict("row_count,row-count\n1,1\n"),
                      EndsWith(":1:1: the column row-count stands there twice"));
  REQUIRE_THROWS_WITH(predict("row_count,x,x\n1,1,1\n"),
                      EndsWith(":1:1: the column x stands there twice"));
  REQUIRE_THROWS_WITH(predict("row_count,predicted_us\n1,1\n"),
                      EndsWith(":1:1: a column predicted_us is what predictions are put into"));
  REQUIRE_THROWS_WITH(predict("row_count\n"), EndsWith(": has no rows"));
}

TEST_CASE("a bad cell is refused by its line and column", "[kernel]") {
  REQUIRE_THROWS_WITH(predict("ab,row_count\nxyz,1\nxyz,1k\n"),
                      EndsWith(":3:5: row_count: '1k' is not a whole number from 0 on"));
  REQUIRE_THROWS_WITH(predict("row_count,dtype\n12,fp4\n"),
                      EndsWith(":2:4: dtype: 'fp4' is none of bfloat16, fp8"));
  REQUIRE_THROWS_WITH(predict("row_count,sms\n12,101\n"),
                      EndsWith(":2:1: sms: 101 is not within 1 and the 100 of a round"));
  REQUIRE_THROWS_WITH(predict("row_count\n0\n"), EndsWith(":2:1: test_copy: no rows"));
  REQUIRE_THROWS_WITH(predict("row_count,time_us\n12,fast\n"),
                      EndsWith(":2:4: time_us: 'fast' is not a number"));
  const std::string time = GENERATE("0", "-1", "nan", "inf");
  REQUIRE_THROWS_WITH(predict("row_count,time_us\n12," + time + "\n"),
                      EndsWith(":2:4: time_us: " + time + " is no time; expected more than 0"));
}

TEST_CASE("errors are predicted over measured, less 1", "[kernel]") {
  const auto rows = predict("row_count,dtype,time_us\n1000000,fp8,2\n4000000,fp8,2\n");
  REQUIRE(rows[0].error() == -0.5);
  REQUIRE(rows[1].error() == 1);
}

TEST_CASE("a summary has the median, the 90th percentile, the worst and the mean with its sign",
          "[kernel]") {
  REQUIRE_FALSE(summarise({}).has_value());
  const ErrorSummary one = *summarise({-0.3});
  REQUIRE(one.rows == 1);
  REQUIRE((one.median == 0.3 && one.p90 == 0.3 && one.worst == 0.3 && one.bias == -0.3));
  std::vector<double> errors;
  for (int i = 10; i >= 0; --i) errors.push_back((i % 2 == 0 ? 0.01 : -0.01) * i);
  const ErrorSummary eleven = *summarise(errors);  // sizes 0, 0.01, ... 0.1
  REQUIRE(eleven.median == Approx(0.05));
  REQUIRE(eleven.p90 == Approx(0.09));
  REQUIRE(eleven.worst == Approx(0.1));
  REQUIRE(eleven.bias == Approx((0.30 - 0.25) / 11));  // even numbers are positive, odd negative
  REQUIRE(summarise({0.1, -0.2})->median == Approx(0.15));
}

TEST_CASE("large and small kernels are summarised apart, split at 20 GFLOP", "[kernel]") {
  // The copy counts one operation a row.
  const KernelErrors errors = errors_of(
      predict("row_count,time_us\n19999999999,1\n20000000000,1\n30000000000,1\n1000000,1\n"));
  REQUIRE(errors.all->rows == 4);
  REQUIRE(errors.large->rows == 2);
  REQUIRE(errors.small->rows == 2);
  const KernelErrors small = errors_of(predict("row_count,time_us\n1,1\n"));
  REQUIRE_FALSE(small.large.has_value());
  const KernelErrors none = errors_of(predict("row_count\n1\n"));
  REQUIRE_FALSE(none.all.has_value());
}
