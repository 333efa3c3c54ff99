#!/bin/bash
# run.sh [--only PREFIX]: masters and slaves as separate processes, each Hotfire's or the real Java 4.9.3, in all four pairings.
#
# A Java client sends under SYNC_MASTER while each side is killed and started again; the logs must be the same byte for byte
# (but for what lies behind blank records), nothing that was acked may be missing at the slave, and reading goes on from it.
# One line per check (`ok NAME: counts` or `FAIL NAME: expected .. got ..`), last `N passed, M failed`.
# Exit 0 when all passed, 1 when one failed, 2 when it could not run.
#
# Environment: ../compat/setup.sh tells.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
. "$here/../compat/setup.sh"
only=
while [ $# -gt 0 ]; do
  case $1 in
    --only) only=${2:?--only PREFIX}; shift 2 ;;
    *) sed -n '2,9p' "$0" >&2; exit 2 ;;
  esac
done
need_kit 4.9.3
need_hotfire
open_run ha
compile 4.9.3 "$compat"/java/{Report,Servers,Session}.java "$compat"/java-4/Heartbeats.java "$here"/java/*.java
begun=$(date +%s)
client_java -Xmx512m -Dlogback.configurationFile="$compat/logback.xml" compat.HaMain "$compat" "$run" "$only" 2>"$run/client.err" \
  | grep --line-buffered -E '^(ok|FAIL|note) ' | tee "$run/client.out" || true
count_checks "$run/client.out"
grep -q '^note done' "$run/client.out" || { failed=$((failed + 1)); echo "FAIL the client process ended early:"; tail -20 "$run/client.err"; }
[ $((passed + failed)) -gt 0 ] || { echo "no check begins with $only" >&2; exit 2; }
echo "note $(($(date +%s) - begun)) s, logs in ${run#"$top"/}"
close_run "$failed"
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
