#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Builds tlsbroker and shows it at work: a throw-away certificate, the broker on 127.0.0.1:8443 and a
# confined worker that serves files with sendfile. Runs until Ctrl-C.
# Usage: sudo examples/quickstart.sh [--check] [--build DIR]
#   --check  make a request, print what it got, stop; the exit status is 0 only if all was right
set -eu
cd "$(dirname "$0")/.."

check='' build=build
while [ $# -gt 0 ]; do
  case $1 in
    --check) check=yes; shift ;;
    --build) build=${2:?a directory}; shift 2 ;;
    --help) sed -n '3,6s/^# //p' "$0"; exit 0 ;;
    *) echo "quickstart.sh: unknown argument '$1'; try --help" >&2; exit 2 ;;
  esac
done
if [ "$(id -u)" -ne 0 ]; then
  echo "quickstart.sh: run it with sudo: it installs packages and separates users" >&2
  exit 1
fi

missing=()
while read -r package; do
  dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
done <examples/packages
if [ ${#missing[@]} -gt 0 ]; then
  echo "installing ${missing[*]}"
  apt-get update -q >/dev/null
  DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "${missing[@]}" >/dev/null
fi

build=$(realpath -m "$build")
if [ ! -f "$build/build.ninja" ]; then
  echo "configuring $build"
  meson setup "$build" >/dev/null
fi
if [ ! -w "$build" ] || [ ! -x "$build/examples/file-worker" ] || [ -z "${TLSBROKER_GUEST-}" ]; then
  echo "building (a few minutes the first time)"
  ninja -C "$build" programs examples/file-worker | tail -n 1
fi

work=$(mktemp -d /tmp/tlsbroker-quickstart.XXXXXX)
chmod 755 "$work"
broker=''
finish() {
  if [ -n "$broker" ]; then
    kill -TERM "$broker" 2>/dev/null || true
    wait "$broker" 2>/dev/null || true
  fi
  rm -rf "$work"
}
trap finish EXIT
trap 'exit 130' INT TERM

mkdir "$work/www"
echo "Hello from a file." >"$work/www/hello.txt"
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=localhost \
  -addext 'subjectAltName=DNS:localhost,IP:127.0.0.1,IP:::1' \
  -keyout "$work/key.pem" -out "$work/certificate.pem" 2>/dev/null
chmod 600 "$work/key.pem"

# Copies the library and the worker to a place where the worker's user may read them, wherever the build is.
mkdir "$work/worker"
cp "$build/examples/file-worker" "$build"/client-lib/libtlsbroker.so.0 "$work/worker/"
chmod 755 "$work"/worker/*

broker_user=nobody
id -u tlsbroker >/dev/null 2>&1 && broker_user=tlsbroker
cat >"$work/tlsbroker.toml" <<EOF
[broker]
runtime_dir = "$work/run"
user = "$broker_user"

[certificate.localhost]
chain = "$work/certificate.pem"
key = "$work/key.pem"

[service.web]
listen = ["127.0.0.1:8443"]
certificates = ["localhost"]
alpn = ["http/1.1"]

[service.web.worker]
command = ["$work/worker/file-worker", "$work/www"]
user = "www-data"
read_only = ["$work/www", "$work/worker"]
EOF

"$build/broker/supervisor/tlsbrokerd" --config "$work/tlsbroker.toml" 2>"$work/log" &
broker=$!
for _ in $(seq 300); do
  grep -q 'ready generation' "$work/log" && break
  kill -0 "$broker" 2>/dev/null || break
  sleep 0.2
done
if ! grep -q 'ready generation' "$work/log"; then
  echo "the broker did not start:" >&2
  cat "$work/log" >&2
  broker=''
  exit 1
fi

field() { sed -n "s/^$2:[[:space:]]*//p" "/proc/$1/status"; }
row() { printf '%-13s %7s  %-10s %-17s %-8s %-13s %s\n' "$@"; }
describe() { # ROLE PID KEYS
  local uid
  uid=$(field "$2" Uid | cut -f1)
  row "$1" "$2" "$(id -un "$uid" 2>/dev/null || echo "$uid")" "$(field "$2" CapEff)" \
    "$(case $(field "$2" Seccomp) in 2) echo filter ;; *) echo no ;; esac)" \
    "$(case $(field "$2" NoNewPrivs) in 1) echo yes ;; *) echo no ;; esac)" "$3"
}
echo
row PROCESS PID USER CAPABILITIES SECCOMP NO_NEW_PRIVS "PRIVATE KEYS"
describe supervisor "$broker" "no (opens the files, never reads them)"
read -r -a children <"/proc/$broker/task/$broker/children" || true
for pid in "${children[@]}"; do
  case $(cat "/proc/$pid/comm") in
    tlsbroker-keyho*) describe keyholder "$pid" "yes, and nothing else" ;;
    tlsbroker-hands*) describe handshaker "$pid" "no (asks the keyholder)" ;;
    tlsbroker-logge*) describe logger "$pid" "no (reads what the others say)" ;;
    tlsbroker-porte*) describe porter "$pid" "no (answers 'tlsbroker status')" ;;
    *) describe worker "$pid" "no (gets a file descriptor)" ;;
  esac
done
echo

url=https://localhost:8443
if [ -z "$check" ]; then
  echo "Try:  curl --cacert $work/certificate.pem $url/"
  echo "      curl --cacert $work/certificate.pem $url/hello.txt"
  echo "Ctrl-C ends it. The log:"
  tail -f -n +1 "$work/log" --pid "$broker"
  exit 0
fi

fetch() { curl -sS --max-time 20 --cacert "$work/certificate.pem" "$url$1"; }
about=$(fetch /connection.json) || { cat "$work/log"; exit 1; }
value() { printf '%s' "$about" | sed -n "s/.*\"$1\": \"\([^\"]*\)\".*/\1/p"; }
printf 'mode     %s\nversion  %s\nsuite    %s\nreason   %s\n' \
  "$(value mode)" "$(value version)" "$(value cipher)" "$(value reason)"
ok=yes
[ "$(value version)" = TLSv1.3 ] || { echo "not TLS 1.3"; ok=''; }
text=$(fetch /hello.txt) || true
[ "$text" = "Hello from a file." ] || { echo "the file is not what it should be: $text"; ok=''; }
case $(value mode) in
  direct) [ -z "$(value reason)" ] || ok='' ;;
  relay) [ -n "$(value reason)" ] || ok='' ;;
  *) echo "no mode"; ok= ;;
esac
case ",${TLSBROKER_EXPECT-}," in
  *,ktls,*) [ "$(value mode)" = direct ] || { echo "this machine has kernel TLS, but it was not used"; ok=''; } ;;
esac
kill -TERM "$broker"
wait "$broker" || { echo "the broker ended with an error"; ok=''; }
broker=''
[ -n "$ok" ] || { cat "$work/log"; exit 1; }
echo "all right"
