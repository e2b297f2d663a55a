#include <limits>
#include <memory>

#include "app/config/load.hpp"
#include "app/config/text.hpp"
#include "app/config/to_json.hpp"

namespace pipecast {

nlohmann::json load_json(const std::filesystem::path& path) {
  constexpr std::uintmax_t kMostMebibytes = 16;  // a table of 12,744 kernels takes 1.7
  const auto source = std::make_shared<const std::string>(path.string());
  std::string text;
  try {
    text = config::read_text(path, kMostMebibytes);
  } catch (const Error& e) {
    config::fail({source, 0, 0}, "", e.what());
  }
  const config::Node root =
      config::parse_json(text, source, std::numeric_limits<std::size_t>::max());
  config::require_at(root.is_map(), root.origin, "", "is {}; expected a map of keys",
                     config::describe_node(root));
  return config::to_json<nlohmann::json>(root);
}

}  // namespace pipecast
