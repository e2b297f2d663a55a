#include "app/config/files.hpp"

#include <algorithm>
#include <fstream>
#include <iterator>
#include <optional>
#include <sstream>

#include "app/config/quantity.hpp"
#include "app/config/text.hpp"

namespace pipecast::config {

namespace {

namespace fs = std::filesystem;

constexpr std::uintmax_t kMebibyte = 1 << 20;
constexpr std::size_t kMostText = 4 << 20;  // of all files together
constexpr std::size_t kLongestChain = 16;   // a extends b extends c ...

Node parse_any(const std::string& text, const fs::path& path) {
  const auto source = std::make_shared<const std::string>(path.string());
  return path.extension() == ".json" ? parse_json(text, source) : parse_yaml(text, source);
}

/// A config.json says its family, and a wrong one is the reason for all other complaints.
void check_family(const Node& config) {
  require_at(config.is_map(), config.origin, "", "is {}; expected a map of keys",
             describe_node(config));
  static constexpr std::string_view kFamilies[] = {"deepseek_v3", "deepseek_v2", "kimi_k2"};
  const Node* const type = config.find("model_type");
  if (type == nullptr)
    fail(config.origin, "model_type",
         "is missing; expected one of: deepseek_v3, deepseek_v2, kimi_k2");
  const bool known =
      std::find(std::begin(kFamilies), std::end(kFamilies), type->text) != std::end(kFamilies);
  require_at(known, type->origin, "model_type",
             "{} is another family of models; expected one of: deepseek_v3, deepseek_v2, kimi_k2",
             describe_node(*type));
}

/// A config.json has no name: its folder usually bears the model's.
void name_model(Node& config, const fs::path& path) {
  if (config.find("name") != nullptr) return;
  const std::string folder = path.parent_path().filename().string();
  Node name;
  name.kind = Kind::kText;
  name.text = folder.empty() || folder == ".." ? path.stem().string() : folder;
  name.origin = config.origin;
  config.set({"name", config.origin}, std::move(name));
}

/// Reads files and puts them in the place of the keys that name them.
class Composer {
 public:
  explicit Composer(const ReadFile& read) : read_(read) {}

  /// The resolved tree of a file.
  /// @param asked_at, asked_by  the key that names the file, for messages
  Node load(const fs::path& path, const Origin& asked_at, const std::string& asked_by) {
    const std::string name = path.string();
    const auto complain = [&](const std::string& why) {
      const std::string prefix = asked_at.is_default() ? name + ": " : in_quotes(name) + " ";
      fail(asked_at, asked_by, prefix + why);
    };
    if (std::find(chain_.begin(), chain_.end(), name) != chain_.end())
      complain("takes in itself, by way of the files it extends");
    if (chain_.size() == kLongestChain)
      complain(fmt::format("is the end of a chain of more than {} files", kLongestChain));
    std::string text;
    try {
      text = read_(path);
    } catch (const Error& e) {
      complain(e.what());
    }
    text_read_ += text.size();
    if (text_read_ > kMostText) complain("makes more than 4 MiB of text in all files together");

    Node root = parse_any(text, path);
    // JSON that names no format of ours is a model's config.json.
    if (path.extension() == ".json" && !(root.is_map() && root.find("format") != nullptr)) {
      check_family(root);
      name_model(root, path);
    }
    chain_.push_back(name);
    root = compose(std::move(root), "");
    chain_.pop_back();
    return root;
  }

  /// Resolves `extends` and `hf_config` in a tree.
  Node compose(Node node, const std::string& path) {
    for (std::size_t i = 0; i < node.children.size(); ++i) {
      const std::string key = node.is_map() ? node.keys[i].name : std::to_string(i);
      node.children[i] = compose(std::move(node.children[i]), join_path(path, key));
    }
    // hf_config stands above extends: both may bring keys, the latter more special ones.
    Node out = std::move(node);
    for (const std::string_view key : {"extends", "hf_config"}) {
      if (!out.is_map()) break;
      const Node* const found = out.find(key);
      if (found == nullptr) continue;
      const Node name = *found;
      out.erase(key);
      out = merge(load_named(name, join_path(path, key)), std::move(out));
    }
    return out;
  }

 private:
  Node load_named(const Node& name, const std::string& asked_by) {
    require_at(name.is_scalar() && !name.text.empty(), name.origin, asked_by,
               "is {}; expected the name of a file", describe_node(name));
    // A file's names are relative to it; names on the command line to the working directory.
    const fs::path base =
        name.origin.line == 0 ? fs::path() : fs::path(*name.origin.source).parent_path();
    return load((base / name.text).lexically_normal(), name.origin, asked_by);
  }

  const ReadFile& read_;
  std::vector<std::string> chain_;
  std::size_t text_read_ = 0;
};

struct Assignment {
  std::vector<std::string> path;
  Node value;
};

Assignment parse_set(const std::string& text) {
  const auto source = std::make_shared<const std::string>("--set " + printable(text));
  const Origin origin{source, 0, 0};
  const std::size_t equals = text.find('=');
  require_at(equals != std::string::npos && equals > 0, origin, "",
             "expected dotted.path=value, such as plan.pp=8");
  Assignment out;
  std::istringstream path(text.substr(0, equals));
  for (std::string key; std::getline(path, key, '.');) {
    require_at(!key.empty(), origin, "", "the path has an empty part");
    out.path.push_back(key);
  }
  require_at(text[equals - 1] != '.', origin, "", "the path has an empty part");
  const std::string value = text.substr(equals + 1);
  if (value.find_first_not_of(' ') == std::string::npos) {
    out.value.origin = origin;
  } else {
    out.value = parse_yaml(value, source, false);
  }
  return out;
}

/// The child of a map or list that one part of a path names; maps get it if they lack it.
Node& child_at(Node& node, const std::string& key, const Origin& origin, const std::string& path) {
  if (node.is_list()) {
    const bool digits = key.find_first_not_of("0123456789") == std::string::npos;
    const std::size_t index = digits && key.size() < 10 ? std::stoul(key) : node.children.size();
    require_at(index < node.children.size(), origin, path,
               "there is no such element; the list has {}, counted from 0", node.children.size());
    return node.children[index];
  }
  if (!node.is_map()) {
    require_at(node.kind == Kind::kNull, origin, path, "stands below a value; expected a map");
    node.kind = Kind::kMap;
    node.origin = origin;
  }
  Node* const found = node.find(key);
  if (found != nullptr) return *found;
  Node fresh;
  fresh.origin = origin;
  return node.set({key, origin}, std::move(fresh));
}

void apply(Node& root, Assignment assignment, Composer& composer) {
  const Origin origin = assignment.value.origin;
  // A file replaces keys of the section around it.
  const bool takes_file =
      assignment.path.back() == "extends" || assignment.path.back() == "hf_config";
  if (takes_file) {
    Node section;
    section.kind = Kind::kMap;
    section.origin = origin;
    section.set({assignment.path.back(), origin}, std::move(assignment.value));
    assignment.value = std::move(section);
    assignment.path.pop_back();
  }
  Node* at = &root;
  std::string path;
  for (const std::string& key : assignment.path) {
    path = join_path(path, key);
    at = &child_at(*at, key, origin, path);
    if (at->origin.is_default()) at->origin = origin;
  }
  Node value = composer.compose(std::move(assignment.value), path);
  *at = merge(std::move(*at), std::move(value));
}

}  // namespace

std::string read_file(const fs::path& path) { return read_text(path, 1); }

std::string read_text(const fs::path& path, std::uintmax_t most_mebibytes) {
  std::error_code error;
  const fs::file_status status = fs::status(path, error);
  require(status.type() != fs::file_type::not_found, "cannot be read: no such file");
  require(status.type() != fs::file_type::directory, "cannot be read: it is a directory");
  require(status.type() == fs::file_type::regular, "cannot be read: it is no regular file");
  const std::uintmax_t size = fs::file_size(path, error);
  require(!error && size <= most_mebibytes * kMebibyte, "cannot be read: it has more than {} MiB",
          most_mebibytes);
  std::ifstream in(path, std::ios::binary);
  std::string text(static_cast<std::size_t>(size), '\0');
  in.read(text.data(), static_cast<std::streamsize>(size));
  require(static_cast<bool>(in), "cannot be read: no permission, or it changed meanwhile");
  return text;
}

Node load_tree(const fs::path& path, const ReadFile& read) {
  return Composer(read).load(path, {}, "");
}

Node resolve_files(Node root, const ReadFile& read) {
  return Composer(read).compose(std::move(root), "");
}

void apply_sets(Node& root, const std::vector<std::string>& sets, const ReadFile& read) {
  Composer composer(read);
  for (const std::string& set : sets) apply(root, parse_set(set), composer);
}

}  // namespace pipecast::config
