#!/usr/bin/env bash
# The rows of `pipecast validate` that contain some words, under the heads of their tables.
#
#   PIPECAST=PROGRAM validate_rows.sh WORD...     (from the project's root)
set -euo pipefail

"$PIPECAST" validate | awk -v words="$*" '
  /^-+$/ { head = before "\n" $0 }
  index($0, words) { if (head != "") print head; head = ""; print }
  { before = $0 }'
