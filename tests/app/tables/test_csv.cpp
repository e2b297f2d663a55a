#include <catch2/catch.hpp>

#include "app/tables/csv.hpp"
#include "base/error.hpp"
#include "table_file.hpp"

using namespace pipecast;
using pipecast::testing::TableFile;

TEST_CASE("a table is read by column and row", "[csv]") {
  const TableFile file("op,m,time_us\ngemm,128,1.5\n,,-2e3\n");
  const CsvTable table(file.path());
  REQUIRE(table.rows() == 2);
  REQUIRE(table.has("m"));
  REQUIRE_FALSE(table.has("n"));
  REQUIRE(table.text(0, "op") == "gemm");
  REQUIRE(table.number(0, "time_us") == 1.5);
  REQUIRE(table.text(1, "op").empty());
  REQUIRE(table.number(1, "time_us") == -2000);
}

TEST_CASE("lines may end as on Windows, and the last one in nothing", "[csv]") {
  const TableFile file("a,b\r\n1,2\r\n3,4");
  const CsvTable table(file.path());
  REQUIRE(table.rows() == 2);
  REQUIRE(table.number(0, "b") == 2);
  REQUIRE(table.number(1, "b") == 4);
}

TEST_CASE("a table that is not there, or empty, is refused", "[csv]") {
  REQUIRE_THROWS_WITH(CsvTable("/nowhere/table.csv"),
                      "/nowhere/table.csv: cannot be read or is empty");
  REQUIRE_THROWS_WITH(CsvTable("/dev/zero"), "/dev/zero: cannot be read or is empty");
  const TableFile file("");
  REQUIRE_THROWS_WITH(CsvTable(file.path()), file.path() + ": cannot be read or is empty");
}

TEST_CASE("a row of another width than the header is refused by its line", "[csv]") {
  const TableFile file("a,b\n1,2\n3\n");
  REQUIRE_THROWS_WITH(CsvTable(file.path()), file.path() + ":3:1: 1 cells; the header has 2");
}

TEST_CASE("a column that is not there is refused, naming those that are", "[csv]") {
  const TableFile file("a,b\n1,2\n");
  const CsvTable table(file.path());
  REQUIRE_THROWS_WITH(table.text(0, "c"), file.path() + ":1:1: no column 'c'; columns: a, b");
}

TEST_CASE("a cell that is no number is refused by its line and column", "[csv]") {
  const auto* const cell = GENERATE("", "x", "1x", " 1", "1 ");
  const TableFile file(std::string("a,b\n") + cell + ",2\n");
  const CsvTable table(file.path());
  REQUIRE_THROWS_WITH(table.number(0, "a"),
                      file.path() + ":2:1: a: '" + table.text(0, "a") + "' is not a number");
}

TEST_CASE("a cell's place counts from 1, the header being line 1", "[csv]") {
  const TableFile file("a,bc,d\n1,22,333\n,,x\n");
  const CsvTable table(file.path());
  REQUIRE(table.place(0, "a") == file.path() + ":2:1");
  REQUIRE(table.place(0, "d") == file.path() + ":2:6");  // behind "1,22,"
  REQUIRE(table.place(1, "d") == file.path() + ":3:3");
  REQUIRE(table.place_of_header() == file.path() + ":1:1");
  REQUIRE_THROWS_WITH(table.number(1, "d"), file.path() + ":3:3: d: 'x' is not a number");
}
