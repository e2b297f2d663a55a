#!/usr/bin/env bash
# What nvcc made of our kernels, from tests/kernels/compiled/budget.csv (which ctest -L cubin holds to the
# compiler's output) and shared_memory.csv (which ctest -L kernels holds to the launches).
#
#   compiled_kernels.sh KERNEL / KERNEL / ...    kernels by name, as budget.csv has them
#
# (from the project's root)
set -euo pipefail
folder=tests/kernels/compiled

awk -F ';' -v wanted="$*" '
  BEGIN {
    count = split(wanted, order, " / ")
    printf "%-76s %9s %9s %6s %6s %6s %6s %6s %7s %7s\n", "kernel", "registers", "shared", "QGMMA",
      "HGMMA", "FP32", "FMNMX", "MUFU", "F2FP", "LDS+STS"
  }
  FNR == 1 { file++ }
  file == 1 && FNR > 1 { shared[$1] = $2 }
  file == 2 && $1 == "kernel" { for (i = 1; i <= NF; i++) at[$i] = i }
  file == 2 && at["registers"] {
    row[$1] = sprintf("%9d %9s %6d %6d %6d %6d %6d %7d %7d", $at["registers"],
      $1 in shared ? shared[$1] : "-", $at["fp8_products"], $at["bf16_products"], $at["fp32"],
      $at["maximum"], $at["special"], $at["convert"], $at["shared"])
  }
  END {
    for (i = 1; i <= count; i++) {
      if (!(order[i] in row)) { print "no kernel " order[i] > "/dev/stderr"; exit 1 }
      printf "%-76s %s\n", order[i], row[order[i]]
    }
  }' "$folder/shared_memory.csv" "$folder/budget.csv"
