#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Searches the memory of processes for the private numbers of a key.

    key_search.py KEYFILE PID...      prints what was found where; the exit status is 0 if nothing was

As a library: Secrets(keyfile) and search(pid, secrets). Needs root and nothing but the standard
library and openssl(1).
"""

import argparse
import base64
import hashlib
import re
import subprocess
import sys

# `openssl pkey -text` calls by these names the numbers that nobody else may know.
PRIVATE = ("priv", "privateExponent", "prime1", "prime2", "exponent1", "exponent2", "coefficient")
# Memory may have only a part of a copy. 16 bytes do not occur by chance, and every longer part contains some of these pieces.
PIECE = 16
STEP = 4 << 20
# AddressSanitizer reserves a shadow of all memory, which is too large to be read through.
TOO_LARGE = 1 << 40


class Secrets:
    """{bytes to look for: what they are}, for all private numbers of a key file."""

    def __init__(self, path):
        self.numbers = private_numbers(path)
        self.patterns = {}
        for name, number in self.numbers.items():
            # OpenSSL computes with words of 64 bits, the least significant first: on these machines the number's bytes are in
            # reverse order.
            for order, data in (("big-endian", number), ("little-endian", number[::-1])):
                for offset in range(0, len(data) - PIECE + 1, PIECE):
                    self.patterns[data[offset:offset + PIECE]] = f"{name} {order} at {offset}"
        with open(path, encoding="ascii") as file:
            self._add_pem_lines(file.read())

    def _add_pem_lines(self, text):
        for number, line in enumerate(text.splitlines()):
            if len(line) != 64 or line.startswith("-"):
                continue
            raw = base64.b64decode(line)
            windows = [raw[offset:offset + 8] for offset in range(len(raw) - 7)]
            if any(window in secret for window in windows for secret in self.numbers.values()):
                self.patterns[line.encode()] = f"line {number + 1} of the file"


def private_numbers(path):
    text = subprocess.run(["openssl", "pkey", "-in", path, "-noout", "-text"], check=True,
                          capture_output=True, text=True, timeout=60).stdout
    numbers = {}
    for name, block in re.findall(r"^(\w+):[^\n]*\n((?:    +[0-9a-f:]+\n?)+)", text, re.M):
        if name in PRIVATE:
            numbers[name] = bytes.fromhex(re.sub(r"[^0-9a-f]", "", block)).lstrip(b"\0")
    if not numbers:
        raise ValueError(f"{path}: no private numbers")
    if "ED25519" in text:  # the seed is hashed before it is used (RFC 8032, 5.1.5)
        numbers["hashed priv"] = hashlib.sha512(numbers["priv"]).digest()
    return numbers


def mappings(pid):
    with open(f"/proc/{pid}/maps", encoding="utf-8") as file:
        for line in file:
            match = re.match(r"([0-9a-f]+)-([0-9a-f]+) \S+ \S+ \S+ \S+ *(.*)", line)
            yield int(match[1], 16), int(match[2], 16), match[3] or "anonymous"


def readable(pid):
    """Pieces of a process's memory: (address, name of the mapping, bytes). They overlap."""
    with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
        for start, end, name in mappings(pid):
            if name in ("[vvar]", "[vvar_vclock]", "[vsyscall]"):
                continue
            for address in range(start, end, STEP):
                try:
                    memory.seek(address)
                    yield address, name, memory.read(min(STEP + 64, end - address))
                except OSError:  # guard pages
                    continue


def sanitized(pid):
    return any(end - start > TOO_LARGE for start, end, _ in mappings(pid))


def search(pid, secrets):
    """Which of the secrets the process has in its memory, as a list with a line for each."""
    found = []
    for address, name, data in readable(pid):
        for pattern, what in secrets.patterns.items():
            if (offset := data.find(pattern)) >= 0:
                found.append(f"pid {pid}: {what} in {name} at {address + offset:#x}")
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("keyfile")
    parser.add_argument("pid", nargs="+", type=int)
    arguments = parser.parse_args()
    secrets = Secrets(arguments.keyfile)
    found = [line for pid in arguments.pid for line in search(pid, secrets)]
    print("\n".join(found) or "nothing found")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
