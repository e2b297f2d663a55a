#!/usr/bin/env bash
# The published trace of an overlapped pair of four MoE layers beside the same pair of the simulated step, in ms: by
# phase the compute stream's spans summed over the layers, and the whole.
#
#   PIPECAST=PROGRAM chunk.sh     (from the project's root)
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"$PIPECAST" run configs/scenarios/deepseek-v3-h800.yaml --mode folded --out "$folder" --quiet
gzip -dc "$folder/trace.json.gz" >"$folder/trace.json"

awk '
  function field(name,   rest) {
    rest = $0
    if (!sub(".*\"" name "\":\"?", "", rest)) return ""
    sub(/[",}].*/, "", rest)
    return rest
  }
  # Measured: layer,phase,stream,op,gemm,m,n,k,grid_ctas,start_us,duration_us
  FILENAME ~ /csv$/ && FNR > 1 {
    split($0, cell, ",")
    start = cell[10]; end = start + cell[11]
    if (end > last) last = end
    if (first == "" || start < first) first = start
    if (cell[3] != "compute") next
    span = cell[2] SUBSEP cell[1]
    if (!(span in begun) || start < begun[span]) begun[span] = start
    if (end > ended[span]) ended[span] = end
  }
  # Simulated: the middle rank has four MoE layers in either direction; its pair that is last in the file.
  FILENAME ~ /json$/ && /"ph":"[BE]"/ && field("pid") == 8 {
    thread = field("tid")
    if (field("ph") == "B") {
      name[thread] = field("name")
      from[thread] = field("ts") + 0
    } else if (thread == 0 && name[0] ~ /&/) {
      pair_from = from[0]; pair_to = field("ts") + 0
    } else if (thread == 1) {
      tasks++
      task_name[tasks] = name[1]; task_from[tasks] = from[1]; task_to[tasks] = field("ts") + 0
    }
  }
  END {
    for (span in begun) {
      split(span, part, SUBSEP)
      measured[part[1]] += (ended[span] - begun[span]) / 1000
    }
    measured["all"] = (last - first) / 1000
    for (i = 1; i <= tasks; i++) {
      if (task_from[i] < pair_from || task_to[i] > pair_to) continue
      phase = task_name[i]
      sub(/^moe /, "", phase)
      simulated[phase] += (task_to[i] - task_from[i]) / 1000
    }
    simulated["all"] = (pair_to - pair_from) / 1000
    count = split("attn(F) mlp(B) mlp(W) mlp(F) attn(B) attn(W) all", phases, " ")
    printf "%-9s", "ms"
    for (i = 1; i <= count; i++) printf " %8s", phases[i]
    printf "\n%-9s", "trace"
    for (i = 1; i <= count; i++) printf " %8.1f", measured[phases[i]]
    printf "\n%-9s", "simulated"
    for (i = 1; i <= count; i++) printf " %8.1f", simulated[phases[i]]
    printf "\n%-9s", "error"
    for (i = 1; i <= count; i++) printf " %+6.1f %%", 100 * (simulated[phases[i]] / measured[phases[i]] - 1)
    printf "\n"
  }' traces/h800_dualpipe_chunk/kernels.csv "$folder/trace.json"
