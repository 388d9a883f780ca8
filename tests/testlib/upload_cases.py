# SPDX-License-Identifier: Apache-2.0
"""Uploads by clients that write, end and close without reading, and the programs that count what reaches them."""

import re
import zlib

import broker as testlib
import wire
from exec_service import ExecService

SIZES = (100, 20_000, 101_701, 4_000_000)
KINDS = ("exec", "daemon", "library")
TICKETS = (0, 1)
TAG = 16  # of AES-GCM and of ChaCha20-Poly1305; a record of TLS 1.3 has its type before it
CLOSE_NOTIFY = 2  # bytes of an alert
DATA = bytes(i % 251 for i in range(max(SIZES)))

# All of them say "upload HOW SIZE ADLER-32 from PEER". HOW is "end", or "cut" if the data had no authenticated end: `exec` sends
# SIGTERM then. Perl starts faster than Python, which matters in a guest.
EXEC = r"""
use Compress::Raw::Zlib;
my ($how, $size, $adler) = ("end", 0, adler32(""));
$SIG{TERM} = sub { $how = "cut" };
while (sysread(STDIN, my $piece, 65536)) {
    $size += length $piece;
    $adler = adler32($piece, $adler);
}
print STDERR "upload $how $size $adler from $ENV{TCPREMOTEIP}:$ENV{TCPREMOTEPORT}\n";
"""
# It reads slowly: what it has not read waits in the broker's relay, in the kernel, and with the client.
DAEMON = """
import socket, sys, threading, time, zlib
def serve(connection, peer):
    size, adler, how = 0, 1, "end"
    try:
        while piece := connection.recv(65536):
            size, adler = size + len(piece), zlib.adler32(piece, adler)
            time.sleep(0.004)
    except OSError:
        how = "cut"
    connection.close()
    sys.stderr.write(f"upload {how} {size} {adler} from {peer[0]}:{peer[1]}\\n")
with socket.create_server(("127.0.0.1", 8080), backlog=64) as listener:
    while True:
        threading.Thread(target=serve, args=listener.accept()).start()
"""
PROGRAMS = {
    "exec": ["/usr/bin/perl", "-e", EXEC],
    "daemon": ["/usr/bin/python3", "-S", "-u", "-c", DAEMON],
    "library": [testlib.program("tests/interop/library-worker"), "count"],
}
UPLOAD = r'worker\.{service}\[\d+\]: (?:exec: stderr conn=\w+ text=")?upload (\w+) (\d+) (\d+) from ([\d.]+:\d+)'


def data_on_the_wire(stream):
    """How many bytes of data are in whole records that a TLS 1.3 client has sent, and whether close_notify is behind them."""
    sizes = [size - 1 - TAG for kind, size in wire.records(stream)[0] if kind == wire.APPLICATION_DATA]
    ended = sizes[-1] == CLOSE_NOTIFY
    return sum(sizes[1:]) - (CLOSE_NOTIFY if ended else 0), ended  # the first is Finished


def service_name(kind, tickets):
    return f"{kind}-{tickets}"


class Upload:
    """What a program says of one."""

    def __init__(self, match):
        how, size, adler, self.peer = match.groups()
        self.ended, self.size = how == "end", int(size)
        # What came is what was sent, or its beginning.
        self.right = self.size <= len(DATA) and zlib.adler32(DATA[:self.size]) == int(adler)

    def whole(self, size):
        return self.ended and self.right and self.size == size


class UploadService(ExecService):
    """A service for each kind of program and number of tickets."""

    def __init__(self, ktls, kinds=KINDS):
        pairs = {service_name(kind, tickets): (kind, tickets) for kind in kinds for tickets in TICKETS}
        super().__init__({name: PROGRAMS[kind] for name, (kind, _) in pairs.items()},
                         service_lines={name: f"tickets = {tickets}" for name, (_, tickets) in pairs.items()}, ktls=ktls,
                         commands=[name for name in pairs if name.startswith("library")],
                         daemons=[name for name in pairs if name.startswith("daemon")])

    def uploads(self, service, start, count, timeout=60):
        """What the programs say of `count` uploads. There are fewer if `exec` has ended a program that had hardly started."""
        uploads = re.compile(UPLOAD.format(service=service))
        last = re.compile(rf"worker\.{service}\[\d+\]: exec: ended conn=") if service.startswith("exec") else uploads

        def found(pattern):
            return [match for line in self.log[start:] if (match := pattern.search(line))]

        testlib.wait_until(lambda: len(found(last)) >= count, f"{count} uploads", timeout)
        return [Upload(match) for match in found(uploads)]
