#!/bin/bash
# Latency of ordinary traffic (5,000 messages a second, QoS 1) beside clients that publish to absent Sessions and come back for it.
#
#   docs/compare/checkpoint.sh FLOOR
#
# FLOOR is journal.checkpoint_floor_bytes: 100GiB for no checkpoint at all, 1MiB for one after the other. Needs target/release.
set -u
port=2884
data=$(mktemp -d)
WILLOWMQ_JOURNAL_CHECKPOINT_FLOOR_BYTES=$1 taskset -c 0 target/release/willowmq --shards 1 --listen 127.0.0.1:$port --data-dir "$data" --log-level warn &
broker=$!
for _ in $(seq 50); do (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null && break; sleep 0.1; done
(for _ in $(seq 40); do
  timeout 20 taskset -c 1 target/release/willowmq-loadgen offline --messages 40000 --window 10 --broker 127.0.0.1:$port >/dev/null 2>&1
done) &
churn=$!
sleep 1
timeout 60 target/release/willowmq-loadgen publish --qos 1 --rate 5000 --publishers 50 --duration 8s --broker 127.0.0.1:$port
kill $churn
wait $churn 2>/dev/null
du -sh "$data"
kill $broker
wait $broker
rm -rf "$data"
