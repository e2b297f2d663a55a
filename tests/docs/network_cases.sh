#!/usr/bin/env bash
# How far `pipecast network` is from the completion times of other simulators, one line a case: with --mode flow the
# makespan and the worst flow, with --mode coflow the makespan and the worst group.
#
#   PIPECAST=PROGRAM network_cases.sh cases|packet     (from the project's root)
set -euo pipefail

# "KEY TIME" a line: flows, "group NAME" and "makespan". A key of an object that is written over several lines.
times() {
  awk '
    function word(text) { gsub(/^ *"|": *.*$/, "", text); return text }
    /"completion_s": *[{]/ { prefix = "flow "; next }
    /"group_completion_s": *[{]/ { prefix = "group "; next }
    /[}]/ { prefix = "" }
    /"makespan_s":|"ns3_makespan_s":/ && !/fluid/ { value = $2; sub(/,/, "", value); print "makespan " value; next }
    /"src":/ { source = $2 + 0 }
    /"dst":/ { target = $2 + 0 }
    /"ns3_s":/ { value = $2; sub(/,/, "", value); print "flow " source "-" target " " value }
    prefix != "" && /": *[0-9]/ { value = $NF; sub(/,/, "", value); print prefix word($0) " " value }
  '
}

errors() {
  awk -v makespan_only="$1" '
    function off(a, b) { return b > 0 ? (a > b ? a / b - 1 : 1 - a / b) : a }
    { value = $NF; key = $0; sub(/ [^ ]*$/, "", key) }
    FNR == NR { expected[key] = value; next }
    !(key in expected) { next }
    key == "makespan" { makespan = off(value, expected[key]); next }
    { kind = $1; if (off(value, expected[key]) > worst[kind]) worst[kind] = off(value, expected[key]); ++count[kind] }
    END {
      which = makespan_only == "group" ? "group" : "flow"
      printf "%11.4f %% %11s", 100 * makespan, count[which] ? sprintf("%.4f %%", 100 * worst[which]) : "-"
    }' "$2" -
}

printf '%-28s %6s  %27s   %27s\n' '' '' '--mode flow' '--mode coflow'
printf '%-28s %6s  %13s %13s   %13s %13s\n' case flows makespan 'worst flow' makespan 'worst group'
expected=$(mktemp)
trap 'rm -f "$expected"' EXIT
for file in validate/network/"$1"/*.json; do
  times <"$file" >"$expected"
  run() { "$PIPECAST" network "$file" --mode "$1" --quiet --json - | times; }
  printf '%-28s %6d  %s   %s\n' "$(basename "$file" .json)" "$(grep -c '^flow ' "$expected")" \
    "$(run flow | errors flow "$expected")" "$(run coflow | errors group "$expected")"
done
