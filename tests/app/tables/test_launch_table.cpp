#include <catch2/catch.hpp>
#include <fstream>

#include "app/tables/launch_table.hpp"
#include "base/error.hpp"
#include "table_file.hpp"

using namespace pipecast;
using pipecast::testing::TableFile;

namespace {

const std::string kHeader = "layer,phase,stream,op,gemm,m,n,k,grid_ctas,start_us,duration_us\n";

void require_refused(const std::string& row, const std::string& message) {
  const TableFile file(kHeader + row + "\n");
  REQUIRE_THROWS_WITH(read_trace(file.path()), file.path() + message);
}

}  // namespace

TEST_CASE("a written table of launches reads back the same, to the picosecond", "[launch table]") {
  const std::vector<TraceRow> rows = {{.layer = 0,
                                       .phase = "attn(F)",
                                       .stream = "compute",
                                       .op = "rope",
                                       .start_us = 0.1,
                                       .duration_us = 123456.789012},
                                      {.layer = 3,
                                       .phase = "mlp(W)",
                                       .stream = "wgrad_side",
                                       .op = "gemm_fp8_wgrad",
                                       .gemm = "o",
                                       .m = 1,
                                       .n = 2,
                                       .k = 3,
                                       .grid_ctas = 112,
                                       .start_us = 7,
                                       .duration_us = 0.000001}};
  const TableFile file(trace_text(rows));
  const std::vector<TraceRow> read = read_trace(file.path());
  REQUIRE(read.size() == rows.size());
  for (std::size_t i = 0; i < rows.size(); ++i) {
    REQUIRE(read[i].layer == rows[i].layer);
    REQUIRE(read[i].phase == rows[i].phase);
    REQUIRE(read[i].stream == rows[i].stream);
    REQUIRE(read[i].op == rows[i].op);
    REQUIRE(read[i].grid_ctas == rows[i].grid_ctas);
    REQUIRE(read[i].start_us == rows[i].start_us);
    REQUIRE(read[i].duration_us == rows[i].duration_us);
  }
}

TEST_CASE("a table of launches has the columns of the shipped trace", "[launch table]") {
  std::ifstream in(PIPECAST_SOURCE_DIR "/traces/h800_dualpipe_chunk/kernels.csv");
  std::string header;
  REQUIRE(std::getline(in, header));
  REQUIRE(trace_text({}) == header + "\n");
}

TEST_CASE("a wrong cell of a table of launches is refused by its place", "[launch table]") {
  require_refused("-1,attn(F),compute,rope,,,,,,0,1",
                  ":2:1: layer: '-1' is not within 0 and 10000");
  require_refused("0.5,attn(F),compute,rope,,,,,,0,1", ":2:1: layer: '0.5' is not a whole number");
  require_refused("0,attn,compute,rope,,,,,,0,1",
                  ":2:3: phase: 'attn' is none of: attn(F), dispatch(F), mlp(F), combine(F), "
                  "combine(B), mlp(B), dispatch(B), attn(B), mlp(W), attn(W)");
  require_refused("0,attn(F),x,rope,,,,,,0,1",
                  ":2:11: stream: 'x' is none of: compute, wgrad_side, comm");
  require_refused("0,attn(F),comm,rope,,,,,-3,0,1",
                  ":2:25: grid_ctas: '-3' is not within 0 and 2147483647");
  require_refused("0,attn(F),comm,rope,,,,,,nan,1",
                  ":2:26: start_us: 'nan' is not within 0 and 86400000000");
  require_refused("0,attn(F),comm,rope,,,,,,0,inf",
                  ":2:28: duration_us: 'inf' is not within 0 and 86400000000");
  require_refused("0,attn(F),comm,rope,,,,,,0,x", ":2:28: duration_us: 'x' is not a number");
}

TEST_CASE("a table of launches without a column is refused by its name", "[launch table]") {
  const TableFile file("layer,phase,stream,op,grid_ctas,start_us\n0,attn(F),comm,rope,,0\n");
  REQUIRE_THROWS_WITH(read_trace(file.path()),
                      file.path() +
                          ":1:1: no column 'duration_us'; columns: layer, phase, stream, "
                          "op, grid_ctas, start_us");
}
