#include "app/report/model_instance_report.hpp"

#include <fmt/format.h>

#include <utility>

#include "app/report/table.hpp"
#include "base/error.hpp"

namespace pipecast {

namespace {

using Json = nlohmann::ordered_json;

double count(Bytes bytes) { return static_cast<double>(bytes.count()); }
std::string gigabytes(Bytes bytes) { return fmt::format("{:.1f} GB", count(bytes) / 1e9); }
std::string whole(std::int64_t number) { return grouped(static_cast<double>(number)); }

double bytes_per_parameter(const InstanceReport& report, const InstanceRow& row) {
  return count(row.whole.total()) / static_cast<double>(report.parameters);
}

std::string whole_text(const InstanceReport& report) {
  Table table({"Without sharding", "weights", "gradients", "optimizer", "total", "B a parameter",
               "GPUs to hold it"});
  for (const InstanceRow& row : report.rows) {
    table.add({std::string(row.recipe.name), gigabytes(row.whole.weights),
               gigabytes(row.whole.gradients), gigabytes(row.whole.optimizer),
               gigabytes(row.whole.total()),
               fmt::format("{:.2f}", bytes_per_parameter(report, row)), whole(row.gpus_to_fill)});
  }
  return table.text();
}

std::string sharded_text(const InstanceReport& report) {
  std::vector<std::string> header = {fmt::format("On each of {} GPUs", whole(report.gpus))};
  for (int stage = 0; stage < kZeroStages; ++stage) {
    header.push_back(stage == 0 ? std::string("no sharding") : fmt::format("ZeRO-{}", stage));
  }
  header.emplace_back("fits");
  header.emplace_back("fewest GPUs with ZeRO-3");
  Table table(header, {header.size() - 2});
  for (const InstanceRow& row : report.rows) {
    std::vector<std::string> line = {std::string(row.recipe.name)};
    std::string fits;
    for (std::size_t stage = 0; stage < row.on_each.size(); ++stage) {
      const Bytes held = row.on_each[stage].total();
      line.push_back(gigabytes(held));
      if (held > report.usable() || !fits.empty()) continue;
      fits = stage == 0 ? std::string("without sharding") : fmt::format("with ZeRO-{}", stage);
    }
    line.push_back(fits.empty() ? "no" : fits);
    line.push_back(row.fewest_gpus.back() ? whole(*row.fewest_gpus.back()) : "none");
    table.add(line);
  }
  return table.text();
}

Json memory_json(const InstanceMemory& memory) {
  return {{"weights_bytes", memory.weights.count()},
          {"gradients_bytes", memory.gradients.count()},
          {"optimizer_bytes", memory.optimizer.count()},
          {"total_bytes", memory.total().count()}};
}

Json row_json(const InstanceReport& report, const InstanceRow& row) {
  Json out = {{"name", row.recipe.name}, {"about", row.recipe.about}};
  out.update(memory_json(row.whole));
  out["bytes_per_parameter"] = bytes_per_parameter(report, row);
  out["gpus_to_fill"] = row.gpus_to_fill;
  Json& stages = out["zero"] = Json::array();
  for (std::size_t stage = 0; stage < row.on_each.size(); ++stage) {
    Json& one = stages.emplace_back(Json{{"stage", stage}});
    one.update(memory_json(row.on_each[stage]));
    one["fits"] = row.on_each[stage].total() <= report.usable();
    const std::optional<std::int64_t> fewest = row.fewest_gpus[stage];
    one["fewest_gpus"] = fewest ? Json(*fewest) : Json(nullptr);
  }
  return out;
}

}  // namespace

InstanceReport instance_report(const ModelSpec& model, MtpModules mtp, std::int64_t gpus,
                               Bytes capacity, Bytes reserve) {
  require(reserve >= Bytes() && reserve < capacity, "a reserve of {} bytes leaves nothing of {}",
          reserve.count(), capacity.count());
  InstanceReport out;
  out.model = model.name;
  out.mtp = mtp;
  out.parameters = instance_parameters(model, mtp);
  out.gpus = gpus;
  out.capacity = capacity;
  out.reserve = reserve;
  for (const InstanceRecipe& recipe : instance_recipes()) {
    InstanceRow& row = out.rows.emplace_back();
    row.recipe = recipe;
    row.whole = instance_memory(model, recipe, mtp);
    row.gpus_to_fill = ceil_div(row.whole.total().count(), out.usable().count());
    for (int stage = 0; stage < kZeroStages; ++stage) {
      const auto index = static_cast<std::size_t>(stage);
      row.on_each[index] = sharded_memory(row.whole, stage, gpus);
      row.fewest_gpus[index] = fewest_gpus(row.whole, stage, out.usable());
    }
  }
  return out;
}

std::string instance_text(const InstanceReport& report) {
  return fmt::format(
      "One instance of {}: {} parameters{}; GPUs of {} less {} of reserve\n\n{}\n{}"
      "{} GPUs have room for {:.2f} bytes of each parameter, whatever the plan.\n",
      report.model, whole(report.parameters),
      report.mtp == MtpModules::kIncluded ? " with MTP" : "", gigabytes(report.capacity),
      gigabytes(report.reserve), whole_text(report), sharded_text(report), whole(report.gpus),
      report.bytes_per_parameter());
}

Json instance_json(const InstanceReport& report) {
  Json recipes = Json::array();
  for (const InstanceRow& row : report.rows) recipes.push_back(row_json(report, row));
  return {{"model", report.model},
          {"mtp", report.mtp == MtpModules::kIncluded},
          {"parameters", report.parameters},
          {"gpus", report.gpus},
          {"capacity_bytes", report.capacity.count()},
          {"reserve_bytes", report.reserve.count()},
          {"bytes_per_parameter", report.bytes_per_parameter()},
          {"recipes", std::move(recipes)}};
}

}  // namespace pipecast
