/// Files to one tree: `extends`, `hf_config` and `--set`.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "app/config/node.hpp"

namespace pipecast::config {

/// Gives the text of a file.
/// @throws Error that says why it cannot be read, without naming the file
using ReadFile = std::function<std::string(const std::filesystem::path&)>;

/// Reads from the file system: regular files of at most a mebibyte.
std::string read_file(const std::filesystem::path& path);

/// The same for files of other sizes.
std::string read_text(const std::filesystem::path& path, std::uintmax_t most_mebibytes);

/// The tree of a file, with everything that `extends` and `hf_config` take in, resolved.
/// Files ending in .json are JSON and, unless they have a key `format`, must be a config.json of a
/// known model family.
/// @throws Error for unreadable, malformed, circular, too many or too deeply chained files
Node load_tree(const std::filesystem::path& path, const ReadFile& read);

/// Resolves `extends` and `hf_config` in the tree of one file, for files with limits of their own.
/// @throws Error as load_tree
Node resolve_files(Node root, const ReadFile& read);

/// Overrides values of the tree. Paths of files in them are relative to the working directory.
/// @param sets  "plan.pp=8", "recipe.phases.0.tokens=1T", "cluster.gpu={extends: my.yaml}"
/// @throws Error that begins with "--set plan.pp=8: "
void apply_sets(Node& root, const std::vector<std::string>& sets, const ReadFile& read);

}  // namespace pipecast::config
