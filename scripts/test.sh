#!/usr/bin/env bash
# Everything that must hold, from a fresh clone: packages; release build; the readers of foreign input
# under the address and undefined-behaviour sanitizers; then every test of the release build, so that
# the last lines are the summary of the whole run.
set -euo pipefail
cd "$(dirname "$0")/.."

jobs=$(nproc)
started=$SECONDS
stage() {
  local name=$1
  shift
  local from=$SECONDS
  echo "== $name"
  "$@"
  echo "== $name: $((SECONDS - from)) s"
}

# What reads the files that users write, on everything that is malformed in the tree.
readers_under_sanitizers() {
  # They are compiled in half the time without optimisation, and run for seconds.
  cmake --preset asan -DCMAKE_CXX_FLAGS_DEBUG="-g1 -O0" >/dev/null
  cmake --build --preset asan --parallel "$jobs" \
    --target test_config replay_fuzz_scenario replay_fuzz_hf_config replay_fuzz_schedule
  ctest --preset asan --parallel "$jobs" --tests-regex '^(test_config:|replay_fuzz_(scenario|hf_config|schedule)$)'
}
release_build() {
  cmake --preset release >/dev/null
  cmake --build --preset release --parallel "$jobs"
}

stage "packages" scripts/install_packages.sh
stage "release build" release_build
stage "readers under sanitizers" readers_under_sanitizers
echo "== tests, $((SECONDS - started)) s after the start"
ctest --preset release --parallel "$jobs"
