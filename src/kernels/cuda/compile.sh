#!/bin/sh
# nvcc, with what it and ptxas say also kept beside the object: COMMAND... -o OBJECT ... -> OBJECT.log
# (registers, spills, serialised wgmma: checked by tests/kernels/compiled).
object=
previous=
for word in "$@"; do
  if [ "$previous" = -o ]; then object=$word; fi
  previous=$word
done
if "$@" >"$object.log" 2>&1; then
  exit 0
else
  status=$?
  cat "$object.log" >&2
  exit "$status"
fi
