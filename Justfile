# Every command a person or CI runs. A recipe is one or two lines that also work without `just`.

cargo := env("CARGO", "cargo")
# The simulator needs --cfg madsim for every crate, and a target directory of its own. `--config` adds to the flags.
madsim := "--target-dir target/sim --profile sim --config \"target.'cfg(all())'.rustflags=['--cfg','madsim']\""
sim_bin := "target/sim/sim/sim"

# What there is
default:
    @just --list --unsorted

# Unit, integration, golden and tidy tests
test *ARGS:
    {{cargo}} test --workspace {{ARGS}}

# The unit tests of one room
unit ROOM:
    {{cargo}} test --lib {{ROOM}}::

# Integration tests on real sockets and files whose name contains NAME
it NAME="":
    {{cargo}} test --test it {{NAME}}

# Sizes, layers, bans and links
tidy:
    {{cargo}} test --test tidy

fmt:
    {{cargo}} fmt --all

# Warnings are errors, in both builds
lint:
    {{cargo}} clippy --workspace --all-targets -- -D warnings
    {{cargo}} clippy -p hotfire-sim {{madsim}} -- -D warnings

# Types only, in both builds
check:
    {{cargo}} check --workspace --all-targets
    {{cargo}} check -p hotfire-sim {{madsim}}

[private]
sim-build:
    @{{cargo}} build -q -p hotfire-sim {{madsim}}

# One seed: just sim --seed N [--scenario S] [--trace]
sim *ARGS: sim-build
    @{{sim_bin}} run {{ARGS}}

# N seeds on all cores: just sweep N [--start A] [--scenario S] [--jobs J]
sweep N *ARGS: sim-build
    @{{sim_bin}} sweep {{N}} {{ARGS}}

# N seeds, two processes each, traces equal
meta N *ARGS: sim-build
    @{{sim_bin}} meta {{N}} {{ARGS}}

# The seeds of sim/seeds once more
corpus: sim-build
    @{{sim_bin}} corpus

# The smallest plan that still fails: just shrink --seed N
shrink *ARGS: sim-build
    @{{sim_bin}} shrink {{ARGS}}

# Every planted bug must be caught: just mutants [NAME...]
mutants *ARGS: sim-build
    @{{sim_bin}} mutants {{ARGS}}

# Real Java clients against us (needs a JDK and Maven): just compat [--server java] [--client VERSION] [--only PREFIX]
compat *ARGS:
    @tests/compat/run.sh {{ARGS}}

# Nightly, beside `just compat` with the client 4.9.3: the last client of 4.9 and the newest remoting client of 5.x
compat-clients *ARGS:
    @tests/compat/run.sh --client 4.9.8 {{ARGS}}
    @tests/compat/run.sh --client 5.5.0 {{ARGS}}

# Masters and slaves, each Hotfire's or Java's, in all four pairings (needs a JDK and Maven): just compat-ha [--only PREFIX]
compat-ha *ARGS:
    @tests/compat-ha/run.sh {{ARGS}}

# The clients of other languages, fetched by go, pip and npm: just compat-others [--server java] [--only go|python|node[-CHECK]]
compat-others *ARGS:
    @tests/compat-others/run.sh {{ARGS}}

# The real mqadmin, every command, against Java's servers and ours: just compat-mqadmin [--json] [--write] [--only COMMAND]
compat-mqadmin *ARGS:
    @tests/mqadmin/run.sh {{ARGS}}

# Generated requests to Java's servers and ours, answers compared (needs a JDK and Maven): just differential N [--seed S] [--only I]
differential N="2000" *ARGS:
    @tests/differential/run.sh {{N}} {{ARGS}}

# Store directories pass between the real Java broker and Hotfire (needs a JDK and Maven): just compat-store [--only PREFIX] [--full]
compat-store *ARGS:
    @tests/compat-store/run.sh {{ARGS}}

# A real broker killed under load
kill9 ROUNDS *ARGS:
    @python3 tests/kill9/kill9.py {{ROUNDS}} {{ARGS}}

# A master's machine and disk lost under 5,000 sends a second; what its slave has: just ha-loss [ROUNDS] [--seed N] [--rate N]
ha-loss ROUNDS="6" *ARGS:
    @python3 tests/ha-real/loss.py {{ROUNDS}} {{ARGS}}

# Links of slaves cut and delayed between network namespaces (needs root, `ip` and /dev/net/tun): just ha-net [--markdown] [--only links|masters]
ha-net *ARGS:
    @python3 tests/ha-real/net.py {{ARGS}}

# From a Java master to Hotfire under traffic, as docs/OPERATING.md says (needs a JDK and Maven): just rehearse-migration [--only PREFIX]
rehearse-migration *ARGS:
    @tests/migration/run.sh {{ARGS}}

# From exec to listening on a large directory, beside Java (COMPAT_KIT; needs twice the size): just start-times [GB [QUEUES [OFFSETS]]]
start-times *ARGS:
    {{cargo}} build -q --release
    @tests/start/run.sh {{ARGS}}

# Ours, Java, floor and echo in one run (needs a JDK and Maven): just bench [ROUNDS] [SECONDS]; writes docs/PERFORMANCE.md
bench *ARGS:
    {{cargo}} build -q --release
    @tests/bench/run.sh {{ARGS}}

# Sends with and without the deletion of 20 files of 64 MiB, in pairs (needs a release build): just retention [PAIRS]
retention PAIRS="5" *ARGS:
    {{cargo}} build -q --release
    @HOTFIRE=${HOTFIRE:-target/release/hotfire} python3 tests/retention/retention.py {{PAIRS}} {{ARGS}}

# What a power loss may leave of a recorded run, opened by us and by Java: just crash-images [--images N] [--java N]
crash-images *ARGS:
    @python3 tests/crash-images/crash_images.py {{ARGS}}

# The release broker under strace: no reply before its sync; a build without sync must fail
sync-order *ARGS:
    @python3 tests/sync-order/sync_order.py {{ARGS}}

# Coverage-guided, on stable Rust (needs a C++ compiler): just fuzz frame|header|message_unit|index|json|sql92|store_directory SECONDS
fuzz TARGET SECONDS *ARGS:
    @tests/fuzz/run.sh {{TARGET}} {{SECONDS}} {{ARGS}}

# rustdoc; broken links are errors
docs:
    RUSTDOCFLAGS="-D warnings" {{cargo}} doc --workspace --no-deps --document-private-items

# A new decision record: just new-adr a-short-title
new-adr TITLE:
    @n=$(ls docs/adr | grep -c '^[0-9]'); f=docs/adr/$(printf '%04d' $((n + 1)))-{{TITLE}}.md; printf '# {{TITLE}}\n\nDate: %s. Status: proposed.\n\n## Context\n\n## Decision\n\n## Alternatives\n\n## Consequences\n' "$(date +%F)" > "$f"; echo "$f"

run-namesrv *ARGS:
    {{cargo}} run --release -- namesrv {{ARGS}}

run-broker *ARGS:
    {{cargo}} run --release -- broker {{ARGS}}

# What CI runs
ci:
    .ci/run
