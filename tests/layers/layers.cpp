#include "layers.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <regex>

namespace pipecast::layers {
namespace {

using Prefixes = std::vector<std::string_view>;

bool starts_with_any(std::string_view text, const Prefixes& prefixes) {
  return std::any_of(prefixes.begin(), prefixes.end(), [&](std::string_view prefix) {
    return text.substr(0, prefix.size()) == prefix;
  });
}

/// A folder and the folders of ours that it may include.
struct Layer {
  std::string_view folder;
  Prefixes may_include;
};

/// The first entry that fits a path holds.
const std::vector<Layer>& layers() {
  static const std::vector<Layer> kLayers = {
      {"base/", {"base/"}},
      {"model/", {"base/", "model/"}},
      {"sim/engine/", {"base/", "sim/engine/"}},
      {"sim/", {"base/", "model/", "sim/"}},
      {"kernels/", {"base/", "kernels/"}},
      {"app/", {"base/", "model/", "sim/", "kernels/", "app/"}},
  };
  return kLayers;
}

/// A third-party or system header, by its beginning, and the folders that may know it.
struct Library {
  std::string_view header;
  Prefixes at_home_in;
};

const std::vector<Library>& libraries() {
  static const std::vector<Library> kLibraries = {
      {"fmt/", {""}},
      {"yaml-cpp/", {"app/config/"}},
      {"nlohmann/", {"app/"}},
      {"boost/program_options", {"app/"}},
      {"boost/mpi", {"app/"}},
      {"boost/graph", {"model/", "sim/cluster/", "sim/network/"}},
      {"boost/property_map", {"sim/cluster/"}},
      {"boost/context", {"kernels/"}},
      {"Eigen/", {"model/", "kernels/"}},
      {"dlfcn.h", {"kernels/"}},
      {"tbb/", {"app/"}},
      {"oneapi/", {"app/"}},
      {"sqlite3.h", {"app/"}},
      {"zlib.h", {"app/"}},
      {"unistd.h", {"app/"}},
      {"sys/mman.h", {"kernels/simt/emulation/"}},
      {"sanitizer/", {"kernels/simt/emulation/"}},
      {"sys/", {"app/"}},
      {"cuda", {"kernels/"}},
      // Reading, printing and ending the program belong to the edge.
      {"fstream", {"app/"}},
      {"filesystem", {"app/"}},
      {"iostream", {"app/"}},
      {"print", {"app/"}},
      {"cstdio", {"app/", "base/assert.cpp"}},
  };
  return kLibraries;
}

/// Calls that print or end the program.
const std::regex& forbidden_call() {
  static const std::regex kCall(
      R"((\bstd::(cout|cerr|clog)\b|\bfmt::print\b|\b(f|v|vf)?printf\s*\(|\b(f)?puts\s*\(|)"
      R"(\b(std::)?(exit|_Exit|quick_exit|abort|terminate)\s*\())");
  return kCall;
}

/// The line without its comment and without the text of its string literals.
std::string code_of(std::string_view line) {
  std::string out;
  bool in_string = false;
  for (std::size_t i = 0; i < line.size(); ++i) {
    if (in_string && line[i] == '\\') {
      ++i;
    } else if (line[i] == '"' && !(i > 0 && line[i - 1] == '\'')) {
      in_string = !in_string;
      out += '"';
    } else if (!in_string) {
      if (line.substr(i, 2) == "//") break;
      out += line[i];
    }
  }
  return out;
}

class FileChecker {
 public:
  explicit FileChecker(std::string_view path) : path_(path) {
    for (const Layer& layer : layers()) {
      if (starts_with_any(path, {layer.folder})) {
        layer_ = &layer;
        break;
      }
    }
  }

  std::vector<std::string> check(std::string_view text) {
    if (layer_ == nullptr) {
      report("no layer has this folder; see CONTRIBUTING.md for where things go");
      return std::move(found_);
    }
    while (!text.empty()) {
      ++line_;
      const std::size_t end = std::min(text.find('\n'), text.size());
      check_line(text.substr(0, end));
      text.remove_prefix(std::min(end + 1, text.size()));
    }
    return std::move(found_);
  }

 private:
  void report(std::string_view reason) {
    found_.push_back(fmt::format("src/{}:{}: {}", path_, line_, reason));
  }

  void check_line(std::string_view line) {
    static const std::regex kInclude(R"(^\s*#\s*include\s*([<"])([^>"]+)[>"].*$)");
    std::match_results<std::string_view::const_iterator> match;
    if (std::regex_match(line.begin(), line.end(), match, kInclude)) {
      const std::string header = match[2].str();
      if (match[1].str() == "\"") {
        check_own(header);
      } else {
        check_library(header);
      }
      return;
    }
    const bool may_print = starts_with_any(path_, {"app/", "base/assert.cpp"});
    if (!may_print && std::regex_search(code_of(line), forbidden_call())) {
      report("only app prints or ends the program; throw an Error instead");
    }
  }

  void check_own(const std::string& header) {
    if (starts_with_any(header, layer_->may_include)) return;
    report(fmt::format("{} may not include \"{}\"; it may include {}", layer_->folder, header,
                       fmt::join(layer_->may_include, ", ")));
  }

  void check_library(const std::string& header) {
    for (const Library& library : libraries()) {
      // A header of the standard library has to match whole: <print> is not <printf...>.
      const bool whole =
          library.header.find_first_of("/._") == std::string_view::npos && library.header != "cuda";
      const bool same =
          whole ? header == library.header : starts_with_any(header, {library.header});
      if (!same) continue;
      if (!starts_with_any(path_, library.at_home_in)) {
        report(
            fmt::format("<{}> belongs to {} alone", header, fmt::join(library.at_home_in, ", ")));
      }
      return;
    }
    // The standard library's own headers have neither folder nor suffix.
    if (header.find_first_of("/.") != std::string::npos) {
      report(fmt::format("<{}> is in no layer's list; add it to tests/layers/layers.cpp", header));
    }
  }

  std::string_view path_;
  const Layer* layer_ = nullptr;
  int line_ = 0;
  std::vector<std::string> found_;
};

}  // namespace

std::vector<std::string> violations(std::string_view path, std::string_view text) {
  return FileChecker(path).check(text);
}

}  // namespace pipecast::layers
