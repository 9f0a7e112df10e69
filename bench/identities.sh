#!/usr/bin/env bash
# All that is measured about who is who, one after the other: bench/identities.sh TRACKING DATA
#
# BIN is the folder of a Python that has this project's dependencies and the other trackers.  A bar
# that is missed stops nothing: what fell short is listed at the end, and the exit code tells.
set -uo pipefail
cd "$(dirname "$0")/.."
export OPENBLAS_NUM_THREADS=1  # association is measured on one thread
python="${BIN:-.venv/bin}/python" tracking="$1" data="$2"
part="$(mktemp)"
trap 'rm -f "$part"' EXIT
short=""

measure() { # TITLE MODULE OPTIONS...
    printf '\n== %s\n' "$1"
    "$python" -m "${@:2}" 2>&1 | tee "$part"
    local code="${PIPESTATUS[0]}" lines
    [ "$code" = 0 ] && return
    lines="$(grep '^MISSED: ' "$part" || echo "did not finish: exit code $code")"
    short+="$(sed "s/^\(MISSED: \)\?/  $1: /" <<< "$lines")"$'\n'
}

measure "MOT17" bench.evaluate_tracking --mot17 "$tracking/mot17-half-val" --baselines \
    --min-hota-gain 0 --min-idf1-gain 0
measure "MOT17, camera" bench.evaluate_tracking --mot17 "$tracking/mot17-half-val" --baselines \
    --camera --min-hota-gain 1 --min-idf1-gain 0
measure "DanceTrack" bench.evaluate_tracking --dancetrack "$tracking/dancetrack-val" --baselines \
    --min-hota-gain 3 --min-short-return 70
measure "codes" bench.evaluate_codes --data "$data"
measure "returns" bench.evaluate_returns --data "$data" --min-return 80 --max-strangers 3 \
    --min-idf1 0.97
measure "demo clip" bench.evaluate_clip --clip "$data/clips/bedroom.mp4" --max-switches 0
measure "twenty people" bench.association --max-ms 0.5

if [ -n "$short" ]; then
    printf '\nShort of what is asked:\n%s' "$short"
    exit 1
fi
printf '\nNothing falls short.\n'
