#!/bin/bash
# run.sh [GIGABYTES [QUEUES [OFFSETS]]]: how long Hotfire and the real Java broker take from exec to listening on the same
# directory: after a clean stop, after kill -9, and (ours) after kill -9 with hotfire/ deleted. Needs twice the size on disk.
# HOTFIRE: the release binary. COMPAT_KIT: made by tests/compat/java-peer/kit.sh; without it Java is left out.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
hotfire=${HOTFIRE:-$here/../../target/release/hotfire}
size=${1:-10} queues=${2:-10000} offsets=${3:-50000} port=${PORT:-15911}
work=$(mktemp -d "${TMPDIR:-/tmp}/hotfire-start.XXXXXX")
trap 'rm -rf "$work"' EXIT
mkdir "$work/ours"
python3 "$here/generate.py" "$work/ours/store" "$size" "$queues" "$offsets"
conf() { # DIR
  cat > "$1/broker.conf" <<C
brokerName=broker-a
listenPort=$port
namesrvAddr=127.0.0.1:1
brokerIP1=127.0.0.1
storePathRootDir=$1/store
storePathCommitLog=$1/store/commitlog
fileReservedTime=720
diskMaxUsedSpaceRatio=95
C
}
conf "$work/ours"
ours() { python3 "$here/measure.py" "$1" "$port" "$2" "$work/ours" "$hotfire" broker -c "$work/ours/broker.conf"; }
echo "| start | ms to listening | RssAnon MB | RssFile MB | open files | mapped files | s to end |"
echo "| --- | --- | --- | --- | --- | --- | --- |"
ours "Hotfire, no derived file at all" stop
if [ -n "${COMPAT_KIT:-}" ]; then
  # Full files are never written again: the copy may share them.
  mkdir -p "$work/java/store/commitlog" "$work/java/conf" "$work/java/logs"
  for name in consumequeue config checkpoint index; do
    [ ! -e "$work/ours/store/$name" ] || cp -a --sparse=always "$work/ours/store/$name" "$work/java/store/"
  done
  last=$(ls "$work/ours/store/commitlog" | tail -1)
  for file in "$work"/ours/store/commitlog/*; do
    if [ "$(basename "$file")" = "$last" ]; then cp -a "$file" "$work/java/store/commitlog/"
    else ln "$file" "$work/java/store/commitlog/"; fi
  done
fi
ours "Hotfire, after a clean stop" stop
ours "Hotfire, after a clean stop, again" kill
ours "Hotfire, after kill -9" kill
rm -rf "$work/ours/store/hotfire"
ours "Hotfire, after kill -9, hotfire/ deleted" stop
[ -n "${COMPAT_KIT:-}" ] || exit 0
conf "$work/java"
echo '<configuration><root level="OFF"/></configuration>' > "$work/java/conf/logback_broker.xml"
opens="--add-opens=java.base/java.nio=ALL-UNNAMED --add-opens=java.base/sun.nio.ch=ALL-UNNAMED \
  --add-opens=java.base/jdk.internal.ref=ALL-UNNAMED --add-exports=java.base/sun.security.x509=ALL-UNNAMED \
  --add-exports=java.base/sun.security.util=ALL-UNNAMED"
java() { python3 "$here/measure.py" "$1" "$port" "$2" "$work/java" java $opens -Xms256m -Xmx1g \
  -XX:MaxDirectMemorySize=1g -Duser.home="$work/java" -cp "$COMPAT_KIT/lib/4.9.3/*" \
  org.apache.rocketmq.broker.BrokerStartup -c "$work/java/broker.conf"; }
java "Java 4.9.3, after a clean stop" kill
java "Java 4.9.3, after kill -9" kill
rm -rf "$work/java/store/checkpoint" "$work/java/store/index"
java "Java 4.9.3, after kill -9, checkpoint and index deleted" stop
