#!/usr/bin/env bash
# docs/memory.md: what each technique of DeepSeek-V3's plan buys, by switching it off: the fullest
# rank's memory, whether it fits, and the step's time. Finds the program under $PIPECAST.
set -euo pipefail

scenario=configs/scenarios/deepseek-v3-h800.yaml
json=$(mktemp)
trap 'rm -f "$json"' EXIT

row() {
  local name=$1
  shift
  local sets=()
  for change in "$@"; do sets+=(--set "$change"); done
  "$PIPECAST" memory "$scenario" "${sets[@]}" --json "$json" --quiet 2>/dev/null || [ $? -eq 1 ]
  # The document is printed key by key: a rank's peak stands before its categories.
  awk -v name="$name" '
    { gsub(/[",]/, "") }
    $1 == "pipeline_rank:" { fuller = 0 }
    $1 == "peak_bytes:" && $2 > most { most = $2; fuller = 1 }
    fuller && !(($1, most) in seen) && $1 ~ /^(weights|gradients|optimizer|activations):$/ {
      of[$1] = $2; seen[$1, most] = 1
    }
    $1 == "time_s:" && !time { time = $2 }
    $1 == "fits:" { fits = $2 == "true" ? "yes" : "no" }
    END {
      printf "%-46s %6.1f %7.1f %9.1f %9.1f %11.1f  %-4s %6.2f\n", name, most / 1e9,
        of["weights:"] / 1e9, of["gradients:"] / 1e9, of["optimizer:"] / 1e9,
        of["activations:"] / 1e9, fits, time
    }' "$json"
}

printf '%-46s %6s %7s %9s %9s %11s  %-4s %6s\n' "plan, GB of the fullest rank" total weights gradients \
  optimizer activations fits "step s"
row "as DeepSeek-V3 was trained"
row "RMSNorm outputs kept" "plan.recompute_modules=[mla_up_proj, moe_act]"
row "MLA up-projections kept" "plan.recompute_modules=[layernorm, moe_act]"
row "SwiGLU outputs kept" "plan.recompute_modules=[layernorm, mla_up_proj]"
row "nothing recomputed" "plan.recompute_modules=none"
row "attention's core recomputed alone (selective)" "plan.recompute_modules=selective"
row "whole layers recomputed (full)" "plan.recompute_modules=full"
row "attention outputs cached in FP8, not E5M6" plan.precision.attention_output=fp8
row "attention outputs cached in BF16" plan.precision.attention_output=bf16
row "inputs cached in BF16, products in FP8" plan.precision.activations=bf16
row "all in BF16" plan.precision.gemm=bf16 plan.precision.dispatch=bf16 \
  plan.precision.attention_output=bf16
row "moments in FP32" plan.precision.moments=fp32
row "gradients in BF16" plan.precision.gradients=bf16
row "no ZeRO" plan.zero_stage=0
row "ZeRO-2" plan.zero_stage=2
row "ZeRO-3" plan.zero_stage=3
row "optimizer in host memory" plan.memory.optimizer=host
row "moving average on the GPU" plan.memory.ema=device
row "experts over 32 GPUs" plan.ep=32
row "experts over 16 GPUs" plan.ep=16
row "experts over 8 GPUs" plan.ep=8
row "one copy of the parameters (1F1B)" plan.schedule=1f1b
row "one copy, experts over 8 GPUs" plan.schedule=1f1b plan.ep=8
