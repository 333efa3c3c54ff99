#!/bin/bash
# run.sh [--json] [--write] [--only COMMAND]: the real mqadmin of 4.9.3 against the Java broker and against Hotfire.
#
# Every command line of cases.txt runs against both, in one JVM, and what comes of it is compared: outcome, column
# heads, field names, rows without the values that differ from run to run. differences.txt names what may differ,
# with the reason; an entry that nothing needs any more is an error too. Prints one table (or one JSON line) and
# last `N same, M differ as listed, K differ`. Exit 0 when K is 0, 1 when not, 2 when it could not run.
# `--write` writes docs/MQADMIN.md. `--only COMMAND` runs the lines of one command.
#
# Environment: HOTFIRE (a binary to test; otherwise `cargo build --release`), COMPAT_KIT (the Java class path;
# otherwise fetched by Maven into target/compat/kit once), COMPAT_KEEP=1 (keep stores and logs of a good run).
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd); top=$(cd "$here/../.." && pwd); compat=$top/tests/compat
form=text page='' only=''
while [ $# -gt 0 ]; do
  case $1 in
    --json) form=json; shift ;;
    --write) page=$top/docs/MQADMIN.md; shift ;;
    --only) only=${2:?--only COMMAND}; shift 2 ;;
    *) sed -n '2,12p' "$0" >&2; exit 2 ;;
  esac
done
[ -z "$only" ] || [ -z "$page" ] || { echo "--write needs all commands, not --only" >&2; exit 2; }

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

run=$work/mqadmin-$$
rm -rf "$run"; mkdir -p "$run/classes" "$run/conf"
stop_all() {
  for pid in "$run"/*/*/pid; do
    [ -e "$pid" ] && kill -9 "$(cat "$pid")" 2>/dev/null || true
  done
}
trap stop_all EXIT
cp "$here/logback.xml" "$run/conf/logback_tools.xml"
CP="$COMPAT_KIT/lib/4.9.3/*"
javac -nowarn -Xlint:-deprecation,-removal -cp "$CP" -d "$run/classes" "$here"/java/*.java \
  "$compat"/java/{Report,Servers,Session}.java "$compat"/java-4/Heartbeats.java 2>"$run/javac.log" || { cat "$run/javac.log" >&2; exit 2; }
code=0
# consumerStatus writes a directory into the working directory.
cd "$run"
java -Xmx384m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -Djava.security.manager=allow -Duser.home="$run" \
  -Drocketmq.home.dir="$run" -Drocketmq.client.logRoot="$run/client-logs" -Dlogback.configurationFile="$here/logback.xml" \
  --add-opens=java.base/java.nio=ALL-UNNAMED --add-opens=java.base/sun.nio.ch=ALL-UNNAMED \
  -cp "$run/classes:$CP" compat.MqadminMain "$here" "$compat" "$run" "$form" "$page" "$only" 2>"$run/err" || code=$?
[ $code -ne 2 ] && [ $code -lt 128 ] || tail -20 "$run/err" >&2
if [ $code = 0 ] && [ -z "${COMPAT_KEEP:-}" ]; then stop_all; rm -rf "$run"; else echo "logs in ${run#"$top"/}" >&2; fi
exit $code
