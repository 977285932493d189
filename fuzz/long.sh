#!/usr/bin/env bash
# Runs every fuzz target, one after the other, and says what came of it.
#   fuzz/long.sh [MINUTES]   for so long each; 15 if not given
# Exit code 1 if one failed; what made it fail is in fuzz/artifacts/.
set -uo pipefail
cd "$(dirname "$0")/.."
minutes=${1:-15}
[[ $minutes =~ ^[1-9][0-9]*$ ]] || { sed -n '2,4s/^# \{0,1\}//p' "$0" >&2; exit 2; }

failed=0
for file in fuzz/fuzz_targets/*.rs; do
    target=$(basename "$file" .rs)
    mkdir -p fuzz/corpus
    log=fuzz/corpus/$target.log
    result=ok
    fuzz/run "$target" $((minutes * 60)) -print_final_stats=1 >"$log" 2>&1 ||
        { result=FAILED failed=1; }
    runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
    coverage=$(sed -n 's/.* cov: \([0-9]*\) .*/\1/p' "$log" | tail -1)
    printf '%-16s %4d min  %12s runs  %6s edges  %s\n' \
        "$target" "$minutes" "${runs:-?}" "${coverage:-?}" "$result"
    [[ $result == ok ]] || tail -40 "$log"
done
exit $failed
