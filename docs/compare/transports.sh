#!/bin/bash
# What TLS, WebSocket and both cost WillowMQ and mosquitto beside plain TCP: CPU of the broker for each connection and for each
# message, as a table that is Markdown as well.
#
#   docs/compare/transports.sh [OPTIONS OF compare]     such as --rounds 1 --only connect, or --report transports.html
#
# Run it at the top of a checkout. It needs target/release (cargo build --release --workspace), mosquitto and openssl. The
# certificates (ECDSA, P-256) are made anew each time, and serve for a day and for localhost only.
set -eu
plan=$(dirname "$0")/transports.toml
certificates=target/transports
mkdir -p $certificates
cd $certificates
openssl ecparam -name prime256v1 -genkey -noout -out ca.key
openssl req -x509 -new -key ca.key -days 1 -subj "/CN=authority of a comparison" -out ca.pem
openssl ecparam -name prime256v1 -genkey -noout -out server.key
openssl req -new -key server.key -subj "/CN=localhost" -out server.csr
printf 'subjectAltName=DNS:localhost,IP:127.0.0.1\nbasicConstraints=CA:FALSE\nextendedKeyUsage=serverAuth\n' > server.ext
openssl x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 1 -extfile server.ext -out server.pem 2> openssl.log
cd - > /dev/null
exec target/release/willowmq-loadgen compare --cpu 1 --plan "$plan" --baseline "mosquitto, tcp" "$@"
