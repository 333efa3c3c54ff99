#!/bin/bash
# tests/fuzz/run.sh TARGET SECONDS [LIBFUZZER ARGS]: fuzzes one target, coverage-guided, on stable Rust.
#
# What cargo-fuzz would do with `-s none`: the package is built with coverage counters and linked to libFuzzer. Needs a C++
# compiler. The corpus grows in target/fuzz/corpus/TARGET, from tests/fuzz/seeds/TARGET and what was found before.
# Exit code 0: nothing was found. Otherwise the input is in target/fuzz/found/TARGET, and this repeats it:
#   tests/fuzz/run.sh TARGET 0 PATH
set -euo pipefail
cd "$(dirname "$0")/../.."
[ $# -ge 2 ] || { sed -n 2,8p "$0"; exit 2; }
target=$1 seconds=$2
shift 2
triple=$("${CARGO:-cargo}" -vV | sed -n 's/^host: //p')
flags=(-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters
  -Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares)
list=$(printf ",'%s'" "${flags[@]}")
# A target triple, so that build scripts and macros are built without counters.
"${CARGO:-cargo}" build -q --manifest-path tests/fuzz/Cargo.toml --profile fuzz --target "$triple" --target-dir target/fuzz \
  --config "target.'cfg(all())'.rustflags=[${list:1}]" --bin "$target"
mkdir -p "target/fuzz/corpus/$target" "target/fuzz/found/$target" "tests/fuzz/seeds/$target"
binary=target/fuzz/$triple/fuzz/$target
if [ "$seconds" = 0 ]; then exec "$binary" "$@"; fi
"$binary" -max_total_time="$seconds" -timeout=30 -rss_limit_mb=2048 -max_len=8192 -print_final_stats=1 -verbosity=0 \
  -artifact_prefix="target/fuzz/found/$target/" "$@" "target/fuzz/corpus/$target" "tests/fuzz/seeds/$target"
