#!/usr/bin/env bash
# Why products of the H800 trace are slower than the same products in DeepGEMM's table of 2025-03-25 scaled to the SMs
# they had: by shape the median of the trace (routed products at 32,768 rows) over the table times 132/112, and what
# the model makes of it: thread blocks on 112 SMs instead of 132, the tile of training instead of the version's own,
# and what is left for the clock and everything beside.
#
#   PIPECAST=PROGRAM attribution.sh     (from the project's root)
set -euo pipefail

trace=traces/h800_dualpipe_chunk/kernels.csv

model_us() { # OP M N K GROUPS SMS [OPTIONS]
  local op=$1 m=$2 n=$3 k=$4 groups=$5 sms=$6
  shift 6
  "$PIPECAST" kernel "$op" --gpu h800 --m "$m" --n "$n" --k "$k" --groups "$groups" --sms "$sms" "$@" --quiet \
    --json - | sed -n 's/^ *"time_us": \([0-9.]*\),*$/\1/p'
}

table_us() { # FILE M N K
  awk -F, -v m="$2" -v n="$3" -v k="$4" '
    NR == 1 { for (i = 1; i <= NF; i++) column[$i] = i; next }
    /^#/ { next }
    $column["m"] == m && $column["n"] == n && $column["k"] == k { print $column["time_us"]; exit }
  ' "$1"
}

# Median time of the launches of one product. Routed ones ran on the rows that the grid of their cast tells.
trace_us() { # PRODUCT M
  awk -F, -v product="$1" -v m="$2" '
    $4 == "cast_fp8_1x128" && $2 == "mlp(F)" && $9 > rows[$1] { rows[$1] = $9 }
    { line[NR] = $0 }
    END {
      for (i = 1; i <= NR; i++) {
        split(line[i], cell, ",")
        name = cell[5]; sub(/_recompute$/, "", name)
        if (name != product || cell[3] != "compute") continue
        time = cell[11]
        if (product ~ /^routed/) time *= m / rows[cell[1]]
        print time
      }
    }' $trace | sort -n | awk '{ t[NR] = $1 } END { print (t[int((NR + 1) / 2)] + t[int(NR / 2) + 1]) / 2 }'
}

dense=traces/deepgemm/gemm_fp8_2025-03-25.csv
grouped=traces/deepgemm/grouped_gemm_fp8_contiguous_2025-03-25.csv
printf '%-16s %9s %9s %9s %9s\n' product measured 112_SMs tile rest
while read -r product op m n k groups file; do
  table=$(table_us "$file" "$m" "$n" "$k")
  whole=$(model_us "$op" "$m" "$n" "$k" "$groups" 132)
  fewer=$(model_us "$op" "$m" "$n" "$k" "$groups" 112)
  tile=$(model_us "$op" "$m" "$n" "$k" "$groups" 112 --block-m 128 --block-n 128)
  awk -v product="$product" -v measured="$(trace_us "$product" "$m")" -v table="$table" -v whole="$whole" \
    -v fewer="$fewer" -v tile="$tile" 'BEGIN {
      share = 132 / 112
      ratio = measured / (table * share); waves = fewer / (whole * share); tiles = tile / fewer
      printf "%-16s %9.3f %9.3f %9.3f %9.3f\n", product, ratio, waves, tiles, ratio / waves / tiles
    }'
done <<LIST
o gemm_fp8 4096 7168 16384 1 $dense
q_b gemm_fp8 4096 24576 1536 1 $dense
kv_b gemm_fp8 4096 32768 512 1 $dense
shared_gate_up gemm_fp8 4096 4096 7168 1 $dense
shared_down gemm_fp8 4096 7168 2048 1 $dense
routed_gate_up grouped_gemm_fp8 32768 4096 7168 8 $grouped
routed_down grouped_gemm_fp8 32768 7168 2048 8 $grouped
LIST
