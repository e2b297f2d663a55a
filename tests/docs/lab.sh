#!/usr/bin/env bash
# Tables of docs/lab.md: what `pipecast` answers to several variations of one scenario of configs/scenarios/lab/.
#
#   PIPECAST=PROGRAM lab.sh TABLE     (from the project's root)
set -euo pipefail

readonly lab=configs/scenarios/lab

# "MAKESPAN LARGEST_BUBBLE FORMULA PEAK_LIVE GIB" of a schedule; the last is 0 without a scenario.
study() {
  "$PIPECAST" schedule "$@" --quiet --json - | awk '
    /^ *"makespan":/ { makespan = $2 + 0 }
    /^ *"bubble_formula":/ { formula = $2 + 0 }
    /^ *"(bubble|peak_live_activations|peak_activation_bytes)": \[/ { list = $1; next }
    /\]/ { list = "" }
    list != "" && $1 + 0 > most[list] { most[list] = $1 + 0 }
    END {
      printf "%.6f %.6f %.6f %d %.3f\n", makespan, most["\"bubble\":"], formula,
        most["\"peak_live_activations\":"], most["\"peak_activation_bytes\":"] / 1024 ^ 3
    }'
}

number() { sed -n "s/^ *\"$1\": \([-0-9.e]*\),*\$/\1/p" <<<"$2" | head -1; }

# What there is.
scenarios() { "$PIPECAST" list scenarios | grep '^lab/'; }

# Lab 1. The bubble of GPipe as micro-batches grow.
microbatches() {
  printf '%13s %14s %14s %14s\n' 'micro-batches' '(p-1)/(M+p-1)' 'equal stages' 'the scenario'
  for m in 8 16 32 64 128 256; do
    equal=$(study --kind gpipe --ranks 8 --microbatches $m)
    real=$(study --from $lab/01-bubble.yaml --microbatches $m)
    awk -v m=$m -v p=8 -v equal="$equal" -v real="$real" 'BEGIN {
      split(equal, e); split(real, r)
      printf "%13d %12.1f %% %12.1f %% %12.1f %%\n", m, 100 * (p - 1) / (m + p - 1), 100 * e[2] / e[1], 100 * r[2] / r[1]
    }'
  done
}

# Lab 2. Activations of the rank that keeps most, and what a step is answered whose activations do not fit.
activations() {
  printf '%13s %14s %14s\n' 'micro-batches' gpipe 1f1b
  for m in 8 16 32 64 128; do
    printf '%13d' $m
    for kind in gpipe 1f1b; do
      read -r _ _ _ _ gib < <(study --from $lab/02-memory.yaml --kind $kind --microbatches $m)
      printf ' %10.1f GiB' "$gib"
    done
    printf '\n'
  done
  if "$PIPECAST" run $lab/02-memory.yaml --quiet --set plan.schedule=gpipe \
    --set recipe.phases.0.global_batch_size=1024 2>&1; then return 1; fi
}

# Lab 3. Makespans as messages take longer, in parts of a rank's forward of 100 ticks.
virtual_stages() {
  printf '%-24s %8s %8s %8s %8s %8s\n' 'ticks of a message' 0 10 20 40 80
  while read -r name words; do
    read -r -a options <<<"$words"
    printf '%-24s' "$name"
    for latency in 0 10 20 40 80; do
      read -r makespan _ < <(study "${options[@]}" --ranks 8 --microbatches 16 --transfer-latency $latency)
      printf ' %8.0f' "$makespan"
    done
    printf '\n'
  done <<'LIST'
1f1b,V=1 --kind 1f1b --durations F=100,B=200
interleaved,V=2 --kind interleaved --virtual-stages 2 --durations F=50,B=100
interleaved,V=4 --kind interleaved --virtual-stages 4 --durations F=25,B=50
bfs,V=2 --kind bfs --virtual-stages 2 --durations F=50,B=100
bfs,V=4 --kind bfs --virtual-stages 4 --durations F=25,B=50
LIST
}

# Lab 4. The bubble as weight gradients are a smaller part of a backward of 24 ticks beside a forward of 12.
weights() {
  printf '%-8s %16s %16s %16s\n' 'W' 1f1b zb-h1 zb-h2
  for w in 12 9 6 3 0; do
    printf '%-8s' "$w of 24"
    for kind in 1f1b zb-h1 zb-h2; do
      read -r makespan bubble _ < <(study --kind $kind --ranks 8 --microbatches 16 \
        --durations "F=12,B=24,Bi=$((24 - w)),W=$w")
      awk -v b="$bubble" -v m="$makespan" 'BEGIN { printf " %7.0f = %4.1f %%", b, 100 * b / m }'
    done
    printf '\n'
  done
}

# How long the passes of the second stage take, in ms: a forward, a backward and its parts, a forward beside a backward.
durations() {
  for kind in 1f1b zb-h1 dualpipe; do
    "$PIPECAST" schedule --from $lab/07-two-copies.yaml --kind $kind --quiet --json - | awk '
      /^    \[/ { ++rank }
      /"pass":/ { pass = $2; gsub(/[",0-9.]/, "", pass) }
      /"start":/ { start = $2 + 0 }
      /"end":/ && rank == 2 { print pass, ($2 - start) / 1e3 }'
  done | awk '
    !($1 in ms) { ms[$1] = $2 }
    END { printf "F %.2f  B %.2f  Bi %.2f  W %.2f  F&B %.2f\n", ms["F"], ms["B"], ms["Bi"], ms["W"], ms["F&B"] }'
}

# Lab 6. A pair beside and behind its exchanges, in ms.
overlap() {
  key=$1
  shift
  printf '%-18s %8s %8s %12s %8s %8s %8s\n' "$key" pair 'in line' computation tokens hidden exposed
  for value in "$@"; do
    run_chunk() { "$PIPECAST" chunk $lab/06-overlap.yaml --peers-late 0 --set "$key=$value" --quiet --json - "$@"; }
    beside=$(run_chunk)
    behind=$(run_chunk --set plan.overlap.communication=false)
    awk -v value="$value" -v pair="$(number time_us "$beside")" -v line="$(number time_us "$behind")" \
      -v computation="$(number busy_us "$beside")" -v hidden="$(number hidden_communication_us "$beside")" \
      -v exposed="$(number exposed_communication_us "$beside")" 'BEGIN {
        printf "%-18s %8.1f %8.1f %12.1f %8.1f %8.1f %8.1f\n", value, pair / 1e3, line / 1e3, computation / 1e3,
          (hidden + exposed) / 1e3, hidden / 1e3, exposed / 1e3
      }'
  done
}

# Lab 5. Most live chunks of a rank over those of 1F1B, which keeps p micro-batches of two chunks each.
shares() {
  printf '%-6s %10s %10s %10s\n' ranks zb-v v-half v-min
  for p in 4 8 16 32 64; do
    printf '%-6d' $p
    for kind in zb-v v-half v-min; do
      read -r _ _ _ live _ < <(study --kind $kind --ranks $p --microbatches $((2 * p)))
      awk -v live="$live" -v p=$p 'BEGIN { printf " %10.3f", live / (2 * p) }'
    done
    printf '\n'
  done
}

# Lab 8. Bubble over makespan as units of p micro-batches follow each other.
units() {
  printf '%-6s %14s %28s %28s\n' '' '' 'B as long as F' 'B twice as long'
  printf '%-6s %14s %13s %14s %13s %14s\n' units 'micro-batches' chimera 1f1b chimera 1f1b
  for unit in 1 2 4 8; do
    printf '%-6d %14d' $unit $((8 * unit))
    for durations in F=2,B=2,Bi=1,W=1 F=1,B=2,Bi=1,W=1; do
      for kind in chimera 1f1b; do
        read -r makespan bubble _ < <(study --kind $kind --ranks 8 --microbatches $((8 * unit)) --durations $durations)
        awk -v b="$bubble" -v m="$makespan" 'BEGIN { printf " %11.1f %%", 100 * b / m }'
      done
    done
    printf '\n'
  done
}

# Lab 9. Where the layers lie: the step, all passes of the slowest stage, the mean idle time of a rank.
layouts() {
  printf '%-34s %12s %14s %8s\n' 'the last stage holds' 'makespan' 'slowest stage' idle
  while IFS='|' read -r name layout; do
    "$PIPECAST" schedule --from $lab/09-unequal-stages.yaml --set "plan.pipeline_layout=$layout" --quiet --json - |
      awk -v name="$name" '
        /^ *"makespan":/ { makespan = $2 + 0; least = makespan }
        /^ *"bubble": \[/ { list = 1; next }
        /\]/ { list = 0 }
        list { ++ranks; all += $1; if ($1 + 0 < least) least = $1 + 0 }
        END {
          printf "%-34s %9.1f ms %11.1f ms %6.1f %%\n", name, makespan / 1e3, (makespan - least) / 1e3,
            100 * all / ranks / makespan
        }'
  done <<'LIST'
three layers, MTP, two heads|[embedding moe*4, moe*4, moe*4, moe*4, moe*4, moe*4, moe*4, moe*3 head mtp head]
one layer, MTP, two heads (auto)|auto
MTP and two heads|[embedding moe*4, moe*4, moe*4, moe*4, moe*5, moe*5, moe*5, head mtp head]
LIST
}

# Lab 7. Parameters and memory in GB of all eight ranks together, and the activations of the rank that keeps most.
copies() {
  printf '%-10s %8s %12s %9s %11s %11s %13s\n' '' copies parameters weights gradients optimizer activations
  for kind in "$@"; do
    copies=$("$PIPECAST" schedule --from $lab/07-two-copies.yaml --kind "$kind" --quiet --json - |
      sed -n 's/^ *"parameter_copies": \([0-9]*\),*$/\1/p')
    "$PIPECAST" run $lab/07-two-copies.yaml --mode folded --set plan.schedule="$kind" --quiet --json - |
      awk -v kind="$kind" -v copies="$copies" '
        /"memory_bytes": [{]/ { memory = 1 }
        /[}]/ { memory = 0 }
        memory { gsub(/[":]/, "", $1); sum[$1] += $2 }
        memory && $1 == "activations" && $2 + 0 > most { most = $2 + 0 }
        /"per_rank": \[/ { list = 1; next }
        /\]/ { list = 0 }
        list { parameters += $1 }
        END {
          printf "%-10s %8d %10.2f G %6.1f GB %8.1f GB %8.1f GB %10.1f GB\n", kind, copies, parameters / 1e9,
            sum["weights"] / 1e9, sum["gradients"] / 1e9, sum["optimizer"] / 1e9, most / 1e9
        }'
  done
}

# Prints times of schedules and holds their picture against one in docs/.
picture() {
  local file=$1 drawn
  shift
  drawn=$(mktemp)
  "$PIPECAST" schedule "$@" --format svg >"$drawn"
  if ! cmp -s "$drawn" "$file"; then
    echo "$file: is not what the program draws; write it anew with: pipecast schedule $* --format svg >$file" >&2
    rm -f "$drawn"
    return 1
  fi
  rm -f "$drawn"
  "$PIPECAST" schedule "$@" --format summary
}

# The first lines of a summary: makespan, bubble, and how far it is above a bound.
bound() { "$PIPECAST" schedule "$@" --format summary | sed -n 1,3p; }

# Where a step's time goes, and the time of every rank, as `pipecast run` shows it.
step() {
  "$PIPECAST" run "$@" | sed -n '/^where the step goes/,/^$/p; /^rank  memory/,/^Each GPU/p'
}

# Lab 10. The step without one trouble after the other.
causes() {
  local nic=cluster.nic.bandwidth=400Gb/s even=plan.pipeline_layout=auto routing=routing.distribution=balanced
  local slow=variation.stragglers=0
  without() {
    name=$1
    shift
    local sets=()
    for change in "$@"; do sets+=(--set "$change"); done
    time=$(number time_s "$("$PIPECAST" run $lab/10-where-the-time-goes.yaml "${sets[@]}" --quiet --json -)")
    if [ -z "${whole:-}" ]; then whole=$time; fi
    awk -v name="$name" -v time="$time" -v whole="$whole" 'BEGIN {
      printf "%-34s %10.1f ms %+8.1f ms\n", name, 1e3 * time, 1e3 * (time - whole)
    }'
  }
  without 'as it is'
  without 'a NIC of 400 Gb/s' $nic
  without 'balanced routing' $routing
  without 'no slow GPU' $slow
  without 'layers laid out by pipecast' $even
  without 'such a layout, no slow GPU' $even $slow
  without 'such a layout, 400 Gb/s' $even $nic
  without 'all four' $nic $routing $slow $even
}

"$@"
