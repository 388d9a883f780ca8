# SPDX-License-Identifier: Apache-2.0
"""What goes over the loopback interface: a packet trace of TCP over IPv4 (packet(7)), as tcpdump would make it. Needs root."""

import socket
import struct

ETH_P_IP, SOL_PACKET, PACKET_STATISTICS, SO_RCVBUFFORCE = 0x0800, 263, 6, 33
FIN, SYN, RST = 1, 2, 4


class Sender:
    """What one end of a connection has sent: the bytes of the stream, and the flags of all its segments."""

    def __init__(self):
        self.stream, self.flags, self._first = bytearray(), 0, None

    def add(self, sequence, flags, data):
        if flags & SYN:
            self._first = sequence + 1
        self.flags |= flags
        if data:
            start = (sequence - self._first) % 2**32
            self.stream += bytes(max(0, start + len(data) - len(self.stream)))
            self.stream[start:start + len(data)] = data


class Trace:
    """Takes all packets from its beginning on, as soon as they are delivered."""

    def __enter__(self):
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK, socket.htons(ETH_P_IP))
        self._socket.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 2**28)
        self._socket.bind(("lo", ETH_P_IP))
        return self

    def __exit__(self, *unused):
        self._socket.close()

    def senders(self):
        """{(port that sends, port that receives): Sender}"""
        senders = {}
        while True:
            try:
                packet = self._socket.recv(2**17)
            except BlockingIOError:
                break
            if packet[9] != socket.IPPROTO_TCP:
                continue
            size, = struct.unpack_from("!H", packet, 2)
            segment = packet[(packet[0] & 15) * 4:size or len(packet)]
            source, target, sequence, _, offset, flags = struct.unpack_from("!HHIIBB", segment)
            senders.setdefault((source, target), Sender()).add(sequence, flags, segment[(offset >> 4) * 4:])
        _, lost = struct.unpack("II", self._socket.getsockopt(SOL_PACKET, PACKET_STATISTICS, 8))
        if lost:
            raise AssertionError(f"the trace has lost {lost} packets")
        return senders
