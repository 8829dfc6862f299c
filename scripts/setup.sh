#!/usr/bin/env bash
# Installs what the build and the tests need and this machine lacks, one line for each thing done. What cannot be
# installed ends the script with the command that would do it. Arguments: the programs wanted; without, all of them.
set -euo pipefail

export PATH="$PATH:/usr/sbin:/usr/local/sbin"

# program, Debian packages, why
needs='
cc           gcc libc6-dev   the linker, and the C parts of the ring crate
c++          g++             the fuzzer: libFuzzer is C++
redis-server redis-server    the store is tested against a real Redis
kamailio     kamailio kamailio-tls-modules   the whole chain is tested against a real registrar
nginx        nginx           gRPC is tested through proxies
haproxy      haproxy         gRPC is tested through proxies
prometheus   prometheus      alerts and dashboards are tested with promtool and a real Prometheus
'

say() { printf 'setup: %s\n' "$*"; }

if ! command -v cargo >/dev/null; then
    say "cargo is missing: install Rust by rustup (https://rustup.rs), then run this again" >&2
    exit 1
fi

# Debian has SIP over TLS of Kamailio in a package of its own.
has_parts() { [[ $1 != kamailio ]] || compgen -G '/usr/lib*/*/kamailio/modules/tls.so' >/dev/null || compgen -G '/usr/lib*/kamailio/modules/tls.so' >/dev/null; }

wanted=" ${*:-cc c++ redis-server kamailio nginx haproxy prometheus} "
packages=()
programs=()
while read -r program rest; do
    [[ -n $program && $wanted == *" $program "* ]] || continue
    command -v "$program" >/dev/null && has_parts "$program" && continue
    read -r -a words <<<"$rest"
    case $program in
    cc | kamailio) packages+=("${words[@]:0:2}") why="${words[*]:2}" ;;
    *) packages+=("${words[0]}") why="${words[*]:1}" ;;
    esac
    programs+=("$program")
    say "$program is missing: $why"
done <<<"$needs"

if ((${#packages[@]} == 0)); then exit 0; fi

fix="apt-get update && apt-get install --no-install-recommends ${packages[*]}"
if ! command -v apt-get >/dev/null; then
    say "no apt-get here: install ${programs[*]} by this system's own means (Debian calls the packages ${packages[*]})" >&2
    exit 1
fi
as_root=()
if ((EUID != 0)); then
    # Without a terminal, only a sudo that asks for no password is of use.
    if command -v sudo >/dev/null && { [[ -t 0 ]] || sudo -n true 2>/dev/null; }; then
        as_root=(sudo)
    else
        say "not root and no sudo: run as root: $fix" >&2
        exit 1
    fi
fi

log=$(mktemp)
policy=/usr/sbin/policy-rc.d
made_policy=
tidy() {
    rm -f "$log"
    if [[ -n $made_policy ]]; then "${as_root[@]}" rm -f "$policy"; fi
}
trap tidy EXIT

run() {
    if ! "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive "$@" >"$log" 2>&1; then
        tail -n 20 "$log" >&2
        say "'$*' failed; when that is solved, run as root: $fix" >&2
        exit 1
    fi
}

# Debian starts a service when its package is installed, unless this file forbids it. The tests start their own.
if [[ ! -e $policy ]]; then
    made_policy=yes
    printf '#!/bin/sh\nexit 101\n' | "${as_root[@]}" tee "$policy" >/dev/null
    "${as_root[@]}" chmod 755 "$policy"
fi
say "reading the package index (apt-get update)"
run apt-get update
say "installing ${packages[*]} (apt-get install; no service is started)"
run apt-get install --yes --no-install-recommends "${packages[@]}"
# Nor is one to start with the machine.
if [[ -d /run/systemd/system ]]; then
    for program in "${programs[@]}"; do
        [[ $program == cc ]] || run systemctl disable "$program.service"
    done
fi

for program in "${programs[@]}"; do
    if ! command -v "$program" >/dev/null; then
        say "$program is still not in the PATH after installing ${packages[*]}" >&2
        exit 1
    fi
done
say "ready: ${programs[*]}"
