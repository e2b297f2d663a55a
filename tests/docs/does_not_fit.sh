#!/usr/bin/env bash
# docs/memory.md: a plan that does not fit. Finds the program under $PIPECAST.
set -euo pipefail

"$PIPECAST" run configs/scenarios/deepseek-v3-h800.yaml --mode folded --quiet \
  --set plan.precision.activations=bf16 2>&1 || echo "exit code $?"
