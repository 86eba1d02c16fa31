#!/bin/bash
# What a broker has lost when it comes back from `kill -9`: queued messages, retained messages, wills.
#
#   docs/compare/kill.sh PORT COMMAND...
#
# COMMAND starts the broker in the foreground on PORT of 127.0.0.1, with a data directory that it finds again at the second start.
# Needs mosquitto_pub and mosquitto_sub, and target/release/willowmq-loadgen.
set -u +m
port=$1
shift
devices=50
retained=200
work=$(mktemp -d)
trap 'kill $(jobs -p) 2>/dev/null; rm -rf "$work"' EXIT

start() {
  "$@" 2>"$work/log" &
  broker=$!
  for _ in $(seq 100); do (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null && return; sleep 0.1; done
  echo "the broker does not listen on port $port" >&2
  exit 1
}

client() { local what=$1; shift; "mosquitto_$what" -h 127.0.0.1 -p "$port" "$@"; }

start "$@"
# A watcher of wills whose Session outlives the crash: it subscribes, and leaves.
client sub -i watcher -c -q 2 -t 'status/#' -E
# Devices with a will, connected when the broker dies.
for n in $(seq "$devices"); do
  (exec mosquitto_sub -h 127.0.0.1 -p "$port" -i "device-$n" -c -k 5 -q 1 -t "to/$n" \
    --will-topic "status/$n" --will-payload gone --will-qos 1) >/dev/null 2>&1 &
  crowd[n]=$!
done
for n in $(seq "$retained"); do client pub -q 1 -r -t "retained/$n" -m "$n" || echo "not acknowledged: $n" >&2; done
target/release/willowmq-loadgen offline --phase publish --state "$work/state.json" --messages 50000 --broker "127.0.0.1:$port" >"$work/publish" 2>&1

kill -9 "$broker"
kill -9 "${crowd[@]}" 2>/dev/null
wait 2>/dev/null # And says nothing of each of them.
while (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; do sleep 0.05; done # The kernel takes a moment to close a dead broker's port.
start "$@"

target/release/willowmq-loadgen offline --phase collect --state "$work/state.json" --broker "127.0.0.1:$port" >"$work/collect" 2>&1
acknowledged=$(sed -nE 's/^ *of these acknowledged +([0-9,]+)$/\1/p' "$work/publish" | tr -d ,)
rate=$(sed -nE 's/^ *messages acknowledged +([0-9,]+) \/s$/\1/p' "$work/publish")
delivered=$(sed -nE 's/^ *messages delivered on return +([0-9,]+)$/\1/p' "$work/collect" | tr -d ,)
absent=$(sed -nE 's/^ *sessions not present +([0-9,]+).*$/\1/p' "$work/collect" | tr -d ,)
found=$(client sub -q 1 -t 'retained/#' --retained-only -W 3 2>/dev/null | wc -l)
# Wills: longer than one and a half times the Keep Alive of 5 s.
wills=$(client sub -i watcher -c -q 2 -t 'status/#' -W 14 2>/dev/null | wc -l)
echo "acknowledged $acknowledged ($rate a second), of these delivered ${delivered:-0}; sessions lost ${absent:-?} of 100; retained messages lost $((retained - found)) of $retained; wills lost $((devices - wills)) of $devices"
kill "$broker"
wait "$broker" 2>/dev/null
