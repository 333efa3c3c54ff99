#!/bin/bash
# run.sh [--json] [--write] [--only COMMAND]: the real mqadmin of 4.9.3 against the Java broker and against Hotfire.
#
# Every command line of cases.txt runs against both, in one JVM, and what comes of it is compared: outcome, column
# heads, field names, rows without the values that differ from run to run. differences.txt names what may differ,
# with the reason; an entry that nothing needs any more is an error too. Prints one table (or one JSON line) and
# last `N same, M differ as listed, K differ`. Exit 0 when K is 0, 1 when not, 2 when it could not run.
# `--write` writes docs/MQADMIN.md. `--only COMMAND` runs the lines of one command.
#
# Environment: ../compat/setup.sh tells.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
. "$here/../compat/setup.sh"
form=text page='' only=''
while [ $# -gt 0 ]; do
  case $1 in
    --json) form=json; shift ;;
    --write) page=$top/docs/MQADMIN.md; shift ;;
    --only) only=${2:?--only COMMAND}; shift 2 ;;
    *) sed -n '2,10p' "$0" >&2; exit 2 ;;
  esac
done
[ -z "$only" ] || [ -z "$page" ] || { echo "--write needs all commands, not --only" >&2; exit 2; }

need_kit 4.9.3
need_hotfire
open_run mqadmin
mkdir -p "$run/conf"
cp "$here/logback.xml" "$run/conf/logback_tools.xml"
compile 4.9.3 "$here"/java/*.java "$compat"/java/{Report,Servers,Session}.java "$compat"/java-4/Heartbeats.java
code=0
client_java -Xmx384m -Djava.security.manager=allow -Drocketmq.home.dir="$run" -Dlogback.configurationFile="$here/logback.xml" \
  compat.MqadminMain "$here" "$compat" "$run" "$form" "$page" "$only" 2>"$run/err" || code=$?
[ $code -ne 2 ] && [ $code -lt 128 ] || tail -20 "$run/err" >&2
close_run $code
[ ! -d "$run" ] || echo "logs in ${run#"$top"/}" >&2
exit $code
