#!/bin/bash
# run.sh [--only PREFIX]: from a Java 4.9.3 master to Hotfire without a stop, as docs/OPERATING.md says, under traffic of Java clients.
#
# Producers and push consumers with the client's defaults run all the time. Hotfire joins as a slave, catches up, the Java master is
# stopped in order (ASYNC_MASTER) or killed (SYNC_MASTER), the slave starts again as master. Prints how long there was no master, how
# long producers had no answer, what was lost (acked and never consumed; must be nothing) and what came more than once.
# One line per step (`ok NAME: figures` or `FAIL NAME: expected .. got ..`), last `N passed, M failed`.
# Exit 0 when all passed, 1 when one failed, 2 when it could not run.
#
# Environment as for ../compat/run.sh: HOTFIRE, COMPAT_KIT, COMPAT_KEEP=1, CARGO.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd); top=$(cd "$here/../.." && pwd); compat=$here/../compat
only=
while [ $# -gt 0 ]; do
  case $1 in
    --only) only=${2:?--only PREFIX}; shift 2 ;;
    *) sed -n '2,9p' "$0" >&2; exit 2 ;;
  esac
done
work=$top/target/compat
export COMPAT_KIT=${COMPAT_KIT:-$work/kit}
mkdir -p "$work"
[ -e "$COMPAT_KIT/lib/4.9.3/.done" ] || bash "$compat/java-peer/kit.sh" "$COMPAT_KIT" 4.9.3 >"$work/kit.log" 2>&1 \
  || { tail -20 "$work/kit.log" >&2; exit 2; }
if [ -z "${HOTFIRE:-}" ]; then
  (cd "$top" && ${CARGO:-cargo} build --release --bin hotfire) >&2 || exit 2
  HOTFIRE=$top/target/release/hotfire
fi
export HOTFIRE

run=$work/migration-$$
rm -rf "$run"; mkdir -p "$run/classes"
stop_all() {
  for pid in "$run"/*/pid; do
    [ -e "$pid" ] && kill -9 "$(cat "$pid")" 2>/dev/null || true
  done
}
trap stop_all EXIT
CP="$COMPAT_KIT/lib/4.9.3/*"
javac -nowarn -Xlint:-deprecation -cp "$CP" -d "$run/classes" "$compat"/java/{Report,Servers,Session}.java "$compat"/java-4/Heartbeats.java "$here"/java/*.java \
  2>"$run/javac.log" || { cat "$run/javac.log" >&2; exit 2; }
begun=$(date +%s)
java -Xmx512m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -Duser.home="$run" -Drocketmq.client.logRoot="$run/client-logs" \
  -Dlogback.configurationFile="$compat/logback.xml" \
  --add-opens=java.base/java.nio=ALL-UNNAMED --add-opens=java.base/sun.nio.ch=ALL-UNNAMED \
  -cp "$run/classes:$CP" compat.MigrationMain "$compat" "$run" "$only" 2>"$run/client.err" \
  | grep --line-buffered -E '^(ok|FAIL|note) ' | tee "$run/client.out" || true
passed=$(grep -c '^ok ' "$run/client.out" || true); failed=$(grep -c '^FAIL ' "$run/client.out" || true)
grep -q '^note done' "$run/client.out" || { failed=$((failed + 1)); echo "FAIL the client process ended early:"; tail -20 "$run/client.err"; }
[ $((passed + failed)) -gt 0 ] || { echo "no check begins with $only" >&2; exit 2; }
echo "note $(($(date +%s) - begun)) s, logs in ${run#"$top"/}"
if [ "$failed" = 0 ] && [ -z "${COMPAT_KEEP:-}" ]; then stop_all; rm -rf "$run"; fi
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
