#!/usr/bin/env bash
# What each scenario of configs/scenarios/what-if/ changes: an overlapped pair of four MoE layers and a training step,
# beside the reference case.
#
#   PIPECAST=PROGRAM what_if.sh     (from the project's root)
set -euo pipefail

number() { sed -n "s/^ *\"$1\": \([0-9.]*\),*\$/\1/p" | head -1; }

pair_us() { "$PIPECAST" chunk "$1" --layers 4 --quiet --json - | number time_us; }
step_s() { "$PIPECAST" run "$1" --mode folded --quiet --json - | number time_s; }

reference=configs/scenarios/deepseek-v3-h800.yaml
pair=$(pair_us $reference)
step=$(step_s $reference)

line() { awk -v name="$1" -v pair="$2" -v step="$3" -v pair0="$pair" -v step0="$step" 'BEGIN {
  printf "%-28s %9.1f ms %+7.1f %% %9.2f s %+7.1f %%\n", name, pair / 1000, 100 * (pair / pair0 - 1), step,
    100 * (step / step0 - 1)
}'; }

printf '%-28s %21s %20s\n' 'what if' 'pair of four layers' 'step'
line 'as it is' "$pair" "$step"
for scenario in configs/scenarios/what-if/*.yaml; do
  line "$(basename "$scenario" .yaml)" "$(pair_us "$scenario")" "$(step_s "$scenario")"
done
