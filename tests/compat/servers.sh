#!/bin/bash
# servers.sh: start and stop the servers under test, Hotfire's or the real Java ones, in the same words.
#   servers.sh ports N                    print N free base ports (port-2, port and port+1 are free)
#   servers.sh conf NAME ID PORT NS DIR [k=v]   write DIR/broker.conf
#   servers.sh namesrv KIND PORT DIR      start a name server; KIND = hotfire or java
#   servers.sh broker KIND CONF DIR       start a broker with any conf file
#   servers.sh stop DIR / kill DIR        SIGTERM and wait / kill -9
# DIR is the server's home: pid, stdout.log, exit (Hotfire's exit code once it has ended), conf, logs.
# Environment: COMPAT_KIT (made by java-peer/kit.sh), HOTFIRE (the binary).
set -euo pipefail
# A server must not keep what its caller has open, such as the lock of an flock; bash reads this file from 255.
for fd in /dev/fd/*; do
  fd=${fd##*/}
  [ "$fd" -le 2 ] || [ "$fd" = 255 ] || eval "exec $fd>&-"
done
rmq() { bash "$COMPAT_KIT/bin/rmq" "$@"; }
up() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }
key() { sed -n "s/^ *$2 *= *//p" "$1" | tail -1 | tr -d '\r'; }

# Several suites ask at a time, and listen later: what was given out within the hour is not given out again.
ports() {
  local found=0 port given=${TMPDIR:-/tmp}/hotfire-test-ports-$UID
  mkdir -p "$given"
  find "$given" -mindepth 1 -maxdepth 1 -mmin +60 -exec rmdir {} + 2>/dev/null || true
  while [ "$found" -lt "$1" ]; do
    port=$((12000 + (RANDOM % 1900) * 10 + 2))
    mkdir "$given/$port" 2>/dev/null || continue
    up $((port - 2)) || up "$port" || up $((port + 1)) || { echo "$port"; found=$((found + 1)); }
  done
}

hotfire() { # NAME PORT DIR ARGS...
  local name=$1 port=$2 dir=$3 begun
  shift 3
  mkdir -p "$dir"
  if up "$port"; then echo "port $port is already in use" >&2; exit 1; fi
  rm -f "$dir/pid" "$dir/exit"
  begun=$(date +%s%N)
  # A parent of its own stays behind, so that the exit code can be told later.
  HOME=$dir setsid nohup bash -c 'dir=$1; shift; "$@" >"$dir/stdout.log" 2>&1 & echo $! >"$dir/pid.new"
    mv "$dir/pid.new" "$dir/pid"; wait $!; echo $? >"$dir/exit"' _ "$dir" "$HOTFIRE" "$@" \
    >/dev/null 2>&1 </dev/null &
  for _ in $(seq 2000); do
    [ -e "$dir/exit" ] && { echo "$name ended with exit code $(cat "$dir/exit"):" >&2
      tail -20 "$dir/stdout.log" >&2; exit 1; }
    up "$port" && { echo "$name pid=$(cat "$dir/pid") port=$port ms=$((($(date +%s%N) - begun) / 1000000))"; return; }
    sleep 0.02
  done
  echo "$name: port $port not open after 60 s" >&2; exit 1
}

case ${1:-} in
  ports) ports "$2" ;;
  conf) shift; rmq conf "$@" ;;
  namesrv)
    case $2 in
      java) rmq namesrv "$3" "$4" ;;
      hotfire) mkdir -p "$4"; echo "listenPort=$3" > "$4/namesrv.conf"
        hotfire namesrv "$3" "$4" namesrv -c "$4/namesrv.conf" ;;
    esac ;;
  broker)
    case $2 in
      java) rmq broker "$3" "$4" ;;
      hotfire) port=$(key "$3" listenPort)
        hotfire "broker $(key "$3" brokerName)" "${port:-10911}" "$4" broker -c "$3" ;;
    esac ;;
  stop|kill)
    rmq "$@"
    for _ in $(seq 50); do [ -e "$2/exit" ] || [ ! -e "$2/pid" ] || sleep 0.02; done ;;
  *) sed -n '2,9p' "$0"; exit 2 ;;
esac
