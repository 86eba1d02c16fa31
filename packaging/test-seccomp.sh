#!/usr/bin/env bash
# Runs the broker under packaging/seccomp.json, as a container would, through what it does: TLS, a Unix socket, the journal, a password, a
# reload, the HTTP server, a clean stop. And sees it end with the right words where the profile has no io_uring.
#
#   packaging/test-seccomp.sh BINARY
#
# Needs python3, libseccomp, openssl and mosquitto's clients.
set -euo pipefail
profiles=$(cd "$(dirname "$0")" && pwd)
binary=$(realpath "$1")

scratch=$(mktemp -d)
broker=
fail() { echo "test-seccomp.sh: $*" >&2; exit 1; }
finish() {
    status=$?
    [ -z "$broker" ] || kill -KILL "$broker" 2> /dev/null || true
    [ $status = 0 ] || cat "$scratch/log" >&2
    rm -rf "$scratch"
}
trap finish EXIT
cd "$scratch"
touch log

openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -noenc -days 1 -subj /CN=localhost \
    -addext subjectAltName=DNS:localhost -keyout key.pem -out certificate.pem 2> /dev/null
echo secret | "$binary" passwd add --memory 8 --passes 1 --file passwords lamp
port=$((20000 + $$ % 10000))
cat > willowmq.toml <<TOML
[admin]
address = "127.0.0.1:$((port + 2))"

[[listeners]]
address = "127.0.0.1:$port"
authenticators = ["users"]

[[listeners]]
kind = "tls"
address = "127.0.0.1:$((port + 1))"
certificates = ["certificate.pem"]
keys = ["key.pem"]
anonymous = true

[[listeners]]
kind = "unix"
path = "socket"
owner = "$(id -un):$(id -gn)"
anonymous = true

[[authenticators]]
name = "users"
file = "passwords"
TOML

within() { python3 "$profiles/seccomp.py" "$@"; }
python3 "$profiles/seccomp.py" "$profiles/seccomp.json" "$binary" --config willowmq.toml > log 2>&1 &
broker=$!
await() { timeout 30 sh -c "until grep -q '$1' log; do kill -0 $broker || exit 1; sleep 0.1; done" || fail "the log does not say: $1"; }
await "listening for HTTP"
timeout 10 mosquitto_pub -p "$port" -u lamp -P secret -V 5 -q 1 -t a -m one -r
timeout 10 mosquitto_pub -h localhost -p "$((port + 1))" --cafile certificate.pem -V 5 -q 2 -t b -m two -r
[ "$(timeout 10 mosquitto_sub --unix socket -V 311 -q 1 -t '#' -C 2 | sort | xargs)" = "one two" ] || fail "messages are missing"
within "$profiles/seccomp.json" "$binary" ctl --url "http://127.0.0.1:$((port + 2))" health > /dev/null
kill -HUP "$broker"
await "reload"
kill -TERM "$broker"
status=0
wait "$broker" || status=$?
broker=
[ $status = 0 ] || fail "it ended with $status"

python3 - "$profiles/seccomp.json" > without.json <<'PYTHON'
import json, sys
profile = json.load(open(sys.argv[1], encoding="utf-8"))
for entry in profile["syscalls"]:
    entry["names"] = [name for name in entry["names"] if not name.startswith("io_uring")]
json.dump(profile, sys.stdout)
PYTHON
status=0
within without.json "$binary" --config willowmq.toml > log 2>&1 || status=$?
[ $status = 6 ] || fail "without io_uring it ended with $status instead of 6"
grep -q seccomp log || fail "it does not say what is in its way"
echo "the broker keeps to the seccomp profile"
