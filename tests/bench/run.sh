#!/bin/bash
# run.sh: ours, the real Java broker and the limit servers under the same loads, in turns, and the tables of
# docs/PERFORMANCE.md from it.
#   run.sh [ROUNDS] [SECONDS]      default 5 rounds of 2 s, about twenty minutes; batch-32 alone writes 20 GB
# Uses all free memory once before the first round (warm_memory.py), for about 30 s.
# Environment: HOTFIRE (the release binary), COMPAT_KIT (Java, made by compat/java-peer/kit.sh; fetched when
# it is not set), BENCH_DIR (data, removed at the end), BENCH_ONLY (a list of loads, see `loads`),
# BENCH_DRY=1 prints the tables and leaves the page alone, BENCH_JUDGE=1 adds a line per bound and fails when one fails,
# BENCH_JSON=FILE keeps the lines of `hotfire bench --json`, each with its load and server.
# Needs jq. Read the ratios, not the figures: they are of one run on one machine.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd); top=$(cd "$here/../.." && pwd)
rounds=${1:-5}; seconds=${2:-2}
export HOTFIRE=${HOTFIRE:-$top/target/release/hotfire}
export COMPAT_KIT=${COMPAT_KIT:-$top/target/java-peer}
[ -x "$COMPAT_KIT/bin/rmq" ] || bash "$top/tests/compat/java-peer/kit.sh" "$COMPAT_KIT" 4.9.3
dir=${BENCH_DIR:-$(mktemp -d)}; mkdir -p "$dir"; dir=$(cd "$dir" && pwd)
servers="$top/tests/compat/servers.sh"
results="$dir/results.tsv"; : > "$results"
json=${BENCH_JSON:-$dir/results.json}; : > "$json"
limits=()
end() {
  for pid in ${limits[@]+"${limits[@]}"}; do kill "$pid" 2>/dev/null || true; done
  for home in "$dir"/*/; do
    [ -e "$home/pid" ] && bash "$servers" stop "$home" >/dev/null 2>&1 || true
  done
  [ -n "${BENCH_DIR:-}" ] || rm -rf "$dir"
}
trap end EXIT

mapfile -t ports < <(bash "$servers" ports 6) # slaves listen 4 above their masters
ns=${ports[0]} ours=${ports[1]} java=${ports[2]} floor=${ports[3]} echo=${ports[4]} copy=${ports[5]}


start_broker() { # KIND PORT FLUSH
  local home="$dir/$1-$3"
  rm -rf "$home"
  local mode=("flushDiskType=$3")
  case $3 in SYNC_MASTER) mode=(brokerRole=SYNC_MASTER flushDiskType=ASYNC_FLUSH) ;; CROWD) mode=(flushDiskType=ASYNC_FLUSH) ;; esac
  bash "$servers" conf "broker-$1" 0 "$2" "127.0.0.1:$ns" "$home" "${mode[@]}" \
    mappedFileSizeCommitLog=1073741824 maxHashSlotNum=5000000 maxIndexNum=20000000 >/dev/null
  XMX=1g bash "$servers" broker "$1" "$home/broker.conf" "$home" >&2
}
stop_broker() { bash "$servers" stop "$dir/$1-$2" >&2; rm -rf "${dir:?}/$1-$2/store"; }

start_limit() { # KIND PORT FILE
  "$HOTFIRE" bench "$1" --listen "127.0.0.1:$2" --file "$3" > "$dir/$1.log" 2>&1 &
  limits+=($!); limit=$!
  for _ in $(seq 100); do grep -q listening "$dir/$1.log" && return; sleep 0.05; done
  cat "$dir/$1.log" >&2; exit 1
}

# What `hotfire bench` is told for a load.
loads() {
  case $1 in
    64x1) echo send -c 64 -i 1 ;;
    8x8) echo send -c 8 -i 8 ;;
    8x64) echo send -c 8 -i 64 ;;
    batch-32) echo send -c 8 -i 8 --batch 32 ;;
    15000/s) echo send -c 8 -i 64 -r 15000 ;;
    pull-cold) echo pull -c 8 -i 1 -t BenchCold ;;
    pull-hot) echo pull -c 8 -i 1 -t BenchWarm ;;
    tail-1000/s) echo tail -c 1 -i 64 -r 1000 ;;
    tail-10000/s) echo tail -c 1 -i 64 -r 10000 ;;
  esac
}
wanted() { [ -z "${BENCH_ONLY:-}" ] || [[ " $BENCH_ONLY " == *" $1 "* ]]; }
any() { local load; for load in "$@"; do wanted "$load" && return; done; return 1; }

# Java refuses sends when it is behind: such requests count as failed, not as messages.
load() { # LOAD KIND PORT SECONDS WARMUP PID
  local what; read -ra what <<< "$(loads "$1")"
  [ "$2" = echo ] && what[0]=echo
  "$HOTFIRE" bench "${what[@]}" -b "127.0.0.1:$3" -s 1024 --seconds "$4" --warmup "$5" --pid "$6" --json || true
}

# Free memory of a virtual machine may be cold, and whoever writes there first pays for it: see warm_memory.py.
warm_memory() {
  local pid
  python3 "$here/warm_memory.py" > "$dir/memory.log" 2>&1 & pid=$!; limits+=("$pid")
  until grep -q warm "$dir/memory.log" || ! kill -0 "$pid" 2>/dev/null; do sleep 0.2; done
  cat "$dir/memory.log" >&2
  kill -0 "$pid" 2>/dev/null || echo "memory may be cold: rounds will differ by more than servers do" >&2
}

measure() { # FLUSH LOAD KIND:PORT:PID[,PID]...
  local flush=$1 load=$2 server kind port pid line round long; shift 2
  wanted "$load" || return 0
  # A tail is what happens seldom, such as a collection of garbage: at a fixed rate a round is five times as long.
  case $load in */s) long=$((seconds * 5)) ;; *) long=$seconds ;; esac
  for server in "$@"; do # Java compiles what is hot; nobody is measured cold
    IFS=: read -r kind port pid <<< "$server"
    load "$load" "$kind" "$port" 0.2 "$([ "$kind" = java ] && echo 8 || echo 0.5)" "$pid" >/dev/null
  done
  for round in $(seq "$rounds"); do
    for server in "$@"; do
      IFS=: read -r kind port pid <<< "$server"
      line=$(load "$load" "$kind" "$port" "$long" 0.5 "$pid")
      jq -c --arg f "$flush" --arg l "$load" --arg k "$kind" '. + {flush: $f, load: $l, server: $k}' <<< "$line" >> "$json"
      jq -r --arg k "$flush	$load	$kind" \
        '[$k, .messagesPerCpuSecond, .messagesPerSecond, .latencyMs.p50, .latencyMs.p99] | map(tostring) | join("\t")' \
        <<< "$line" >> "$results"
      tail -1 "$results" | sed "s/^/round $round	/" >&2
    done
  done
}

fill() { # PORT TOPIC MESSAGES: every record of these topics has the same size
  "$HOTFIRE" bench send -b "127.0.0.1:$1" -t "$2" -c 8 -i 8 -s 1024 --warmup 0 --count "$3" --json >/dev/null || true
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


sync_limit() { # prints how often a second the disk can sync writes of SIZE over bytes that exist
  local file="$dir/sync.data" begun count=300
  dd if=/dev/zero of="$file" bs=1M count=32 conv=fsync 2>/dev/null
  begun=$(date +%s%N)
  dd if=/dev/urandom of="$file" bs="$1" count=$count oflag=dsync conv=notrunc 2>/dev/null
  awk -v n=$count -v ns=$(($(date +%s%N) - begun)) 'BEGIN { printf "%.0f", n * 1e9 / ns }'
  rm -f "$file"
}

row() { # FLUSH LOAD
  local kind base ours_per
  ours_per=$(value "$1" "$2" hotfire 4)
  for kind in hotfire crowded java floor copy echo; do
    base=$(value "$1" "$2" $kind 4)
    [ -n "$base" ] || continue
    printf '| %s | %s | %s | %s | %.2f x | %s | %s | %s |\n' "$1" "$2" "$kind" "$base" \
      "$(ratio "$ours_per" "$base")" "$(value "$1" "$2" $kind 5)" "$(value "$1" "$2" $kind 6)" "$(value "$1" "$2" $kind 7)"
  done
}
ratio() { awk -v a="$1" -v b="$2" 'BEGIN { printf "%.6f", (b > 0 ? a / b : 0) }'; }

table() {
  local load
  echo "Run of $(date -u +%Y-%m-%d), $(nproc) cores, medians of $rounds rounds of $seconds s in turns, 1 KB bodies, JSON headers, over loopback."
  echo
  echo "| flush | load | server | messages per CPU second | ours is | messages/s | p50 ms | p99 ms |"
  echo "| --- | --- | --- | --- | --- | --- | --- | --- |"
  for load in 64x1 8x8 8x64 batch-32 15000/s pull-hot pull-cold tail-1000/s tail-10000/s; do row ASYNC_FLUSH $load; done
  for load in 64x1 8x8; do row SYNC_FLUSH $load; done
  for load in 8x8 8x64; do row SYNC_MASTER $load; done
  for load in 8x8 8x64; do row CROWD $load; done
  echo
  echo "The disk under it: $syncs_4k syncs/s of 4 KB and $syncs_80k of 80 KB over bytes that exist."
  read -r empty clean memory <<< "$started"
  echo "Exec to listening: $empty ms on an empty store, $clean ms after a clean stop. Idle resident memory: $((memory / 1024)) MB."
}

bound() { # TEXT VALUE LEAST: one line
  if awk -v v="$2" -v l="$3" 'BEGIN { exit !(v + 0 >= l + 0) }'; then echo "PASS $1: $2, at least $3"
  else echo "FAIL $1: $2, at least $3 was expected"; failed=$((failed + 1)); fi
}
# What ours is of another's, in a column: 4 messages per CPU second, 5 messages per second, 7 p99 (theirs by ours).
times() { # FLUSH LOAD KIND COLUMN
  local ours theirs; ours=$(value "$1" "$2" hotfire "$4"); theirs=$(value "$1" "$2" "$3" "$4")
  [ "$4" = 7 ] && { printf '%.2f' "$(ratio "$theirs" "$ours")"; return; }
  printf '%.2f' "$(ratio "$ours" "$theirs")"
}
judge() {
  local load refused
  refused=$(jq -s 'map(select(.server == "hotfire") | .failed) | add // 0' "$json")
  bound "ours refused $refused requests, so of none" "$((refused == 0))" 1
  for load in 8x8 8x64; do
    wanted $load || continue
    bound "send $load by the floor" "$(times ASYNC_FLUSH $load floor 4)" 0.70
    bound "send $load by Java" "$(times ASYNC_FLUSH $load java 4)" 7
  done
  if wanted 15000/s; then
    bound "send at 15000/s by Java" "$(times ASYNC_FLUSH 15000/s java 4)" 6
    bound "p99 at 15000/s, Java's by ours" "$(times ASYNC_FLUSH 15000/s java 7)" 10
  fi
  for load in pull-hot pull-cold; do
    wanted $load || continue
    bound "$load by Java" "$(times ASYNC_FLUSH $load java 4)" 2.5
    echo "AIM  $load by the copy server: $(times ASYNC_FLUSH $load copy 4), aim 0.60"
  done
  wanted 8x8 && bound "SYNC_FLUSH 8x8 messages/s by Java" "$(times SYNC_FLUSH 8x8 java 5)" 4
  # 64 in flight are 8 on each of 8 connections. With one on each of 64 the kernel's wake-ups are what is measured.
  wanted 64x1 && echo "AIM  SYNC_FLUSH 64x1 messages/s by Java: $(times SYNC_FLUSH 64x1 java 5), aim 4"
  if wanted ha; then
    for load in 8x8 8x64; do bound "SYNC_MASTER $load by Java's pair" "$(times SYNC_MASTER $load java 4)" 6; done
  fi
  if wanted crowd; then
    for load in 8x8 8x64; do bound "send $load with a crowd by without" "$(times CROWD $load crowded 4 | awk '{ print 1 / $1 }')" 0.90; done
  fi
  for load in tail-1000/s tail-10000/s; do
    wanted $load && echo "AIM  $load p99, Java's by ours: $(times ASYNC_FLUSH $load java 7), aim 10"
  done
  echo "$failed bounds failed"
}

pair() { # FLUSH: starts both brokers; sets `both`
  start_broker hotfire "$ours" "$1"; start_broker java "$java" "$1"
  both=("hotfire:$ours:$(cat "$dir/hotfire-$1/pid")" "java:$java:$(cat "$dir/java-$1/pid")")
}
start_pair() { # KIND PORT: a SYNC_MASTER and its slave, which waits until it is followed
  local slave="$dir/$1-SLAVE" port=$(($2 + 4))
  start_broker "$1" "$2" SYNC_MASTER
  rm -rf "$slave"
  bash "$servers" conf "broker-$1" 1 "$port" "127.0.0.1:$ns" "$slave" brokerRole=SLAVE flushDiskType=ASYNC_FLUSH \
    mappedFileSizeCommitLog=1073741824 maxHashSlotNum=5000000 maxIndexNum=20000000 >/dev/null
  XMX=1g bash "$servers" broker "$1" "$slave/broker.conf" "$slave" >&2
  for _ in $(seq 60); do # until a send is answered SEND_OK
    [ "$("$HOTFIRE" bench send -b "127.0.0.1:$2" -c 1 -i 1 -s 64 --warmup 0 --count 1 --json | jq .failed)" = 0 ] && return
    sleep 0.5
  done
  echo "the slave of $1 does not follow" >&2; exit 1
}
pids() { echo "$(cat "$dir/$1-SYNC_MASTER/pid"),$(cat "$dir/$1-SLAVE/pid")"; }
unpair() { stop_broker hotfire "$1"; stop_broker java "$1"; }

warm_memory
bash "$servers" namesrv hotfire "$ns" "$dir/namesrv" >&2
started=$(starts)
syncs_4k=$(sync_limit 4k) syncs_80k=$(sync_limit 80k)
A=ASYNC_FLUSH
if any 64x1 8x8 8x64 batch-32; then
  start_limit floor "$floor" "$dir/floor.data"; floor_pid=$limit
  start_limit echo "$echo" "$dir/echo.data"; echo_pid=$limit
  pair $A
  for shape in 64x1 8x8; do measure $A $shape "${both[@]}" "floor:$floor:$floor_pid" "echo:$echo:$echo_pid"; done
  unpair $A
  if wanted 8x64; then # with an empty store: the page cache should not be what is measured
    pair $A; measure $A 8x64 "${both[@]}" "floor:$floor:$floor_pid"; unpair $A
  fi
  if wanted batch-32; then # writes a gigabyte a second: on a full disk brokers refuse
    pair $A; measure $A batch-32 "${both[@]}"; unpair $A
  fi
  kill "$floor_pid" "$echo_pid"; rm -f "$dir/floor.data"
fi
if any 15000/s tail-1000/s tail-10000/s pull-hot pull-cold; then
  pair $A
  if any pull-hot pull-cold; then
    for port in "$ours" "$java"; do # what came last fills the tail cache
      fill "$port" BenchCold 200000; fill "$port" BenchFill 40000
    done
    start_limit copy "$copy" "$dir/hotfire-$A/store/commitlog/00000000000000000000"
    measure $A pull-cold "${both[@]}" "copy:$copy:$limit"
    for port in "$ours" "$java"; do fill "$port" BenchWarm 16000; done
    measure $A pull-hot "${both[@]}" "copy:$copy:$limit"
    kill "$limit"
  fi
  if wanted 15000/s; then # single requests: the floor says what the kernel takes for each
    start_limit floor "$floor" "$dir/floor.data"
    measure $A 15000/s "${both[@]}" "floor:$floor:$limit"
    kill "$limit"; rm -f "$dir/floor.data"
  fi
  for shape in tail-1000/s tail-10000/s; do measure $A $shape "${both[@]}"; done
  unpair $A
fi
if any 64x1 8x8; then # the limit servers sync nothing, so they say nothing here
  pair SYNC_FLUSH
  for shape in 64x1 8x8; do measure SYNC_FLUSH $shape "${both[@]}"; done
  unpair SYNC_FLUSH
fi

if any ha; then # a master and a slave, the CPU time of both counts
  start_pair hotfire "$ours"; start_pair java "$java"
  for shape in 8x8 8x64; do
    BENCH_ONLY=$shape measure SYNC_MASTER $shape "hotfire:$ours:$(pids hotfire)" "java:$java:$(pids java)"
  done
  for kind in hotfire java; do stop_broker $kind SYNC_MASTER; stop_broker $kind SLAVE; done
fi
if any crowd; then # the same broker with 1,000 groups, their SQL92 filters and 10,000 parked pulls beside one without
  start_broker hotfire "$ours" CROWD
  XMX=1g bash "$servers" conf broker-crowded 0 "$java" "127.0.0.1:$ns" "$dir/crowded" \
    flushDiskType=ASYNC_FLUSH mappedFileSizeCommitLog=1073741824 maxHashSlotNum=5000000 maxIndexNum=20000000 >/dev/null
  bash "$servers" broker hotfire "$dir/crowded/broker.conf" "$dir/crowded" >&2
  python3 "$here/crowd.py" "127.0.0.1:$java" > "$dir/crowd.log" 2>&1 & limits+=($!)
  until grep -q parked "$dir/crowd.log"; do sleep 0.2; kill -0 "${limits[-1]}" || { cat "$dir/crowd.log" >&2; exit 1; }; done
  cat "$dir/crowd.log" >&2
  for shape in 8x8 8x64; do
    BENCH_ONLY=$shape measure CROWD $shape "hotfire:$ours:$(cat "$dir/hotfire-CROWD/pid")" "crowded:$java:$(cat "$dir/crowded/pid")"
  done
  bash "$servers" stop "$dir/crowded" >&2; stop_broker hotfire CROWD
fi

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
failed=0
if [ -n "${BENCH_JUDGE:-}" ]; then echo; judge; fi
[ "$failed" = 0 ]
