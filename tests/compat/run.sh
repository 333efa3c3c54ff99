#!/bin/bash
# run.sh [--server hotfire|java] [--client VERSION] [--only PREFIX]: the real Java clients, and the real Java broker, against us.
#
# One line per check (`ok NAME: figures` or `FAIL NAME: expected .. got ..`), last `N passed, M failed`.
# Exit 0 when all passed, 1 when one failed, 2 when it could not run. `--server java` runs the same checks
# against the real Java servers: the judge is judged first. `--client VERSION` is the version of client and mqadmin that
# the checks are compiled with and run on: 4.9.3 (default), 4.9.8 or 5.5.0; Java servers are 4.9.3 always.
# `--only PREFIX` runs the checks whose name starts so.
#
# Environment: setup.sh tells.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
. "$here/setup.sh"
server=hotfire client=4.9.3 only=
while [ $# -gt 0 ]; do
  case $1 in
    --server) server=${2:?--server hotfire|java}; shift 2 ;;
    --client) client=${2:?--client 4.9.3|4.9.8|5.5.0}; shift 2 ;;
    --only) only=${2:?--only PREFIX}; shift 2 ;;
    *) sed -n '2,10p' "$0" >&2; exit 2 ;;
  esac
done
case $server in hotfire|java) ;; *) echo "--server: expected hotfire or java, got $server" >&2; exit 2 ;; esac

case $client in
  4.9.*) api=4 ;;
  5.*) api=5 ;;
  *) echo "--client: expected 4.9.3, 4.9.8 or 5.5.0, got $client" >&2; exit 2 ;;
esac
need_kit 4.9.3 "$client"
if [ "$server" = hotfire ]; then need_hotfire; fi
open_run run
sources=$here/java
if [ "$api" = 5 ]; then # the same checks; 5.x has the classes of the wire in other packages
  sources=$run/java
  mkdir "$sources"
  for file in "$here"/java/*.java; do sed -f "$here/java-5/imports.sed" "$file" >"$sources/${file##*/}"; done
fi
compile "$client" "$sources"/*.java "$here/java-$api"/*.java

names=()
for name in json binary cluster store; do
  case $only in "$name"*) names+=("$name") ;; *) case $name in "$only"*) names+=("$name") ;; esac ;; esac
done
[ ${#names[@]} -gt 0 ] || { echo "--only $only: no check begins so" >&2; exit 2; }

suite() { # LOG SERIALIZE-TYPE SUITE: one client process
  case " ${names[*]} " in *" $1 "*) ;; *) return 0 ;; esac
  client_java -Xmx384m -Dlogback.configurationFile="$here/logback.xml" -Drocketmq.serialize.type="$2" \
    compat.Main "$3" "$server" "$here" "$run" "$only" 2>"$run/$1.err" \
    | grep --line-buffered -E '^(ok|FAIL|note) ' | tee "$run/$1.out" || true
}
begun=$(date +%s)
# Each suite has servers of its own. The last one stops a broker by `mqshutdown broker`, which takes all there are.
suite json JSON wire & json=$!
suite binary ROCKETMQ wire & binary=$!
suite cluster JSON cluster & cluster=$!
wait $json $binary $cluster
suite store JSON store

count_checks "$run"/*.out
for name in "${names[@]}"; do # a process that died must not look like a pass
  grep -q '^note done' "$run/$name.out" || { failed=$((failed + 1)); echo "FAIL $name: the client process ended early:"; tail -20 "$run/$name.err"; }
done
echo "note $server, client $client, $(($(date +%s) - begun)) s, logs in ${run#"$top"/}"
close_run "$failed"
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
