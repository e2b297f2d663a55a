#!/usr/bin/env bash
# docs/memory.md: what --headroom adds to the tables. Finds the program under $PIPECAST.
set -euo pipefail

"$PIPECAST" memory configs/scenarios/deepseek-v3-h800.yaml --headroom | sed '1,/^fits: /d' | sed '/./,$!d'
