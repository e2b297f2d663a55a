#!/usr/bin/env bash
# The constants of configs/calibration/ as tables for docs/kernel-model.md.
#
#   constants.sh values SECTION...   value and range of each constant, one GPU beside the other
#   constants.sh fits SECTION...     what was fitted on what, how well, and how well without the rows
#
# (from the project's root)
set -euo pipefail

mode=$1
shift
awk -v mode="$mode" -v wanted=" $* " '
  FNR == 1 { gpu = FILENAME; sub(/.*\//, "", gpu); sub(/\.yaml/, "", gpu) }
  /^[a-z0-9_]+:/ { section = $1; sub(/:/, "", section) }
  /^  [a-z0-9_]+:/ {
    name = $1
    sub(/:/, "", name)
    fit = $0
    if (!sub(/^[^#]*# /, "", fit)) fit = ""
  }
  / value:/ {
    sub(/kind: [a-z]+, /, "")
    gsub(/,/, "")
    if (index(wanted, " " section " ")) {
      full = section "." name
      if (!(full in seen)) { all[++count] = full; seen[full] = 1 }
      values[full, gpu] = sprintf("%10.4g  %9.4g .. %-9.4g", $3, $5, $7)
    }
  }
  /source:/ && index(wanted, " " section " ") {
    source = $0
    sub(/^[^"]*"/, "", source)
    sub(/".*/, "", source)
    key = gpu SUBSEP source SUBSEP fit
    if (!(key in constants)) order[++studies] = key
    constants[key] = constants[key] (constants[key] == "" ? "" : ", ") section "." name
  }
  # Text in lines of at most 100 characters, indented.
  function wrapped(text,   words, count, i, line, out) {
    gsub(/ %/, "~%", text)  # stays with its number
    count = split(text, words, " ")
    for (i = 1; i <= count; i++) {
      if (length(line) + length(words[i]) > 93) {
        out = out "    " line "\n"
        line = ""
      }
      line = line (line == "" ? "" : " ") words[i]
    }
    out = out "    " line "\n"
    gsub(/~%/, " %", out)
    return out
  }
  END {
    if (mode == "fits") {
      for (i = 1; i <= studies; i++) {
        split(order[i], part, SUBSEP)
        # The same on both GPUs is said once.
        same = constants[order[i]] SUBSEP part[2] SUBSEP part[3]
        if (!(same in gpus)) told[++different] = same
        gpus[same] = gpus[same] (gpus[same] == "" ? "" : " and ") part[1]
      }
      for (i = 1; i <= different; i++) {
        split(told[i], part, SUBSEP)
        printf "%s\n%s%s", gpus[told[i]], wrapped(part[1]), wrapped("source: " part[2])
        if (part[3] != "") printf "%s", wrapped(part[3])
      }
      exit
    }
    printf "%-38s %-36s %s\n", "constant", "      h100        range", "      h800        range"
    for (i = 1; i <= count; i++) {
      line = sprintf("%-38s %-36s %s", all[i], values[all[i], "h100"], values[all[i], "h800"])
      sub(/ +$/, "", line)
      print line
    }
  }' configs/calibration/h100.yaml configs/calibration/h800.yaml
