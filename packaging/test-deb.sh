#!/usr/bin/env bash
# Installs the package, runs it as the unit would, upgrades, removes and purges it, and looks at what is there and what is left.
#
#   packaging/test-deb.sh [--profile dev]     builds two versions of the package from the binary that is there
#
# Needs root on a Debian machine without the package, and mosquitto's clients. Where systemd runs, it runs the service; elsewhere, as in a
# container, the unit's own ExecStart= is started as its User= and with its limits. The service listens on other ports here, so that a broker
# that is there already does not matter.
set -euo pipefail
cd "$(dirname "$0")/.."

profile=dev
[ "${1-}" = --profile ] && profile=$2
fail() { echo "test-deb.sh: $*" >&2; exit 1; }
step() { printf -- '-- %s\n' "$*"; }
expect() { [ "$2" = "$3" ] || fail "$1: expected \"$3\", found \"$2\""; }

[ "$(id -u)" = 0 ] || fail "this needs root"
command -v dpkg > /dev/null || fail "this needs a Debian machine"
command -v mosquitto_pub > /dev/null || fail "this needs mosquitto-clients"
[ -z "$(dpkg-query -W -f '${Status}' willowmq 2> /dev/null)" ] || fail "the package is installed here already; its data would be purged"
for path in /etc/willowmq /var/lib/willowmq /var/log/willowmq; do
    [ ! -e "$path" ] || fail "$path is there already; it would be purged"
done

scratch=$(mktemp -d)
chmod 755 "$scratch"
broker=
finish() {
    status=$?
    [ -z "$broker" ] || kill -KILL "$broker" 2> /dev/null || true
    dpkg --purge willowmq > "$scratch/purge.log" 2>&1 || true
    [ $status = 0 ] || tail -n 40 "$scratch"/*.log >&2
    rm -rf "$scratch"
}
trap finish EXIT

step "build two versions"
first=$(packaging/build-deb.sh --profile "$profile" --no-build --version 0.0.1-1 --output "$scratch/first" | tail -n 1)
second=$(packaging/build-deb.sh --profile "$profile" --no-build --version 0.0.2-1 --output "$scratch/second" | tail -n 1)

step "install"
DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$first" > "$scratch/install.log" 2>&1
expect "version" "$(dpkg-query -W -f '${Version}' willowmq)" 0.0.1-1
unit=/usr/lib/systemd/system/willowmq.service
[ -e $unit ] || unit=/lib/systemd/system/willowmq.service

step "files, owners and permissions"
of() { stat -c '%U:%G %a' "$1"; }
expect "program" "$(of /usr/bin/willowmq)" "root:root 755"
expect "configuration" "$(of /etc/willowmq/willowmq.toml)" "root:root 644"
expect "its folder" "$(of /etc/willowmq)" "root:willowmq 750"
expect "data" "$(of /var/lib/willowmq)" "willowmq:willowmq 750"
expect "log" "$(of /var/log/willowmq)" "willowmq:willowmq 750"
expect "conffiles" "$(dpkg-query -W -f '${Conffiles}' willowmq | awk '{print $1}' | xargs)" /etc/willowmq/willowmq.toml
expect "shell of the user" "$(getent passwd willowmq | cut -d: -f7)" /usr/sbin/nologin
# dpkg may be told to leave documentation out, as in slim images; then what is in the package has to do.
contents=$(dpkg-deb --contents "$first")
for file in usr/share/man/man1/willowmq.1.gz usr/share/man/man1/willowmq-ctl.1.gz usr/share/doc/willowmq/copyright usr/share/doc/willowmq/INSTALL.md \
    usr/share/bash-completion/completions/willowmq usr/share/zsh/vendor-completions/_willowmq usr/share/fish/vendor_completions.d/willowmq.fish; do
    grep -q "\./$file\$" <<< "$contents" || fail "$file is not in the package"
done
dpkg-deb --fsys-tarfile "$first" | tar -xO ./usr/share/man/man1/willowmq.1.gz | gzip -d | grep -q '^\.SH SYNOPSIS' || fail "the man page is none"
# shellcheck disable=SC1091 # It is what the package has just put there.
( . /usr/share/bash-completion/completions/willowmq && complete -p willowmq > /dev/null ) || fail "bash does not complete"
if command -v systemd-analyze > /dev/null; then
    systemd-analyze verify --man=no $unit
    systemd-analyze security --offline=true --threshold=25 $unit > "$scratch/security.log" || fail "the unit is more exposed than it should be"
fi
/usr/bin/willowmq --config /etc/willowmq/willowmq.toml check

# Prints a setting of the unit.
setting() { sed -n "s/^$1=//p" $unit | tail -n 1; }
port=$((20000 + $$ % 10000))
export WILLOWMQ_LISTENERS_0_ADDRESS=127.0.0.1:$port WILLOWMQ_ADMIN_ADDRESS=127.0.0.1:$((port + 1))

start() {
    limits=(--nofile="$(setting LimitNOFILE)" --memlock="$(($(setting LimitMEMLOCK | tr -d M) * 1024 * 1024))")
    # A hard limit above our own takes a capability that containers often have not; then it is left as it is.
    prlimit "${limits[@]}" true 2> /dev/null || limits=()
    user=$(setting User)
    # shellcheck disable=SC2046 # ExecStart= is several words.
    (cd "$(setting WorkingDirectory)" && exec prlimit ${limits[@]+"${limits[@]}"} setpriv --reuid "$user" --regid "$user" --clear-groups --no-new-privs --bounding-set -all \
        $(setting ExecStart)) > "$scratch/broker.log" 2>&1 &
    broker=$!
    timeout 30 sh -c "until grep -q 'listening for MQTT' '$scratch/broker.log'; do kill -0 $broker || exit 1; sleep 0.1; done" ||
        fail "the broker does not start"
}
stop() {
    kill -TERM "$broker"
    # More than shutdown_timeout; whoever is still there then is an error.
    status=0
    timeout "$(setting TimeoutStopSec)" tail --pid="$broker" -f /dev/null || fail "the broker does not stop"
    wait "$broker" || status=$?
    broker=
    expect "exit code" $status 0
}
if [ -d /run/systemd/system ]; then
    mkdir -p /run/systemd/system/willowmq.service.d
    printf '[Service]\nEnvironment=%s %s\n' "WILLOWMQ_LISTENERS_0_ADDRESS=$WILLOWMQ_LISTENERS_0_ADDRESS" "WILLOWMQ_ADMIN_ADDRESS=$WILLOWMQ_ADMIN_ADDRESS" \
        > /run/systemd/system/willowmq.service.d/test.conf
    systemctl daemon-reload
    start() { systemctl restart willowmq; }
    stop() { systemctl stop willowmq; }
fi

step "run"
start
timeout 10 mosquitto_pub -p "$port" -V 5 -q 1 -t greetings -m "it runs" -r
expect "retained message" "$(timeout 10 mosquitto_sub -p "$port" -V 5 -q 1 -t greetings -C 1)" "it runs"
/usr/bin/willowmq ctl --url "http://127.0.0.1:$((port + 1))" health
findings=$(setpriv --reuid willowmq --regid willowmq --clear-groups /usr/bin/willowmq doctor --config /etc/willowmq/willowmq.toml --json) || {
    echo "$findings" >&2
    fail "doctor finds something wrong"
}

step "upgrade"
echo "# Ours" >> /etc/willowmq/willowmq.toml
stop
DEBIAN_FRONTEND=noninteractive dpkg --install "$second" > "$scratch/upgrade.log" 2>&1
expect "version" "$(dpkg-query -W -f '${Version}' willowmq)" 0.0.2-1
expect "the configuration that was changed" "$(tail -n 1 /etc/willowmq/willowmq.toml)" "# Ours"
start
expect "retained message" "$(timeout 10 mosquitto_sub -p "$port" -V 5 -q 1 -t greetings -C 1)" "it runs"
stop

step "remove"
dpkg --remove willowmq > "$scratch/remove.log" 2>&1
[ ! -e /usr/bin/willowmq ] || fail "the program is still there"
[ -e /etc/willowmq/willowmq.toml ] || fail "a removal takes the configuration"
[ -n "$(ls -A /var/lib/willowmq)" ] || fail "a removal takes the data"

step "purge"
dpkg --purge willowmq > "$scratch/purge.log" 2>&1
for path in /etc/willowmq /var/lib/willowmq /var/log/willowmq $unit /usr/bin/willowmq; do
    [ ! -e "$path" ] || fail "$path is left"
done
! getent passwd willowmq > /dev/null || fail "the user is left"
! getent group willowmq > /dev/null || fail "the group is left"
# Pages that somebody has read are in man's own cache, which it looks after itself.
left=$(find /etc /usr /lib /var/lib /var/cache /var/log -xdev -name '*willowmq*' -not -path '/var/lib/dpkg/*' -not -path '/var/cache/man/*' -not -path '/usr/local/*' -not -path '/usr/src/*' 2> /dev/null) || true
expect "what is left" "$left" ""
echo "the package can be installed, run, upgraded, removed and purged"
