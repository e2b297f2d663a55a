#!/usr/bin/env bash
# Holds the outputs shown in a document against the program: every block
#
#   <!-- output: pipecast ARGUMENTS -->
#   ```text
#   ...
#   ```
#
# must be what the program prints now, but for the line on its own time and memory; a block
#
#   <!-- output: tests/docs/SCRIPT.sh ARGUMENTS -->
#
# what that script prints, which finds the program under $PIPECAST. With --update the blocks are written anew.
#
#   check_output.sh [--update] PROGRAM DOCUMENT...     (from the project's root)
set -euo pipefail

update=no
if [ "$1" = --update ]; then update=yes; shift; fi
program=$1
shift
export NO_COLOR=1
export PIPECAST=$program

# The document with every block replaced by what the program prints.
render() {
  local line skipping=no
  while IFS= read -r line; do
    if [ "$skipping" = yes ]; then
      [ "$line" = '```' ] || continue
      skipping=no
    fi
    printf '%s\n' "$line"
    if [[ $line == '<!-- output: '*' -->' ]]; then
      local arguments=${line#'<!-- output: '}
      read -r -a words <<<"${arguments%' -->'}"
      IFS= read -r line
      printf '%s\n' "$line"
      if [ "${words[0]}" = pipecast ]; then words[0]=$program; fi
      "${words[@]}"
      skipping=yes
    fi
  done <"$1"
}

variable='^Simulated in '
failed=0
for document in "$@"; do
  rendered=$(mktemp)
  render "$document" >"$rendered"
  if ! diff <(grep -v "$variable" "$document") <(grep -v "$variable" "$rendered"); then
    if [ "$update" = yes ]; then
      cat "$rendered" >"$document"
    else
      echo "$document: shows other output than the program (<); see --update in tests/docs/check_output.sh"
      failed=1
    fi
  fi
  rm -f "$rendered"
done
exit "$failed"
