#!/usr/bin/env bash
# Tries the files of this folder: a broker of its own, a Prometheus that watches it, and a storm of wills that makes the alert WillStorm fire.
#
#   docs/monitoring/try.sh [FOLDER]     where willowmq and willowmq-loadgen are; target/release unless it is said
#
# Needs prometheus, promtool, curl and jq. All listens on loopback, on ports of its own (PORT and the two after it, 21883 unless it is said), and
# all that it starts and writes is gone at its end. CLIENTS is the size of the storm: 3000, which wants as many open files here as in the broker.
# Exits with 0 if the alert has fired and Prometheus understands each query of the dashboard.
set -euo pipefail
folder=$(realpath "${1:-target/release}")
cd "$(dirname "$0")"
clients=${CLIENTS:-3000}
mqtt=127.0.0.1:${PORT:=21883} http=127.0.0.1:$((PORT + 1)) prometheus=127.0.0.1:$((PORT + 2))

fail() { echo "try.sh: $*" >&2; exit 1; }
step() { printf -- '-- %s\n' "$*"; }
for program in prometheus promtool curl jq "$folder/willowmq" "$folder/willowmq-loadgen"; do
    command -v "$program" > /dev/null || fail "this needs $program"
done

scratch=$(mktemp -d)
started=()
finish() {
    status=$?
    trap - EXIT INT TERM
    for pid in "${started[@]}"; do
        kill -TERM "$pid" 2> /dev/null || continue
        # Whoever has not ended by then is ended.
        timeout 20 tail --pid="$pid" -f /dev/null || kill -KILL "$pid" 2> /dev/null || true
    done
    [ $status = 0 ] || tail -n 20 "$scratch"/*.log >&2
    rm -rf "$scratch"
    exit $status
}
trap finish EXIT
trap 'exit 130' INT TERM

# Waits until a command succeeds, for as many seconds as the first argument says.
until_done() {
    local end=$((SECONDS + $1))
    shift
    until "$@" > /dev/null 2>&1; do
        [ $SECONDS -lt $end ] || fail "in vain: $*"
        sleep 0.5
    done
}
ask() { curl -fsS --max-time 10 --get "http://$prometheus/api/v1/$1" "${@:2}"; }
has() { ask query --data-urlencode "query=$1" | jq -e '.data.result | length > 0'; }
fires() { ask alerts | jq -e '.data.alerts | any(.labels.alertname == "WillStorm" and .state == "firing")'; }

step "rules"
promtool check rules alerts.yml
promtool test rules alerts_test.yml

step "broker"
# An environment of its own: a setting there would become one of this broker.
env -i PATH="$PATH" WILLOWMQ_ADMIN_ADDRESS="$http" "$folder/willowmq" --listen "$mqtt" --data-dir "$scratch/data" > "$scratch/broker.log" 2>&1 &
started+=($!)
until_done 60 curl -fsS --max-time 2 "http://$http/health/ready"
curl -fsS "http://$http/metrics" | promtool check metrics

step "Prometheus"
# Every second, since nobody wants to wait; the queries look back no longer than some seconds, then.
sed -e 's/^\(  [a-z]*_interval:\) .*/\1 1s/' -e "s/127\.0\.0\.1:8080/$http/" prometheus.yml > "$scratch/prometheus.yml"
cp alerts.yml "$scratch"
promtool check config "$scratch/prometheus.yml"
prometheus --config.file="$scratch/prometheus.yml" --storage.tsdb.path="$scratch/tsdb" --web.listen-address="$prometheus" > "$scratch/prometheus.log" 2>&1 &
started+=($!)
until_done 60 has 'count_over_time(up{job="willowmq"}[10s]) >= 5 and up{job="willowmq"} == 1'

step "a storm of $clients"
"$folder/willowmq-loadgen" storm --broker "$mqtt" --clients "$clients" --background 200 --background-qos 1 --quiet --json "$scratch/storm.json" --patience 60s > "$scratch/storm.log" 2>&1 &
storm=$!
started+=("$storm")
until_done 300 fires
ask alerts | jq '.data.alerts[] | select(.labels.alertname == "WillStorm")'

step "the dashboard's queries"
jq -r '[.panels[], .panels[].panels[]?] | .[].targets[]?.expr' dashboard.json > "$scratch/queries"
empty=0
while IFS= read -r query; do
    query=${query//'$job'/willowmq} query=${query//'$instance'/.*} query=${query//'$__rate_interval'/30s}
    has "$query" > "$scratch/answer" 2>&1 && continue
    grep -qx false "$scratch/answer" || fail "Prometheus does not understand: $query"
    case $query in
        *'> 0') ;; # Shown only where there is something.
        *) printf 'no data: %s\n' "$query" ; empty=$((empty + 1)) ;;
    esac
done < "$scratch/queries"
echo "$(wc -l < "$scratch/queries") queries, $empty of them without data"

status=0
wait "$storm" || status=$?
[ $status -lt 2 ] || fail "the storm could not take place"
step "what Prometheus has of it"
for query in 'sum(willowmq_will_storms_total)' 'sum(willowmq_wills_published_total)' 'max(willowmq_will_lateness_max_seconds)' \
    'sum(max_over_time(rate(willowmq_messages_received_total[5s])[2m:1s]))' 'sum(max_over_time(rate(willowmq_wills_published_total[5s])[2m:1s]))'; do
    printf '%s = %s\n' "$query" "$(ask query --data-urlencode "query=$query" | jq -r '.data.result[0].value[1]')"
done
[ $empty = 0 ] || fail "queries of the dashboard have no data"
echo "the alert fires, and the dashboard has data"
