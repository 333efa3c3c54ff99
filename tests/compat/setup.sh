# setup.sh: what every script begins with that runs real clients; sourced, under `set -euo pipefail`.
#   need_kit VERSION...         fetch these Java class paths by Maven, once
#   need_hotfire                build the release binary, unless HOTFIRE names one
#   open_run NAME               a new directory $run; servers that were started in it are killed when the script ends
#   compile VERSION SOURCE...   javac against that client into $run/classes; sets CP
#   client_java ARGS...         a client process in $run, with `-cp "$run/classes:$CP"` and the flags all of them need
#   count_checks FILE...        sets passed and failed from `ok` and `FAIL` lines
#   close_run FAILED            removes $run when nothing failed, unless COMPAT_KEEP is set
# Environment: HOTFIRE (a binary to test; otherwise `cargo build --release`), COMPAT_KIT (the Java class path;
# otherwise fetched into target/compat/kit), COMPAT_KEEP=1 (keep stores and logs of a good run), CARGO.
compat=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd); top=$(cd "$compat/../.." && pwd); work=$top/target/compat
mkdir -p "$work" "${COMPAT_KIT:=$work/kit}"
COMPAT_KIT=$(cd "$COMPAT_KIT" && pwd)
export COMPAT_KIT

need_kit() {
  local version
  for version in "$@"; do
    [ -e "$COMPAT_KIT/lib/$version/.done" ] || bash "$compat/java-peer/kit.sh" "$COMPAT_KIT" "$version" >"$work/kit.log" 2>&1 \
      || { tail -20 "$work/kit.log" >&2; exit 2; }
  done
}

need_hotfire() {
  if [ -z "${HOTFIRE:-}" ]; then
    (cd "$top" && ${CARGO:-cargo} build --release --bin hotfire) >&2 || exit 2
    HOTFIRE=$top/target/release/hotfire
  fi
  HOTFIRE=$(realpath "$HOTFIRE")
  export HOTFIRE
}

open_run() {
  run=$work/$1-$$
  rm -rf "$run"; mkdir -p "$run/classes"
  trap stop_all EXIT
}

stop_all() {
  local pid
  for pid in "$run"/*/pid "$run"/*/*/pid; do
    [ -e "$pid" ] && kill -9 "$(cat "$pid")" 2>/dev/null || true
  done
}

compile() {
  CP="$COMPAT_KIT/lib/$1/*"
  shift
  javac -nowarn -Xlint:-deprecation,-removal -cp "$CP" -d "$run/classes" "$@" 2>"$run/javac.log" \
    || { cat "$run/javac.log" >&2; exit 2; }
}

# consumerStatus writes a directory into the working directory.
client_java() (
  cd "$run"
  exec java -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -Duser.home="$run" -Drocketmq.client.logRoot="$run/client-logs" \
    --add-opens=java.base/java.nio=ALL-UNNAMED --add-opens=java.base/sun.nio.ch=ALL-UNNAMED \
    -cp "$run/classes:$CP" "$@"
)

count_checks() {
  passed=$(cat "$@" | grep -c '^ok ' || true); failed=$(cat "$@" | grep -c '^FAIL ' || true)
}

close_run() {
  [ "$1" = 0 ] && [ -z "${COMPAT_KEEP:-}" ] || return 0
  stop_all
  # A server's parent still notes how it ended.
  rm -rf "$run" 2>/dev/null || { sleep 1; rm -rf "$run"; }
}
