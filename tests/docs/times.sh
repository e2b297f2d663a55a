#!/usr/bin/env bash
# One line per variant of a kernel: what differs, tile, waves, time, and what limits it.
#
#   PIPECAST=PROGRAM times.sh OP OPTIONS / VARIANT / VARIANT ...
#
# A variant is options too; none of them is the kernel as it stands.
set -euo pipefail

common=()
while [ $# -gt 0 ] && [ "$1" != / ]; do
  common+=("$1")
  shift
done

number() { sed -n "s/^ *\"$1\": \([0-9.]*\),*\$/\1/p" <<<"$answer"; }

printf '%-44s %10s %6s %12s  %s\n' 'with' tile waves time 'limited by'
while [ $# -gt 0 ]; do
  shift # the slash
  variant=()
  while [ $# -gt 0 ] && [ "$1" != / ]; do
    variant+=("$1")
    shift
  done
  answer=$("$PIPECAST" kernel "${common[@]}" "${variant[@]}" --quiet --json -)
  limit=$(sed -n 's/^ *"limited_by": "\([a-z0-9]*\)",*$/\1/p' <<<"$answer")
  tile="$(number block_m) x $(number block_n)"
  waves=$(number waves)
  if [ "$waves" -eq 0 ]; then tile=- waves=-; fi
  printf '%-44s %10s %6s %9.2f us  %s\n' "${variant[*]:-nothing else}" "$tile" "$waves" \
    "$(number time_us)" "$limit"
done
