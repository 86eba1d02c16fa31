#!/usr/bin/env bash
# Builds the Debian package; the last line of standard output is its path.
#
#   packaging/build-deb.sh                          a release build
#   packaging/build-deb.sh --profile dev --no-build the binary that is there already, as tests want it
#   packaging/build-deb.sh --version 0.2.0-1        another version than Cargo.toml has
#
# What the binary knows best it makes itself: the sample configuration, the man pages and the completions. So none of them can be out of date.
set -euo pipefail
cd "$(dirname "$0")/.."

profile=release build=yes version= output=
while [ $# -gt 0 ]; do
    case $1 in
        --profile) profile=$2 && shift ;;
        --no-build) build=no ;;
        --version) version=$2 && shift ;;
        --output) output=$2 && shift ;;
        *) echo "build-deb.sh: $1 is unknown; see the head of this file" >&2 && exit 2 ;;
    esac
    shift
done
target=${CARGO_TARGET_DIR:-target}

# The folder of a profile is called like it, but for two that are older than profiles.
case $profile in
    dev | test) folder=debug ;;
    bench) folder=release ;;
    *) folder=$profile ;;
esac
if [ "$build" = yes ]; then
    cargo build --locked --profile "$profile" --bin willowmq >&2
fi
binary=$target/$folder/willowmq
[ -x "$binary" ] || { echo "build-deb.sh: there is no $binary; leave out --no-build" >&2; exit 1; }

# Kept beside what is built, so that it is installed once. Without optimisation it is there sooner, and does the same.
tools=$target/tools
export PATH=$PATH:$(realpath -m "$tools")/bin
if ! command -v cargo-deb > /dev/null; then
    CARGO_PROFILE_DEV_DEBUG=0 cargo install --locked --debug --root "$tools" --target-dir "$tools/target" cargo-deb@3.8.0 >&2
    rm -rf "$tools/target"
fi

stage=packaging/stage
rm -rf "$stage"
mkdir -p "$stage/man" "$stage/completions"
strip --strip-all -o "$stage/willowmq" "$binary"
# An environment of its own: a setting there would become one of the package.
willowmq() { env -i PATH="$PATH" "$binary" "$@"; }
willowmq config --sample --data-dir /var/lib/willowmq > "$stage/willowmq.toml"
willowmq --config "$stage/willowmq.toml" check >&2
willowmq man --dir "$stage/man" >&2
willowmq completions bash > "$stage/completions/willowmq.bash"
willowmq completions zsh > "$stage/completions/_willowmq"
willowmq completions fish > "$stage/completions/willowmq.fish"

# Debian wants a changelog of its own form; what has changed is in ours.
version=${version:-$("$binary" --version | cut -d ' ' -f 2)-1}
maintainer=$(sed -n 's/^maintainer = "\(.*\)"$/\1/p' Cargo.toml)
printf 'willowmq (%s) unstable; urgency=medium\n\n  * See CHANGELOG.md.\n\n -- %s  %s\n' "$version" "$maintainer" \
    "$(date -uR ${SOURCE_DATE_EPOCH:+-d "@$SOURCE_DATE_EPOCH"})" > "$stage/changelog"

output=${output:-$target/debian}
mkdir -p "$output"
fast=()
[ "$folder" = release ] || fast=(--fast)
# What is staged is built already, so cargo-deb has nothing to do with profiles.
cargo deb --package willowmq --no-build --locked --no-dbgsym --no-strip --output "$output/" --deb-version "$version" "${fast[@]}"
