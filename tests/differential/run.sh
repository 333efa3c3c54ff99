#!/bin/bash
# run.sh [N] [--seed S] [--only I] [--verbose]: N generated requests against Java's 4.9.3 servers and ours.
#
# Every request goes to both; code, remark class, field names and what else does not depend on time or place must be
# equal, or differs.txt lists the difference with its reason. Request I of seed S is always the same; `--only I` sends
# it alone, to freshly prepared servers. Every answer is also spoilt in each way that could go wrong and must then be
# found. Last line `N passed, M failed`. Exit 0 when M is 0, 1 when not, 2 when it could not run.
#
# Environment: HOTFIRE (a binary to test; otherwise `cargo build --release`), COMPAT_KIT (the Java class path;
# otherwise fetched by Maven into target/compat/kit once), COMPAT_KEEP=1 (keep stores and logs of a good run).
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd); top=$(cd "$here/../.." && pwd); compat=$top/tests/compat
case ${1:-2000} in *[!0-9]*) sed -n '2,11p' "$0" >&2; exit 2 ;; esac
work=$top/target/compat
export COMPAT_KIT=${COMPAT_KIT:-$work/kit}
mkdir -p "$work"
[ -e "$COMPAT_KIT/lib/4.9.3/.done" ] || bash "$compat/java-peer/kit.sh" "$COMPAT_KIT" 4.9.3 >"$work/kit.log" 2>&1 \
  || { tail -20 "$work/kit.log" >&2; exit 2; }
if [ -z "${HOTFIRE:-}" ]; then
  (cd "$top" && ${CARGO:-cargo} build -q --release --bin hotfire) >&2 || exit 2
  HOTFIRE=$top/target/release/hotfire
fi
export HOTFIRE
run=$work/differential-$$
rm -rf "$run"; mkdir -p "$run"
count=${1:-2000}; [ $# = 0 ] || shift
code=0
PYTHONDONTWRITEBYTECODE=1 python3 "$here/differential.py" "$count" --run "$run" "$@" || code=$?
if [ $code = 0 ] && [ -z "${COMPAT_KEEP:-}" ]; then rm -rf "$run"; else echo "logs in ${run#"$top"/}" >&2; fi
exit $code
