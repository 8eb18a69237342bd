#!/usr/bin/env bash
# ClickHouse's Debian packages, unpacked into a folder: nothing is installed, no service is started, no root needed.
set -euo pipefail
target=$1
apt-cache show clickhouse-server >/dev/null 2>&1 || apt-get update -q
mkdir -p "$target.debs"
cd "$target.debs"
# Those of its libraries that this system has not, too.
for package in $(apt-cache depends --recurse --no-recommends --no-suggests --no-conflicts --no-breaks --no-replaces \
    --no-enhances clickhouse-server | grep '^\w' | sort -u); do
    dpkg -s "$package" >/dev/null 2>&1 || echo "$package"
done | xargs apt-get download -q
for package in *.deb; do
    dpkg -x "$package" "$target.new"
done
chmod -R a+rX "$target.new"
mv "$target.new" "$target"
rm -r "$target.debs"
