#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Reads one HTTP/1.1 request on stdin and writes the answer on stdout; the broker looks after the connection's ends, its
# encryption and its failures. `set -e`: if a command fails the client sees that the answer is not whole.
set -eu

cr=$(printf '\r')
read -r method target version
length=0
while read -r line && [ "${line%"$cr"}" != "" ]; do
  case $line in
    [Cc]ontent-[Ll]ength:*) length=${line#*:} length=$(printf %s "$length" | tr -cd 0-9) ;;
  esac
done

answer() { # STATUS TYPE; the body is stdin
  body=$(cat; printf x)
  body=${body%x}
  printf 'HTTP/1.1 %s\r\nContent-Type: %s\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s' \
    "$1" "$2" "$(printf %s "$body" | wc -c)" "$body"
}

case "$method ${version%"$cr"}" in
  "GET HTTP/1."*) ;;
  "POST HTTP/1."*) ;;
  *) echo "GET and POST are served here" | answer "405 Method Not Allowed" text/plain; exit ;;
esac

case $target in
  /) printf 'Hello %s, by %s with %s.\n' "$REMOTE_ADDR" "$SSL_PROTOCOL" "$SSL_CIPHER" | answer "200 OK" text/plain ;;
  /sum) head -c "$length" | sha256sum | answer "200 OK" text/plain ;;
  /fail) printf 'HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf an answer'; false ;;
  *) echo "not here" | answer "404 Not Found" text/plain ;;
esac
