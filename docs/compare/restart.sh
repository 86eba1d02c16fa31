#!/bin/bash
# A drain and restart under load: nobody's will tells of it, and nothing is lost.
#
#   docs/compare/restart.sh [CLIENTS [OVER]]
#
# Runs the broker with CLIENTS (5000) connected, drains it over OVER (10s), starts it again when it has ended, lets the load go on until every
# false will would have come, and says whether the scenario passes. Needs target/release/willowmq and target/release/willowmq-loadgen.
set -u +m
clients=${1:-5000}
over=${2:-10s}
port=2885
api=127.0.0.1:8085
work=$(mktemp -d)
trap 'kill $(jobs -p) 2>/dev/null; wait 2>/dev/null; rm -rf "$work"' EXIT
ulimit -n "$(ulimit -Hn)"

start() {
  WILLOWMQ_ADMIN_ADDRESS=$api target/release/willowmq --listen 127.0.0.1:$port --data-dir "$work/data" 2>>"$work/log" &
  broker=$!
  for _ in $(seq 100); do (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null && return; sleep 0.1; done
  echo "the broker does not listen on port $port" >&2
  exit 1
}

start
# With a Keep Alive of 20 s the grace of a restart is 30 s; the load goes on for longer, so that a false will would be heard.
target/release/willowmq-loadgen --broker 127.0.0.1:$port --keep-alive 20s restart --clients "$clients" --drain "http://$api" --over "$over" --after 40s &
load=$!
wait "$broker"
ended=$?
echo "the broker has ended with exit code $ended" >&2
start
wait "$load"
verdict=$?
grep -E "drain|stopp" "$work/log" >&2
exit $((verdict || ended))
