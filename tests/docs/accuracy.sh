#!/usr/bin/env bash
# Errors of the kernel model over every measured table of isolated kernels, one line each:
#
#   pipecast kernel KERNEL --gpu GPU --table traces/TABLE
#
#   PIPECAST=PROGRAM accuracy.sh     (from the project's root)
set -euo pipefail

readonly tables='
h100 gemm --precision fp8  h100/gemm_fp8_block.csv
h100 gemm --precision bf16 h100/gemm_bf16.csv
h800 gemm                  deepgemm/gemm_fp8_2025-03-25.csv
h800 gemm                  deepgemm/grouped_gemm_fp8_contiguous_2025-03-25.csv
h800 gemm                  deepgemm/grouped_gemm_fp8_masked.csv
h800 gemm                  h800_kernels/grouped_gemm_fp8.csv
h100 attention-forward     h100/mla_prefill_attention.csv
h800 attention-forward     h800_kernels/mla_prefill_attention.csv
h100 attention-decode      h100/mla_decode_attention.csv
h800 attention-decode      h800_kernels/mla_decode_attention.csv
'

printf '%-4s  %-53s %22s   %22s\n' '' '' '>= 20 GFLOP' smaller
printf '%-4s  %-53s %6s %7s %7s   %6s %7s %7s\n' gpu table rows median p90 rows median p90
while read -r gpu words; do
  [ -n "$gpu" ] || continue
  table=${words##* }
  read -r -a kernel <<<"${words% *}"
  "$PIPECAST" kernel "${kernel[@]}" --gpu "$gpu" --table "traces/$table" --quiet --json - |
    awk -v gpu="$gpu" -v table="$table" '
      function cells(which) {
        if (!rows[which]) return sprintf("%6d %7s %7s", 0, "", "")
        return sprintf("%6d %5.1f %% %5.1f %%", rows[which], 100 * median[which], 100 * p90[which])
      }
      /"errors[a-z_]*": *[{]/ { which = $1; gsub(/[":]/, "", which) }
      /"rows": *[0-9]/ { rows[which] = $2 + 0 }
      /"median":/ { median[which] = $2 + 0 }
      /"p90":/ { p90[which] = $2 + 0 }
      END {
        line = sprintf("%-4s  %-53s %s   %s", gpu, table, cells("errors_large"), cells("errors_small"))
        sub(/ +$/, "", line)
        print line
      }'
done <<<"$tables"
