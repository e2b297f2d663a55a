#define CATCH_CONFIG_RUNNER
#include <catch2/catch.hpp>
#include <iostream>
#include <string>

#include "kernels/memory/gpu.hpp"

int main(int count, char** values) {
  Catch::Session session;
  const int bad = session.applyCommandLine(count, values);
  if (bad != 0) return bad;
  const Catch::ConfigData& asked = session.configData();
  const bool lists = asked.listTests || asked.listTestNamesOnly || asked.listTags || asked.showHelp;
  const std::string reason = lists ? std::string{} : pipecast::kernels::why_no_gpu();
  if (!reason.empty()) {
    std::cout << "skipped: " << reason << '\n';
    return 77;
  }
  return session.run();
}
