#include "app/network/case.hpp"

#include <memory>
#include <optional>
#include <unordered_map>
#include <utility>
#include <vector>

#include "app/config/fields.hpp"
#include "app/config/files.hpp"
#include "app/config/text.hpp"
#include "base/text.hpp"

namespace pipecast {

namespace {

using config::Fields;
using config::Node;

// Sizes up to which reading takes a second or two; complete_transfers bounds its own effort.
constexpr std::uintmax_t kMostMebibytes = 16;
constexpr std::size_t kMostFlows = 100'000;
constexpr std::size_t kMostLinks = 100'000;
constexpr std::size_t kMostCrossings = 400'000;  // links of all flows together
constexpr int kMostNics = 10'000;

// What a number of a file may be; complete_transfers says the same without line and column.
constexpr double kMostBytes = 1e15;
constexpr double kLatest = 1e9;  // seconds
constexpr double kFastestLink = 1e18;
constexpr double kLargestWeight = 1e6;

/// A name and where it was written.
struct Name {
  std::string text;
  config::Origin origin;
};
Node read_value(const Node& in, const std::string& path, Name& out, const config::Range& range) {
  out.origin = in.origin;
  return config::read_value(in, path, out.text, range);
}
config::Json value_schema(const Name*, const config::Range&) { return {{"type", "string"}}; }

/// A list of them.
struct Names {
  std::vector<Name> list;
};
Node read_value(const Node& in, const std::string& path, Names& out, const config::Range& range) {
  config::require_at(in.is_list(), in.origin, path, "is {}; expected a list of ids",
                     config::describe_node(in));
  for (const Node& item : in.children) {
    read_value(item, config::join_path(path, std::to_string(out.list.size())),
               out.list.emplace_back(), range);
  }
  return in;
}
config::Json value_schema(const Names*, const config::Range&) {
  return {{"type", "array"}, {"items", {{"type", "string"}}}};
}

/// 0 for a failed link, else at least a byte a second.
struct LinkRate {
  double bytes_per_s = 0;
};
Node read_value(const Node& in, const std::string& path, LinkRate& out,
                const config::Range& range) {
  const Node shown = config::read_value(in, path, out.bytes_per_s, range);
  config::require_at(out.bytes_per_s == 0 || out.bytes_per_s >= 1, in.origin, path,
                     "{} must be 0 (a failed link) or at least 1 byte/s",
                     config::describe_node(in));
  return shown;
}
config::Json value_schema(const LinkRate*, const config::Range&) {
  return {{"type", "number"}, {"minimum", 0}};
}

struct LinkSection {
  Name id;
  LinkRate bandwidth;
};
void describe(Fields& f, LinkSection& link) {
  f.required("id", link.id, "name of one direction of a cable or port");
  f.required("bandwidth_Bps", link.bandwidth, "bytes a second; 0: the link has failed",
             {.low = 0, .high = kFastestLink});
}

struct FlowSection {
  Name id;
  Names links;
  std::int64_t bytes = 0;
  double start_s = 0;
  double latency_s = 0;
  Names after;
  Name group;
  double weight = 1;
};
void describe(Fields& f, FlowSection& flow) {
  f.required("id", flow.id, "name of the flow");
  f.required("links", flow.links, "ids of the links that it crosses, all at once");
  f.required("bytes", flow.bytes, "bytes to move", {.low = 0, .high = kMostBytes});
  f.maybe("start_s", flow.start_s, "seconds before which it waits", {.low = 0, .high = kLatest});
  f.maybe("latency_s", flow.latency_s, "seconds from its start until it takes bandwidth",
          {.low = 0, .high = kLatest});
  f.maybe("after", flow.after, "ids of flows that must be complete before it starts");
  f.maybe("group", flow.group, "name of the collective that it is part of");
  f.maybe("weight", flow.weight, "share of a link beside others",
          {.low = 1 / kLargestWeight, .high = kLargestWeight});
}

struct FlowCase {
  Name format;
  std::optional<std::string> name;
  std::optional<std::string> description;
  std::vector<LinkSection> links;
  std::vector<FlowSection> flows;
};
void describe(Fields& f, FlowCase& c) {
  f.required("format", c.format, "network-case/1");
  f.maybe("name", c.name, "what the case is called");
  f.maybe("description", c.description, "what it is about");
  f.ignored({"category", "expected"}, "notes of the case's author");
  f.required("links", c.links, "links, one direction each");
  f.required("flows", c.flows, "flows");
}

struct PacketFlowSection {
  int src = 0;
  int dst = 0;
  std::int64_t bytes = 0;
};
void describe(Fields& f, PacketFlowSection& flow) {
  f.required("src", flow.src, "number of the sending NIC, from 0", config::at_least(0));
  f.required("dst", flow.dst, "number of the receiving NIC, from 0", config::at_least(0));
  f.required("bytes", flow.bytes, "payload to move", {.low = 0, .high = kMostBytes});
  f.ignored({"ns3_s", "fluid_s"}, "when other simulators complete it");
}

struct PacketCase {
  Name format;
  std::optional<std::string> name;
  std::optional<std::string> description;
  int nics = 0;
  LinkRate payload;
  double latency_s = 0;
  std::vector<PacketFlowSection> flows;
};
void describe(Fields& f, PacketCase& c) {
  f.required("format", c.format, "network-packet-case/1");
  f.maybe("name", c.name, "what the case is called");
  f.maybe("description", c.description, "what it is about");
  f.ignored({"oracle", "category", "link_Bps", "ns3_makespan_s", "fluid_makespan_s", "expected"},
            "notes of the case's author");
  f.required("nics", c.nics, "NICs at the switch", {.low = 1, .high = kMostNics});
  f.required("payload_Bps", c.payload, "bytes of payload a second in each direction of a NIC",
             {.low = 0, .high = kFastestLink});
  f.required("latency_s", c.latency_s, "seconds from a flow's start until it takes bandwidth",
             {.low = 0, .high = kLatest});
  f.required("flows", c.flows, "flows, all from the beginning");
}

/// Positions of names in the order in which they were added.
class Index {
 public:
  /// @param what  "link" or "flow", for messages
  explicit Index(std::string_view what) : what_(what) {}

  void add(const Name& name, const std::string& path) {
    const auto [at, is_new] = index_.emplace(name.text, static_cast<std::uint32_t>(names_.size()));
    config::require_at(is_new, name.origin, path, "{} is the name of an earlier {} already",
                       config::in_quotes(name.text), what_);
    names_.push_back(name.text);
  }

  [[nodiscard]] std::uint32_t find(const Name& name, const std::string& path) const {
    const auto found = index_.find(name.text);
    if (found != index_.end()) return found->second;
    const std::string close = nearest(name.text, names_);
    config::fail(name.origin, path,
                 fmt::format("there is no {} {}{}", what_, config::in_quotes(name.text),
                             close.empty() ? "" : fmt::format("; did you mean '{}'?", close)));
  }

 private:
  std::string_view what_;
  std::unordered_map<std::string, std::uint32_t> index_;
  std::vector<std::string> names_;
};

std::vector<std::uint32_t> resolve(const Names& names, const Index& index,
                                   const std::string& path) {
  std::vector<std::uint32_t> out;
  for (const Name& name : names.list) {
    out.push_back(index.find(name, config::join_path(path, std::to_string(out.size()))));
  }
  return out;
}

void check_size(std::size_t size, std::size_t most, const Node& in, std::string_view key) {
  config::require_at(size <= most, in.origin, key, "has {} entries; expected at most {}", size,
                     most);
}

/// Sizes are looked at before anything is read.
void check_sizes(const Node& root) {
  const std::pair<std::string_view, std::size_t> lists[] = {{"links", kMostLinks},
                                                            {"flows", kMostFlows}};
  for (const auto& [key, most] : lists) {
    const Node* const list = root.find(key);
    if (list != nullptr) check_size(list->children.size(), most, *list, key);
  }
}

void refuse_repeated_links(const std::vector<std::uint32_t>& links, const Names& names,
                           const std::string& path, std::vector<std::size_t>& last_user,
                           std::size_t user) {
  for (std::size_t i = 0; i < links.size(); ++i) {
    config::require_at(last_user[links[i]] != user, names.list[i].origin,
                       config::join_path(path, std::to_string(i)),
                       "{} stands twice; a flow crosses a link once",
                       config::in_quotes(names.list[i].text));
    last_user[links[i]] = user;
  }
}

TransferPlan plan_of(const FlowCase& c, const Node& root) {
  TransferPlan out;
  Index links("link");
  for (const LinkSection& link : c.links) {
    links.add(link.id, fmt::format("links.{}.id", out.links.size()));
    out.links.push_back({.id = link.id.text, .bandwidth = Bandwidth(link.bandwidth.bytes_per_s)});
  }
  Index flows("flow");
  for (std::size_t i = 0; i < c.flows.size(); ++i) {
    flows.add(c.flows[i].id, fmt::format("flows.{}.id", i));
  }
  std::unordered_map<std::string, GroupIndex> groups;
  std::vector<std::size_t> last_user(out.links.size(), c.flows.size());
  std::size_t crossings = 0;
  for (std::size_t i = 0; i < c.flows.size(); ++i) {
    const FlowSection& flow = c.flows[i];
    const std::string path = fmt::format("flows.{}", i);
    Flow& to = out.flows.emplace_back();
    to.id = flow.id.text;
    to.links = resolve(flow.links, links, path + ".links");
    refuse_repeated_links(to.links, flow.links, path + ".links", last_user, i);
    crossings += to.links.size();
    check_size(crossings, kMostCrossings, root, "links of all flows together");
    config::require_at(!to.links.empty() || flow.bytes == 0, flow.id.origin, path + ".links",
                       "is empty; expected the links that {} bytes cross", flow.bytes);
    to.bytes = Bytes(flow.bytes);
    to.start_s = flow.start_s;
    to.latency_s = flow.latency_s;
    to.after = resolve(flow.after, flows, path + ".after");
    to.weight = flow.weight;
    if (flow.group.text.empty()) continue;
    const auto [group, is_new] =
        groups.emplace(flow.group.text, static_cast<GroupIndex>(groups.size()));
    if (is_new) out.groups.push_back({flow.group.text});
    to.group = group->second;
  }
  return out;
}

TransferPlan plan_of(const PacketCase& c, const Node& root) {
  TransferPlan out;
  const auto nics = static_cast<std::uint32_t>(c.nics);
  for (const std::string_view direction : {"up", "down"}) {
    for (std::uint32_t n = 0; n < nics; ++n) {
      out.links.push_back({.id = fmt::format("nic{}.{}", n, direction),
                           .bandwidth = Bandwidth(c.payload.bytes_per_s)});
    }
  }
  std::unordered_map<std::string, int> uses;
  for (std::size_t i = 0; i < c.flows.size(); ++i) {
    const PacketFlowSection& flow = c.flows[i];
    const std::pair<std::string_view, int> ends[] = {{"src", flow.src}, {"dst", flow.dst}};
    for (const auto& [key, nic] : ends) {
      const std::string path = fmt::format("flows.{}.{}", i, key);
      config::require_at(nic < c.nics, config::origin_at(root, path), path,
                         "there is no NIC {}; they count from 0 to {}", nic, c.nics - 1);
    }
    // The same pair may send twice.
    std::string id = fmt::format("{}-{}", flow.src, flow.dst);
    if (const int earlier = uses[id]++; earlier > 0) id += fmt::format("#{}", earlier + 1);
    out.flows.push_back(
        {.id = std::move(id),
         .links = {static_cast<LinkIndex>(flow.src), nics + static_cast<LinkIndex>(flow.dst)},
         .bytes = Bytes(flow.bytes),
         .latency_s = c.latency_s,
         .group = {}});
  }
  return out;
}

Node load_root(const std::filesystem::path& path, const config::ReadFile& read) {
  const auto source = std::make_shared<const std::string>(path.string());
  std::string text;
  try {
    text = read(path);
  } catch (const Error& e) {
    config::fail({source, 0, 0}, "", e.what());
  }
  return path.extension() == ".json" ? config::parse_json(text, source)
                                     : config::parse_yaml(text, source);
}

template <class Case>
NetworkCase read_case(const Node& root, const std::filesystem::path& path) {
  Case read;
  config::read_value(root, "", read, {});
  return {.name = read.name.value_or(path.stem().string()),
          .description = read.description.value_or(""),
          .plan = plan_of(read, root)};
}

}  // namespace

NetworkCase load_network_case(const std::filesystem::path& path,
                              const std::vector<std::string>& sets) {
  return load_network_case(path, sets, [](const std::filesystem::path& file) {
    return config::read_text(file, kMostMebibytes);
  });
}

NetworkCase load_network_case(const std::filesystem::path& path,
                              const std::vector<std::string>& sets, const config::ReadFile& read) {
  Node root = config::resolve_files(load_root(path, read), read);
  config::apply_sets(root, sets, read);
  config::require_at(root.is_map(), root.origin, "", "is {}; expected a map of keys",
                     config::describe_node(root));
  const Node* const format = root.find("format");
  if (format == nullptr) {
    config::fail(root.origin, "format",
                 "is missing; expected one of: pipecast-fabric/1, network-case/1, "
                 "network-packet-case/1");
  }
  const std::size_t which = config::read_word(
      *format, "format", {"network-case/1", "network-packet-case/1", "pipecast-fabric/1"});
  config::require_at(which < 2, format->origin, "format",
                     "is 'pipecast-fabric/1'; expected the file itself to say so, within 1 MiB");
  check_sizes(root);
  return which == 0 ? read_case<FlowCase>(root, path) : read_case<PacketCase>(root, path);
}

}  // namespace pipecast
