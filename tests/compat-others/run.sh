#!/bin/bash
# run.sh [--server hotfire|java] [--only PREFIX]: the clients of other languages against us: Go, Python over C++, Node.
#
# One line per check (`ok NAME: figures` or `FAIL NAME: expected .. got ..`), `note not run: ..` for what is not to be had
# here, last `N passed, M failed`. Exit 0 when all that ran passed, 1 when one failed, 2 when nothing could run.
# `--only PREFIX` runs the checks whose name starts so: `go`, `python`, `node`, `go-retry`. `--server java` asks the real
# Java 4.9.3 servers the same.
#
# Each client is fetched once, by go, pip and npm, into target/compat/others.
# Environment as for ../compat/setup.sh, and ROCKETMQ_CPP (another librocketmq.so for Python, with its C functions).
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
. "$here/../compat/setup.sh"
server=hotfire only=
while [ $# -gt 0 ]; do
  case $1 in
    --server) server=${2:?--server hotfire|java}; shift 2 ;;
    --only) only=${2:?--only PREFIX}; shift 2 ;;
    *) sed -n '2,11p' "$0" >&2; exit 2 ;;
  esac
done
case $server in
  java) need_kit 4.9.3 ;;
  hotfire) need_hotfire; mkdir -p "$COMPAT_KIT/bin"; cp "$compat/java-peer/rmq" "$COMPAT_KIT/bin/rmq" ;;
  *) echo "--server: expected hotfire or java, got $server" >&2; exit 2 ;;
esac
families=()
for family in go python node; do
  case $only in "$family"*) families+=("$family") ;; *) case $family in "$only"*) families+=("$family") ;; esac ;; esac
done
[ ${#families[@]} -gt 0 ] || { echo "--only $only: no check begins so" >&2; exit 2; }

others=$work/others
mkdir -p "$others"
have() { command -v "$1" >/dev/null 2>&1; }
lacks() { # FAMILY LOG: the last line of a fetch that failed is the reason
  echo "note not run: $1: $(grep -v '^ *$' "$2" | tail -1 | cut -c1-300)"
  return 1
}
# get_FAMILY answers 1, with the reason, when the client is not to be had here.
get_go() {
  have go || { echo "note not run: go: there is no go"; return 1; }
  (cd "$here/go" && go mod download) >"$others/go.log" 2>&1 || lacks go "$others/go.log" || return 1
  (cd "$here/go" && go build -o "$others/go-client" .) >&2 || exit 2
}
get_python() {
  python3 -m pip --version >/dev/null 2>&1 || { echo "note not run: python: there is no pip"; return 1; }
  [ -e "$others/python/rocketmq/client.py" ] \
    || python3 -m pip install -q --disable-pip-version-check --no-deps --target "$others/python" -r "$here/python/requirements.txt" >"$others/python.log" 2>&1 \
    || lacks python "$others/python.log" || return 1
  rm -rf "$run/python-path"; cp -r "$others/python" "$run/python-path"
  [ -z "${ROCKETMQ_CPP:-}" ] || cp "$ROCKETMQ_CPP" "$run/python-path/rocketmq/librocketmq.so"
  PYTHONPATH=$run/python-path python3 -c 'import rocketmq.client' >"$others/python.log" 2>&1 || lacks python "$others/python.log"
}
get_node() {
  have npm || { echo "note not run: node: there is no npm"; return 1; }
  mkdir -p "$others/node"
  cmp -s "$here/node/package-lock.json" "$others/node/package-lock.json" && return 0
  cp "$here/node/package.json" "$here/node/package-lock.json" "$others/node/"
  (cd "$others/node" && npm ci --ignore-scripts --no-audit --no-fund) >"$others/node.log" 2>&1 \
    || { rm "$others/node/package-lock.json"; lacks node "$others/node.log"; }
}
run_go() { CLIENT_LOG=$run/go.log "$others/go-client"; }
run_python() { mkdir -p "$run/home"; HOME=$run/home PYTHONPATH=$run/python-path PYTHONDONTWRITEBYTECODE=1 python3 "$here/python/checks.py"; }
run_node() { mkdir -p "$run/home"; HOME=$run/home NODE_PATH=$others/node/node_modules node "$here/node/checks.js"; }
topics() { # FAMILY: what its checks send to
  case $1 in
    go) echo GoSend:4 GoAsync:4 GoBatch:2 GoBig:2 GoOrdered:4 GoDelay:2 GoTwo:8 GoResumes:4 GoBroadcast:4 GoTags:4 GoSql:4 \
      GoRetry:2 GoDead:2 GoPull:4 GoPoll:4 GoTransaction:2 GoRequest:2 ;;
    python) echo PySend:4 PyAsync:4 PyBatch:2 PyBig:2 PyOrdered:4 PyDelay:2 PyTwo:8 PyResumes:4 PyBroadcast:4 PyTags:4 \
      PyRetry:2 PyPull:4 PyTransaction:2 ;;
    node) echo NodeSend:4 NodeBig:2 NodeOrdered:4 NodeDelay:2 NodeTwo:8 NodeResumes:4 NodeBroadcast:4 NodeTags:4 NodeSql:4 \
      NodeRetry:2 ;;
  esac
}

open_run others
ready=()
for family in "${families[@]}"; do
  if "get_$family"; then ready+=("$family"); fi
done
begun=$(date +%s)
if [ ${#ready[@]} -gt 0 ]; then
  read -r -d '' name_server broker < <(bash "$compat/servers.sh" ports 2; printf '\0')
  bash "$compat/servers.sh" namesrv "$server" "$name_server" "$run/ns" >&2
  # A refusal of the C++ and Node clients leaves the level to the broker: 3 for the first try, 4 for the second.
  # A client that is asked for its transactions may tell the broker that it lives 30 s after its start only.
  bash "$compat/servers.sh" conf broker-others 0 "$broker" "127.0.0.1:$name_server" "$run/broker" waitTimeMillsInSendQueue=10000 \
    transactionTimeOut=2000 transactionCheckInterval=1000 transactionCheckMax=100 "messageDelayLevel=1s 2s 1s 1s 1s" >&2
  bash "$compat/servers.sh" broker "$server" "$run/broker/broker.conf" "$run/broker" >&2
  for family in "${ready[@]}"; do
    python3 "$here/topics.py" "$broker" "$name_server" $(topics "$family") >&2 || exit 2
  done
fi
export NAMESRV=127.0.0.1:${name_server:-0} BROKER_PORT=${broker:-0} ONLY=$only
clients=()
for family in "${ready[@]}"; do
  ("run_$family" 2>"$run/$family.err" | grep --line-buffered -E '^(ok|FAIL|note) ' | tee "$run/$family.out") &
  clients+=($!)
done
for client in "${clients[@]}"; do wait "$client" || true; done
touch "$run/none.out"
count_checks "$run"/*.out
for family in "${ready[@]}"; do # a process that died must not look like a pass
  grep -q '^note done' "$run/$family.out" || { failed=$((failed + 1)); echo "FAIL $family: the client process ended early:"; tail -20 "$run/$family.err"; }
done
echo "note $server, $(($(date +%s) - begun)) s, logs in ${run#"$top"/}"
close_run "$failed"
echo "$passed passed, $failed failed"
[ $((passed + failed)) -gt 0 ] || exit 2
[ "$failed" = 0 ]
