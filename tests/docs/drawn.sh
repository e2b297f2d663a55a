#!/usr/bin/env bash
# Prints what the program prints and holds the picture that the same run draws against one in docs/.
#
#   PIPECAST=PROGRAM drawn.sh PICTURE.svg OPTION ARGUMENTS     (from the project's root; OPTION draws the picture)
set -euo pipefail

picture=$1
option=$2
shift 2
drawn=$(mktemp)
trap 'rm -f "$drawn"' EXIT
"$PIPECAST" "$@" "$option" "$drawn"
if ! cmp -s "$drawn" "$picture"; then
  echo "$picture: is not what the program draws; write it anew with: pipecast $* $option $picture" >&2
  exit 1
fi
