#!/usr/bin/env bash
# Everything that must hold, from a fresh clone: packages; the readers of foreign input under the
# address and undefined-behaviour sanitizers; then the release build and every test. The last lines
# are the summary of the whole test run.
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

# The targets that read what users write, as far as this tree has them.
readers() {
  cmake --build --preset asan --target help | sed -n -E 's/^((test_config|replay_[a-z_]+)):.*/\1/p' | sort -u
}
sanitizers() {
  cmake --preset asan >/dev/null
  local targets
  targets=$(readers)
  if [ -z "$targets" ]; then
    echo "nothing to check"
    return
  fi
  # shellcheck disable=SC2086  # one word per target
  cmake --build --preset asan --parallel "$jobs" --target $targets
  ctest --preset asan --parallel "$jobs" --tests-regex '^(test_config: |replay_)'
}
release_build() {
  cmake --preset release >/dev/null
  cmake --build --preset release --parallel "$jobs"
}

stage "packages" scripts/install_packages.sh
stage "release build" release_build
stage "sanitizers" sanitizers
echo "== tests, $((SECONDS - started)) s after the start"
ctest --preset release --parallel "$jobs"
