/// Named variants (schedules, kernels, topologies, ...) that register themselves, one file each.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "base/assert.hpp"
#include "base/error.hpp"
#include "base/text.hpp"

namespace pipecast {

/// All registered entries of one type, sorted by name. Filled before main, read-only afterwards.
template <class Entry>
class Registry {
 public:
  static Registry& instance() {
    static Registry registry;
    return registry;
  }

  void add(std::string_view name, Entry entry) {
    const bool fresh = entries_.emplace(std::string(name), std::move(entry)).second;
    PIPECAST_ASSERT(fresh && "a name is registered twice");
  }

  /// @throws Error that lists the known names
  const Entry& find(std::string_view name) const {
    const auto it = entries_.find(name);
    // Not require(): it would put the list together at every call.
    if (it == entries_.end()) throw Error(fmt::format("unknown name '{}'; known: {}", name, join(names())));
    return it->second;
  }

  [[nodiscard]] bool contains(std::string_view name) const {
    return entries_.find(name) != entries_.end();
  }

  [[nodiscard]] std::vector<std::string> names() const {
    std::vector<std::string> out;
    for (const auto& [name, entry] : entries_) out.push_back(name);
    return out;
  }

 private:
  std::map<std::string, Entry, std::less<>> entries_;
};

/// `const Register<ScheduleKind> kEntry{"1f1b", {...}};` at namespace scope of the variant's file.
template <class Entry>
struct Register {
  Register(std::string_view name, Entry entry) {
    Registry<Entry>::instance().add(name, std::move(entry));
  }
};

}  // namespace pipecast
