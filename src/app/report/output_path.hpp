/// How output files come to stand under their names.
#pragma once

#include <filesystem>
#include <system_error>

namespace pipecast {

/// Where to write what shall stand under `path`: beside it, to be renamed when it is complete, so
/// that a reader never sees half a file. `path` itself where it names something other than a file
/// (/dev/stdout, a pipe, a link), which renaming would replace.
inline std::filesystem::path path_while_writing(const std::filesystem::path& path) {
  std::error_code ignored;
  const auto type = std::filesystem::symlink_status(path, ignored).type();
  const bool replaceable =
      type == std::filesystem::file_type::regular || type == std::filesystem::file_type::not_found;
  std::filesystem::path aside = path;
  if (replaceable) aside += ".part";
  return aside;
}

}  // namespace pipecast
