#!/bin/bash
# run.sh [N] [--seed S] [--only I] [--verbose]: N generated requests against Java's 4.9.3 servers and ours.
#
# Every request goes to both; code, remark class, field names and what else does not depend on time or place must be
# equal, or differs.txt lists the difference with its reason. Request I of seed S is always the same; `--only I` sends
# it alone, to freshly prepared servers. Every answer is also spoilt in each way that could go wrong and must then be
# found. Last line `N passed, M failed`. Exit 0 when M is 0, 1 when not, 2 when it could not run.
#
# Environment: ../compat/setup.sh tells.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
. "$here/../compat/setup.sh"
case ${1:-2000} in *[!0-9]*) sed -n '2,10p' "$0" >&2; exit 2 ;; esac
need_kit 4.9.3
need_hotfire
open_run differential
count=${1:-2000}; [ $# = 0 ] || shift
code=0
PYTHONDONTWRITEBYTECODE=1 python3 "$here/differential.py" "$count" --run "$run" "$@" || code=$?
close_run $code
[ ! -d "$run" ] || echo "logs in ${run#"$top"/}" >&2
exit $code
