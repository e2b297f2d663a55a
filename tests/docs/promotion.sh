#!/usr/bin/env bash
# What promotion costs and what it buys, by its interval: cycles of the main loop of one tile per 128 of K, as the kernel
# model counts them (docs/kernel-model.md), and the error of a sum. Fails where its cycles at 128 are not the model's.
#
#   PIPECAST=PROGRAM promotion.sh     (from the project's root)
set -euo pipefail

readonly k=4096 intervals=32,64,128,256,512,1024,2048
kernel=$("$PIPECAST" kernel gemm --m 4096 --n 7168 --k $k --gpu h800 --quiet --json -)
number() { sed -n "s/^ *\"$1\": \([0-9.]*\),*\$/\1/p" <<<"$kernel" | tail -1; }
errors=$("$PIPECAST" numerics gemm --k $k --promotion $intervals --distribution normal,uniform --rows 64 --columns 64 \
  --quiet --json -)

awk -v tall="$(number block_m)" -v wide="$(number block_n)" -v model_tensor="$(number tensor)" \
  -v model_promotion="$(number promotion)" '
  FNR == NR && /^  drain_cycles:/ { next_value = 1 }
  FNR == NR && next_value && /value:/ { drain = $3 + 0; next_value = 0 }
  FNR == NR { next }
  /"promotion":/ { interval = $2 + 0 }
  /"distribution":/ { uniform = $2 ~ /uniform/ }
  /"accumulation_relative_rms":/ { rms[interval, uniform] = $2 + 0 }
  /"rounding_relative_rms":/ { rounding[interval, uniform] = $2 + 0; if (!uniform) order[++rows] = interval }
  END {
    printf "%8s  %20s %9s   %18s   %19s\n", "", "cycles per 128 of K", "more than", "N(0, 1)", "U(0, 1)"
    printf "%8s  %20s %9s   %9s %8s   %9s %9s\n", "interval", "of a " tall " x " wide " tile", "products", "sum RMS",
      "rounding", "sum RMS", "rounding"
    for (i = 1; i <= rows; i++) {
      n = order[i]
      # Two warpgroups of half a tile each take turns at the tensor cores.
      tensor = 2 * tall * wide * n / 8192
      turn = tensor / 2 + drain + tall * wide / 2 / 128
      loop = sqrt(tensor ^ 2 + turn ^ 2)
      printf "%8d  %20.0f %8.1f %%   %9.2e %8.2e   %9.2e %9.2e\n", n, loop * 128 / n, 100 * (loop / tensor - 1),
        rms[n, 0], rounding[n, 0], rms[n, 1], rounding[n, 1]
      off = (loop / tensor - 1) / (model_promotion / model_tensor)
      if (n == 128 && (off < 0.98 || off > 1.02)) { print "not the cycles of the model" > "/dev/stderr"; exit 1 }
    }
  }' configs/calibration/h800.yaml - <<<"$errors"
