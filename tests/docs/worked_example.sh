#!/usr/bin/env bash
# Computes the worked example of docs/kernel-model.md as its reader would, from the GPU's numbers and the constants of
# its calibration alone, and fails where the sum is not the program's.
#
#   PIPECAST=PROGRAM worked_example.sh SMS     (from the project's root)
set -euo pipefail

readonly m=4096 n=7168 k=2048
sms=$1
answer=$("$PIPECAST" kernel gemm --m $m --n $n --k $k --sms "$sms" --gpu h800 --quiet --json -)
cycles=$(sed -n 's/^ *"cycles": \([0-9.]*\),*$/\1/p' <<<"$answer")

awk -v m=$m -v n=$n -v k=$k -v sms="$sms" -v says="$cycles" '
  function ceil(x) { return int(x) < x ? int(x) + 1 : int(x) }
  # configs/gpus: "name: 12 unit  # source"; configs/calibration: "section:", "  name:", "{ value: 12, ..."
  /^[a-z0-9_]+: *[0-9]/ { split($1, key, ":"); gpu[key[1]] = $2 }
  /^[a-z0-9_]+: *$/ { section = $1 }
  /^  [a-z0-9_]+:/ { name = section $1; gsub(/:/, " ", name) }
  /[{] value:/ { value = $3; sub(/,/, "", value); constant[name] = value + 0 }
  function c(name) {
    if (!(name in constant)) { print "no constant " name > "/dev/stderr"; exit 1 }
    return constant[name]
  }
  END {
    # 1. The tile with the fewest waves, then with the fullest last one.
    tallest = c("product tallest_tile ")
    widest = c("product widest_tile ")
    print "1. tiles over " sms " SMs"
    printf "   %-9s %5s %5s %9s\n", "tile", "tiles", "waves", "last wave"
    for (rows = 64; rows <= tallest; rows *= 2) {
      for (columns = 16; columns <= widest; columns += columns < 160 ? 16 : 32) {
        if (rows > 128 && columns > 128) continue
        tiles = ceil(m / rows) * ceil(n / columns)
        waves = ceil(tiles / sms)
        last = tiles - (waves - 1) * sms
        if (rows >= 128 && columns >= 96) {
          printf "   %-9s %5d %5d %9d\n", rows " x " columns, tiles, waves, last
        }
        if (!best || waves < best || (waves == best && last > best_last)) {
          best = waves; best_last = last; tall = rows; wide = columns
        }
      }
    }
    print "   chosen: " tall " x " wide ", " best " waves"

    # 2. One tile, 128 of K: two warpgroups of half a tile each.
    print "2. cycles of one tile per 128 of K"
    tensor = 2 * tall * wide * 128 / 8192
    printf "   tensor cores        2 * %d * %d * 128 / 8192 = %.0f\n", tall, wide, tensor
    drain = c("product drain_cycles ")
    adds = tall * wide / 2 / 128
    turn = tensor / 2 + drain + adds
    printf "   one warpgroup       %.0f products + %.1f drain + %.0f adds = %.1f\n", tensor / 2, drain, adds, turn
    loop = sqrt(tensor ^ 2 + turn ^ 2)
    printf "   both, in turns      sqrt(%.0f^2 + %.1f^2) = %.1f\n", tensor, turn, loop
    l2 = (tall + wide) * 128 / gpu["l2_bytes_per_clock_per_sm"]
    smem = ceil(tall / 64) * (64 + wide) * 128 / gpu["shared_memory_bytes_per_clock_per_sm"]
    printf "   operands meanwhile  %.0f from L2, %.0f from shared memory: hidden\n", l2, smem
    if (l2 > loop || smem > loop) { print "operands are not hidden" > "/dev/stderr"; exit 1 }

    # 3. All waves.
    print "3. cycles of the busiest SM"
    main = best * k / 128 * loop
    printf "   main loops          %d waves * %d blocks of K * %.1f = %.0f\n", best, k / 128, loop, main
    store = c("product epilogue_cycles_fp8 ")
    epilogue = best * tall * wide / 128 * store
    printf "   epilogues           %d waves * %.2f * %d * %d / 128 = %.0f\n", best, store, tall, wide, epilogue
    busy = main + epilogue
    printf "   busy                %.0f\n", busy

    # 4. The clock.
    print "4. the clock"
    fast = gpu["max_clock"]
    loaded = c("clock loaded_ghz ")
    if (loaded > fast) loaded = fast
    use = 2 * m * n * k / (8192 * gpu["sm_count"] * busy)
    before = busy / fast / 1000
    settled = 1 - exp(-before / c("clock settling_us "))
    clock = fast - (fast - loaded) * use * settled
    printf "   tensor cores busy   2 * %d * %d * %d / (8192 * %d * %.0f) = %.3f\n", m, n, k, gpu["sm_count"], busy, use
    printf "   settled             1 - exp(-%.1f us / %.1f us) = %.3f\n", before, c("clock settling_us "), settled
    printf "   clock               %.3f - (%.3f - %.3f) * %.3f * %.3f = %.3f GHz\n", fast, fast, loaded, use, settled, clock

    # 5. Memory, and the whole.
    print "5. microseconds"
    compute = busy / clock / 1000
    bytes = (m * k + n * k + 2 * m * n) / 1e6
    share = c("product hbm ")
    memory = bytes / (gpu["hbm_bandwidth"] * share) * 1000
    printf "   SMs                 %.0f / %.3f GHz = %.2f\n", busy, clock, compute
    printf "   HBM                 %.1f MB / (%d GB/s * %.3f) = %.2f\n", bytes, gpu["hbm_bandwidth"], share, memory
    both = (compute ^ 3 + memory ^ 3) ^ (1 / 3)
    printf "   both, overlapped    (%.2f^3 + %.2f^3)^(1/3) = %.2f\n", compute, memory, both
    launch = c("product launch_us ")
    total = launch + both
    printf "   with the launch     %.2f + %.2f = %.2f\n", launch, both, total
    ours = total * 1000 * clock
    printf "   cycles              %.2f us * %.3f GHz = %.0f; pipecast kernel says %.0f\n", total, clock, ours, says
    if (ours < 0.98 * says || ours > 1.02 * says) {
      print "the worked example and the program differ" > "/dev/stderr"
      exit 1
    }
  }' configs/gpus/h800.yaml configs/calibration/h800.yaml
