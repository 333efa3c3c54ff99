#!/bin/bash
# run.sh: ours, the real Java broker, the floor and the echo server under the same load, in turns, and
# the table of docs/PERFORMANCE.md from it.
#   run.sh [ROUNDS] [SECONDS]      default 5 rounds of 4 s
# Environment: HOTFIRE (the release binary), COMPAT_KIT (Java, made by compat/java-peer/kit.sh; fetched when
# it is not set), BENCH_DIR (data, removed at the end), BENCH_DRY=1 prints the table and leaves the page alone.
# Needs jq. Read the ratios, not the figures: they are of one run on one machine.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd); top=$(cd "$here/../.." && pwd)
rounds=${1:-5}; seconds=${2:-4}
export HOTFIRE=${HOTFIRE:-$top/target/release/hotfire}
export COMPAT_KIT=${COMPAT_KIT:-$top/target/java-peer}
[ -x "$COMPAT_KIT/bin/rmq" ] || bash "$top/tests/compat/java-peer/kit.sh" "$COMPAT_KIT" 4.9.3
dir=${BENCH_DIR:-$(mktemp -d)}; mkdir -p "$dir"; dir=$(cd "$dir" && pwd)
servers="$top/tests/compat/servers.sh"
results="$dir/results.tsv"; : > "$results"
limits=()
end() {
  for pid in ${limits[@]+"${limits[@]}"}; do kill "$pid" 2>/dev/null || true; done
  for home in "$dir"/*/; do
    [ -e "$home/pid" ] && bash "$servers" stop "$home" >/dev/null 2>&1 || true
  done
  [ -n "${BENCH_DIR:-}" ] || rm -rf "$dir"
}
trap end EXIT

mapfile -t ports < <(bash "$servers" ports 5)
ns=${ports[0]} ours=${ports[1]} java=${ports[2]} floor=${ports[3]} echo=${ports[4]}

start_broker() { # KIND PORT FLUSH
  local home="$dir/$1-$3"
  rm -rf "$home"
  bash "$servers" conf "broker-$1" 0 "$2" "127.0.0.1:$ns" "$home" "flushDiskType=$3" \
    mappedFileSizeCommitLog=1073741824 maxHashSlotNum=5000000 maxIndexNum=20000000 >/dev/null
  XMX=1g bash "$servers" broker "$1" "$home/broker.conf" "$home" >&2
}
stop_broker() { bash "$servers" stop "$dir/$1-$2" >&2; rm -rf "${dir:?}/$1-$2/store"; }

start_limit() { # KIND PORT
  "$HOTFIRE" bench "$1" --listen "127.0.0.1:$2" --file "$dir/floor.data" > "$dir/$1.log" 2>&1 &
  limits+=($!)
  for _ in $(seq 100); do grep -q listening "$dir/$1.log" && return; sleep 0.05; done
  cat "$dir/$1.log" >&2; exit 1
}

load() { # KIND PORT CONNECTIONS IN_FLIGHT SECONDS PID
  local what=send
  [ "$1" = echo ] && what=echo
  "$HOTFIRE" bench "$what" -b "127.0.0.1:$2" -c "$3" -i "$4" -s 1024 --seconds "$5" --warmup 1 --pid "$6" --json
}

measure() { # FLUSH KIND:PORT:PID...
  local flush=$1 shape server kind port pid line; shift
  for shape in 64:1 8:8; do
    for server in "$@"; do # Java compiles what is hot; nobody is measured cold
      IFS=: read -r kind port pid <<< "$server"
      load "$kind" "$port" "${shape%:*}" "${shape#*:}" 6 "$pid" >/dev/null
    done
    for round in $(seq "$rounds"); do
      for server in "$@"; do
        IFS=: read -r kind port pid <<< "$server"
        line=$(load "$kind" "$port" "${shape%:*}" "${shape#*:}" "$seconds" "$pid")
        jq -r --arg k "$flush	${shape/:/x}	$kind" \
          '[$k, .messagesPerCpuSecond, .messagesPerSecond, .latencyMs.p50, .latencyMs.p99] | map(tostring) | join("\t")' \
          <<< "$line" >> "$results"
        tail -1 "$results" | sed "s/^/round $round	/" >&2
      done
    done
  done
}

median() { sort -g | awk '{ v[NR] = $1 } END { print v[int((NR + 1) / 2)] }'; }
value() { # FLUSH SHAPE KIND COLUMN
  awk -F'\t' -v f="$1" -v s="$2" -v k="$3" -v c="$4" '$1 == f && $2 == s && $3 == k { print $c }' "$results" | median
}

start_time() { # prints ms from exec to the first accepted connection: CONF PORT HOME
  local begun pid
  begun=$(date +%s%N)
  HOME="$3" "$HOTFIRE" broker -c "$1" > "$3/stdout.log" 2>&1 &
  pid=$!
  until (exec 3<>"/dev/tcp/127.0.0.1/$2") 2>/dev/null; do :; done
  echo $((($(date +%s%N) - begun) / 1000000)) "$pid"
}

starts() { # prints: ms on an empty store, ms after a clean stop, idle resident KB
  local home="$dir/start" empty="" clean="" memory="" ms pid conf
  for _ in $(seq "$rounds"); do
    rm -rf "$home"
    conf=$(bash "$servers" conf broker-start 0 "$ours" "127.0.0.1:$ns" "$home")
    read -r ms pid < <(start_time "$conf" "$ours" "$home"); empty="$empty$ms\n"
    sleep 2
    memory="$memory$(awk '/^VmRSS/ { print $2 }' "/proc/$pid/status")\n"
    kill "$pid"; while kill -0 "$pid" 2>/dev/null; do sleep 0.02; done
    read -r ms pid < <(start_time "$conf" "$ours" "$home"); clean="$clean$ms\n"
    kill "$pid"; while kill -0 "$pid" 2>/dev/null; do sleep 0.02; done
  done
  echo "$(printf "$empty" | median) $(printf "$clean" | median) $(printf "$memory" | median)"
}

table() {
  local flush shape kind base ours_per
  echo "Run of $(date -u +%Y-%m-%d), $(nproc) cores, medians of $rounds rounds of $seconds s in turns, 1 KB bodies, JSON headers, over loopback."
  echo
  echo "| flush | connections x in flight | server | messages per CPU second | ours is | messages/s | p50 ms | p99 ms |"
  echo "| --- | --- | --- | --- | --- | --- | --- | --- |"
  for flush in ASYNC_FLUSH SYNC_FLUSH; do
    for shape in 64x1 8x8; do
      ours_per=$(value $flush $shape hotfire 4)
      for kind in hotfire java floor echo; do
        base=$(value $flush $shape $kind 4)
        [ -n "$base" ] || continue
        printf '| %s | %s | %s | %s | %.2f x | %s | %s | %s |\n' $flush $shape "$kind" "$base" \
          "$(awk -v a="$ours_per" -v b="$base" 'BEGIN { print a / b }')" \
          "$(value $flush $shape $kind 5)" "$(value $flush $shape $kind 6)" "$(value $flush $shape $kind 7)"
      done
    done
  done
  echo
  read -r empty clean memory <<< "$started"
  echo "Exec to listening: $empty ms on an empty store, $clean ms after a clean stop. Idle resident memory: $((memory / 1024)) MB."
}

bash "$servers" namesrv hotfire "$ns" "$dir/namesrv" >&2
started=$(starts)
start_limit floor "$floor"; start_limit echo "$echo"
for flush in ASYNC_FLUSH SYNC_FLUSH; do
  start_broker hotfire "$ours" $flush; start_broker java "$java" $flush
  set -- "hotfire:$ours:$(cat "$dir/hotfire-$flush/pid")" "java:$java:$(cat "$dir/java-$flush/pid")"
  # The limit servers sync nothing, so they say nothing about SYNC_FLUSH.
  [ $flush = SYNC_FLUSH ] || set -- "$@" "floor:$floor:${limits[0]}" "echo:$echo:${limits[1]}"
  measure $flush "$@"
  stop_broker hotfire $flush; stop_broker java $flush
done

table > "$dir/table.md"
cat "$dir/table.md"
page="$top/docs/PERFORMANCE.md"
if [ -z "${BENCH_DRY:-}" ]; then
  awk -v table="$dir/table.md" '
    /<!-- bench:begin -->/ { print; while ((getline line < table) > 0) print line; skip = 1 }
    /<!-- bench:end -->/ { skip = 0 }
    !skip && !/<!-- bench:begin -->/ { print }' "$page" > "$dir/page.md"
  cat "$dir/page.md" > "$page"
fi
