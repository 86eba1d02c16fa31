#!/bin/bash
# 12,000 clients with wills at a WillowMQ that wants passwords, while 200 addresses flood it: is any good client disturbed, is
# any will lost?
#
#   docs/compare/siege.sh TRANSPORT [OPTIONS OF siege]     TRANSPORT is tcp, tls, ws or wss; such as --report siege.html
#
# Run it at the top of a checkout. It needs target/release (cargo build --release --workspace) and openssl. The broker runs on the
# first CPU and the generator on the others.
set -eu
transport=${1:?which transport: tcp, tls, ws or wss}
shift
port=2896
cores=$(nproc)
directory=$(mktemp -d)
broker=
end() {
  if [ -n "$broker" ]; then kill "$broker" && wait "$broker" || true; fi
  rm -rf "$directory"
}
trap end EXIT

openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 1 -subj "/CN=localhost" \
  -addext "subjectAltName=DNS:localhost" -addext "basicConstraints=critical,CA:FALSE" \
  -keyout "$directory/key.pem" -out "$directory/certificate.pem" 2> "$directory/openssl.log"
password=$(openssl rand -hex 16)
echo "$password" > "$directory/password"
target/release/willowmq passwd add --file "$directory/users" good < "$directory/password"
case $transport in
  tls | wss)
    certificates="certificates = [\"$directory/certificate.pem\"]
keys = [\"$directory/key.pem\"]"
    trusted=(--ca "$directory/certificate.pem")
    ;;
  *)
    certificates=
    trusted=()
    ;;
esac
cat > "$directory/willowmq.toml" << END
durability = "memory"

[[listeners]]
kind = "$transport"
address = "127.0.0.1:$port"
$certificates

[[authenticators]]
name = "users"
kind = "password"
file = "$directory/users"
END

ulimit -n "$(ulimit -Hn)"
taskset -c 0 target/release/willowmq --shards 1 --config "$directory/willowmq.toml" --log-level warn &
broker=$!
for _ in $(seq 50); do (exec 3<>"/dev/tcp/127.0.0.1/$port") 2> /dev/null && break; sleep 0.1; done
generator=(target/release/willowmq-loadgen)
generator=(taskset -c "1-$((cores - 1))" "${generator[@]}")
"${generator[@]}" siege --broker 127.0.0.1:$port --transport "$transport" "${trusted[@]}" --username good \
  --password-file "$directory/password" --pid "$broker" --patience 30s "$@"
