#!/usr/bin/env bash
# From a fresh clone to the forecast of DeepSeek-V3 on 2,048 H800: packages, release build, run.
set -euo pipefail
cd "$(dirname "$0")/.."

scripts/install_packages.sh
cmake --preset release >/dev/null
cmake --build --preset release --parallel "$(nproc)" --target pipecast
build/release/pipecast run configs/scenarios/deepseek-v3-h800.yaml "$@"
