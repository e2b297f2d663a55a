#include "app/report/headroom_report.hpp"

#include <fmt/format.h>

#include "app/report/table.hpp"

namespace pipecast {

namespace {

using Json = nlohmann::ordered_json;

double gigabytes(Bytes bytes) { return static_cast<double>(bytes.count()) / 1e9; }

std::string stop_text(const HeadroomStop& stop, const std::string& at) {
  return fmt::format("rank {}, {} (+{:.1f} GB): at {} {:.1f} GB too much", stop.rank,
                     name_of(stop.category), gigabytes(stop.grown), at, gigabytes(stop.missing));
}

/// @param decimals  of the values
void add_row(Table& table, const std::string& name, const HeadroomLimit& limit, int decimals) {
  const auto value = [&](double number) {
    return decimals == 0 ? grouped(number) : fmt::format("{:.{}f}", number, decimals);
  };
  table.add({name, value(limit.present), limit.largest ? value(*limit.largest) : "none",
             limit.fullest ? fmt::format("{:.1f}", gigabytes(limit.fullest->peak.total())) : "",
             limit.stopped_by ? stop_text(*limit.stopped_by, value(limit.stopped_by->at))
                              : "nothing: it is the largest there is"});
}

Json limit_json(const HeadroomLimit& limit) {
  Json out = {{"present", limit.present},
              {"largest", nullptr},
              {"pipeline_rank", nullptr},
              {"peak_bytes", nullptr},
              {"stopped_by", nullptr}};
  if (limit.largest) {
    out["largest"] = *limit.largest;
    out["pipeline_rank"] = limit.fullest->rank;
    out["peak_bytes"] = limit.fullest->peak.total().count();
  }
  if (limit.stopped_by) {
    const HeadroomStop& stop = *limit.stopped_by;
    out["stopped_by"] = {{"at", stop.at},
                         {"pipeline_rank", stop.rank},
                         {"category", name_of(stop.category)},
                         {"grown_bytes", stop.grown.count()},
                         {"missing_bytes", stop.missing.count()}};
  }
  return out;
}

}  // namespace

std::string headroom_text(const Headroom& headroom) {
  Table table({"headroom", "now", "largest", "GB", "what stops it"}, {4});
  add_row(table, "sequence, tokens", headroom.sequence, 0);
  add_row(table, "micro-batch, sequences", headroom.micro_batch, 0);
  add_row(table, "rows over balanced", headroom.imbalance, 2);
  return fmt::format(
             "Each by itself, in a step of {}: {} micro-batches under {}, {:.1f} GB a GPU for "
             "tensors.\n\n",
             headroom.phase, headroom.microbatches, headroom.schedule,
             gigabytes(headroom.capacity)) +
         table.text();
}

Json headroom_json(const Headroom& headroom) {
  return {{"phase", headroom.phase},
          {"schedule", headroom.schedule},
          {"micro_batches", headroom.microbatches},
          {"capacity_bytes", headroom.capacity.count()},
          {"seq_length", limit_json(headroom.sequence)},
          {"micro_batch_size", limit_json(headroom.micro_batch)},
          {"imbalance", limit_json(headroom.imbalance)}};
}

}  // namespace pipecast
