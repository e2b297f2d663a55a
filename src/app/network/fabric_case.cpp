#include "app/network/fabric_case.hpp"

#include <algorithm>
#include <charconv>
#include <memory>
#include <utility>

#include "app/config/files.hpp"
#include "app/config/sections/sections.hpp"
#include "app/config/text.hpp"
#include "sim/network/plan_builder.hpp"

namespace pipecast {

namespace {

using config::Fields;
using config::Node;

constexpr std::string_view kFormat = "pipecast-fabric/1";
constexpr double kMostBytes = 1e15;
constexpr int kMostCopies = 100'000;
// Sizes up to which the answer comes within minutes.
constexpr std::size_t kMostFlows = 100'000;
constexpr std::size_t kMostMembers = 2'048;

/// GPUs by number: 3, "0-63" or "0-2040 by 8".
struct GpuList {
  std::vector<int> numbers;
  config::Origin origin;
};

/// Takes a whole number off the front of a text.
bool take_number(std::string_view& text, int& out) {
  const auto [end, failure] = std::from_chars(text.data(), text.data() + text.size(), out);
  if (failure != std::errc() || out < 0) return false;
  text.remove_prefix(static_cast<std::size_t>(end - text.data()));
  return true;
}

bool take(std::string_view& text, std::string_view word) {
  if (text.substr(0, word.size()) != word) return false;
  text.remove_prefix(word.size());
  return true;
}

void read_gpus(const Node& in, const std::string& path, std::vector<int>& out) {
  std::string_view text = in.text;
  int first = 0;
  bool fits = in.is_scalar() && take_number(text, first);
  int last = first;
  int step = 1;
  if (fits && take(text, "-")) {
    fits = take_number(text, last) && last >= first;
    if (fits && take(text, " by ")) fits = take_number(text, step) && step > 0;
  }
  config::require_at(fits && text.empty(), in.origin, path,
                     "is {}; expected the number of a GPU or numbers such as '0-63' or "
                     "'0-2040 by 8'",
                     config::describe_node(in));
  for (std::int64_t gpu = first; gpu <= last; gpu += step) {
    config::require_at(out.size() < kMostMembers, in.origin, path,
                       "makes more than {} GPUs of one collective", kMostMembers);
    out.push_back(static_cast<int>(gpu));
  }
}

Node read_value(const Node& in, const std::string& path, GpuList& out, const config::Range&) {
  out.origin = in.origin;
  if (!in.is_list()) {
    read_gpus(in, path, out.numbers);
    return in;
  }
  for (std::size_t i = 0; i < in.children.size(); ++i) {
    read_gpus(in.children[i], config::join_path(path, std::to_string(i)), out.numbers);
  }
  return in;
}
config::Json value_schema(const GpuList*, const config::Range&) {
  return {{"type", {"array", "string", "integer"}}};
}

struct CollectiveSection {
  std::string name;
  std::string kind;
  GpuList gpus;
  Bytes bytes{};
  Tokens tokens{};
  double nodes_per_token = 0;
  double gpus_per_token = 0;
  int chunks = 0;
  Duration start{};
  std::vector<std::string> after;
  int copies = 1;
  int shift = 0;
};

std::vector<std::string_view> kinds() {
  static const std::vector<std::string> kNames = Registry<CollectiveKind>::instance().names();
  return {kNames.begin(), kNames.end()};
}

void check_tokens(Fields& f, const CollectiveSection& c) {
  // Without a kind nothing has been read: keys are being listed.
  if (c.kind.empty()) return;
  const bool counts = Registry<CollectiveKind>::instance().find(c.kind).counts_tokens;
  const auto check = [&](bool given, std::string_view key) {
    f.check(given || !counts, key, "is missing; a {} has tokens", c.kind);
    f.check(!given || counts, key, "is of no use; a {} moves bytes", c.kind);
  };
  check(c.tokens > Tokens(0), "tokens");
  check(c.nodes_per_token > 0, "nodes_per_token");
  check(c.gpus_per_token > 0, "gpus_per_token");
  f.check(counts || c.chunks == 0, "chunks", "is of no use; only all-to-alls hand over in chunks");
}

void describe(Fields& f, CollectiveSection& c) {
  f.required("name", c.name, "name of the group of flows");
  f.choice("kind", c.kind, config::words(kinds()), "what the GPUs do");
  f.required("gpus", c.gpus,
             "GPUs by number, node * gpus_per_node + index: 3, '0-63', '0-2040 by 8' or a list of "
             "such");
  f.required("bytes", c.bytes, "of the buffer; of a dispatch or combine: of one copy of a token",
             {.low = 0, .high = kMostBytes});
  f.maybe("tokens", c.tokens, "tokens that every GPU sends (dispatch, combine)",
          {.low = 1, .high = 1e9});
  f.maybe("nodes_per_token", c.nodes_per_token, "distinct nodes that a token goes to, in the mean",
          config::positive());
  f.maybe("gpus_per_token", c.gpus_per_token, "distinct GPUs that a token goes to, in the mean",
          config::positive());
  f.maybe("chunks", c.chunks,
          "parts in which tokens are handed on between NIC and NVLink; 0: both run side by side",
          {.low = 0, .high = 1'000});
  f.maybe("start", c.start, "when it starts at the earliest", config::kLatency);
  f.maybe("after", c.after, "names of collectives above that it waits for");
  f.maybe("copies", c.copies, "how many of it there are, named name.0, name.1, ...",
          {.low = 1, .high = kMostCopies});
  f.maybe("shift", c.shift, "how much higher the GPUs of each copy are than those of the last",
          {.low = 0, .high = 1e6});
  check_tokens(f, c);
  f.check(c.copies == 1 || c.shift > 0, "shift", "is missing; {} copies would have the same GPUs",
          c.copies);
}

}  // namespace

// Not in the unnamed namespace: it is found by its argument's namespace.
static void describe(Fields& f, FabricPrices& price) {
  f.maybe("switch", price.switch_price, "of one switch", config::at_least(0));
  f.maybe("link", price.link, "of one cable between switches", config::at_least(0));
  f.maybe("endpoint_link", price.endpoint_link, "of one cable to a NIC", config::at_least(0));
}

namespace {

struct FabricFile {
  std::string format;
  std::string name;
  std::string description;
  ClusterSpec cluster;
  FabricPrices price;
  std::vector<CollectiveSection> collectives;
};

void describe(Fields& f, FabricFile& file) {
  f.choice("format", file.format, config::words({kFormat}), "format of the file");
  f.maybe("name", file.name, "what the case is called");
  f.maybe("description", file.description, "what it is about");
  f.required("cluster", file.cluster, "the machines and the fabric between them");
  f.overrides("price", file.price, "what the parts of the fabric cost");
  f.maybe("collectives", file.collectives, "what is to be moved");
}

/// Members that lie side by side on a node, if every node of the collective has as many.
int gpus_per_node(const std::vector<int>& gpus, int in_cluster) {
  std::size_t count = 0;
  while (count < gpus.size() && gpus[count] / in_cluster == gpus.front() / in_cluster) ++count;
  for (std::size_t i = 0; i < gpus.size(); ++i) {
    const std::size_t first = i / count * count;
    if (gpus[i] / in_cluster != gpus[first] / in_cluster) return 1;
  }
  return gpus.size() % count == 0 ? static_cast<int>(count) : 1;
}

std::vector<Transfer> transfers_of(const CollectiveSection& c, const ClusterSpec& cluster) {
  const CollectiveKind& kind = Registry<CollectiveKind>::instance().find(c.kind);
  CollectiveShape shape{.members = static_cast<int>(c.gpus.numbers.size()),
                        .gpus_per_node = gpus_per_node(c.gpus.numbers, cluster.gpus_per_node),
                        .bytes = c.bytes,
                        .tokens = {},
                        .chunks = c.chunks};
  if (kind.counts_tokens) {
    shape.tokens = balanced_counts(shape.members, shape.gpus_per_node, c.tokens.count(),
                                   c.nodes_per_token, c.gpus_per_token);
  }
  return kind.make(shape);
}

/// A name of nothing in `failed` is all that can be wrong with a cluster that has been read.
FabricGraph build_graph(const ClusterSpec& cluster, const Node& root) {
  constexpr std::string_view kPath = "cluster.fabric.failed";
  try {
    return build_fabric(cluster);
  } catch (const Error& e) {
    std::string_view message = e.what();
    if (take(message, kPath)) take(message, ": ");
    config::fail(config::origin_at(root, kPath), std::string(kPath), std::string(message));
  }
}

/// Adds a collective and its copies; what is wrong with it stands where it was written.
void add_collective(PlanBuilder& builder, const CollectiveSection& c, const ClusterSpec& cluster,
                    const std::string& path) {
  try {
    require(!c.gpus.numbers.empty(), "{}: has no GPUs", c.name);
    const std::vector<Transfer> transfers = transfers_of(c, cluster);
    const std::size_t flows = transfers.size() * static_cast<std::size_t>(c.copies);
    require(builder.plan().flows.size() + flows <= kMostFlows,
            "{}: brings the plan to more than {} flows", c.name, kMostFlows);
    for (int copy = 0; copy < c.copies; ++copy) {
      PlacedCollective placed{.name = c.copies == 1 ? c.name : fmt::format("{}.{}", c.name, copy),
                              .transfers = transfers,
                              .start_s = to_seconds(c.start),
                              .after = c.after};
      for (const int gpu : c.gpus.numbers) {
        const std::int64_t shifted = gpu + std::int64_t{copy} * c.shift;
        require(shifted < cluster.gpus(), "{}: there is no GPU {}; the cluster has {}, from 0",
                placed.name, shifted, cluster.gpus());
        placed.gpus.push_back(static_cast<int>(shifted));
      }
      builder.add(placed);
    }
  } catch (const ImpossiblePlan&) {
    throw;
  } catch (const Error& e) {
    config::fail(c.gpus.origin, path, e.what());
  }
}

}  // namespace

bool is_fabric_case(const std::filesystem::path& path, const config::ReadFile& read) {
  try {
    const std::string text = read(path);
    const auto source = std::make_shared<const std::string>(path.string());
    const Node root = path.extension() == ".json" ? config::parse_json(text, source)
                                                  : config::parse_yaml(text, source);
    const Node* const format = root.is_map() ? root.find("format") : nullptr;
    return format != nullptr && format->text.rfind("pipecast-fabric/", 0) == 0;
  } catch (const Error&) {
    return false;  // whoever reads it as another format says what is wrong
  }
}

FabricCase load_fabric_case(const std::filesystem::path& path, const std::vector<std::string>& sets,
                            const config::ReadFile& read) {
  Node root = config::load_tree(path, read);
  config::apply_sets(root, sets, read);
  FabricFile file;
  config::read_section(root, "", [&](Fields& f) { describe(f, file); });
  FabricCase out;
  out.network.name = file.name.empty() ? path.stem().string() : file.name;
  out.network.description = file.description;
  out.cluster = std::move(file.cluster);
  out.count = count_fabric(out.cluster);
  out.cost = fabric_cost(out.count, file.price);
  if (file.collectives.empty()) return out;
  const FabricGraph fabric = build_graph(out.cluster, root);
  PlanBuilder builder(fabric, out.cluster.fabric.routing, out.cluster.fabric.routing_seed);
  for (std::size_t i = 0; i < file.collectives.size(); ++i) {
    add_collective(builder, file.collectives[i], out.cluster, fmt::format("collectives.{}", i));
  }
  out.network.plan = builder.plan();
  return out;
}

}  // namespace pipecast
