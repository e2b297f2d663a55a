/// Trees to JSON values.
#pragma once

#include "app/config/node.hpp"

namespace pipecast::config {

/// @tparam Json  nlohmann::json sorts keys, nlohmann::ordered_json keeps their order
template <class Json>
Json to_json(const Node& node) {
  switch (node.kind) {
    case Kind::kNull:
      return nullptr;
    case Kind::kPlain:
      return Json::parse(node.text);
    case Kind::kText:
      return node.text;
    case Kind::kList: {
      Json out = Json::array();
      for (const Node& child : node.children) out.push_back(to_json<Json>(child));
      return out;
    }
    case Kind::kMap: {
      Json out = Json::object();
      for (std::size_t i = 0; i < node.keys.size(); ++i)
        out[node.keys[i].name] = to_json<Json>(node.children[i]);
      return out;
    }
  }
  return nullptr;
}

}  // namespace pipecast::config
