# SPDX-License-Identifier: Apache-2.0
"""Takes a running process over, as an attacker would: from then on it does what we say. This is the real program with its real
descriptors, not a test build of it. Uses ptrace(2) and needs root; x86-64. Uses only Python's standard library.

    with Taken(pid) as process:
        process.call(SYS_openat, -100, process.store(b"/etc/passwd\\0"), 0)    # the result, or Killed
"""

import contextlib
import ctypes
import errno
import os
import signal
import socket
import struct
import time

import broker as testlib

libc = ctypes.CDLL(None, use_errno=True)
libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
libc.ptrace.restype = ctypes.c_long
GETREGS, SETREGS, SINGLESTEP, DETACH, SEIZE, INTERRUPT = 12, 13, 9, 17, 0x4206, 0x4207

READ, WRITE, MMAP, SENDTO, RECVFROM, SOCKET, CONNECT, EXECVE, OPENAT, PTRACE, PROCESS_VM_READV, FORK, SPLICE = (
    0, 1, 9, 44, 45, 41, 42, 59, 257, 101, 310, 57, 275)
SENDMSG, SHUTDOWN, SETSOCKOPT, FCNTL, PIDFD_GETFD = 46, 48, 54, 72, 438
DONT_WAIT_NO_SIGNAL = 0x4040

# Results of a system call that a signal has interrupted: EINTR, and those that only the kernel uses (linux/errno.h).
INTERRUPTED = (-4, -512, -513, -514, -516)


class Registers(ctypes.Structure):
    _fields_ = [(name, ctypes.c_uint64) for name in (
        "r15 r14 r13 r12 rbp rbx r11 r10 r9 r8 rax rcx rdx rsi rdi orig_rax rip cs eflags rsp ss fs_base gs_base"
        " ds es fs gs").split()]


class Killed(Exception):
    """The kernel ended the process for what it tried; the argument is the signal."""


class Taken:
    def __init__(self, pid):
        self.pid = pid

    def ptrace(self, request, data=None):
        if libc.ptrace(request, self.pid, None, data) < 0:
            raise OSError(ctypes.get_errno(), f"ptrace {request}")

    def wait(self):
        _, status = os.waitpid(self.pid, 0x40000000)  # __WALL
        if os.WIFSIGNALED(status):
            raise Killed(os.WTERMSIG(status))

    def __enter__(self):
        for _ in range(200):
            self.ptrace(SEIZE)
            self.ptrace(INTERRUPT)
            self.wait()
            self.saved, self.alive = self.registers(), True
            if self.in_system_call():
                break
            self.ptrace(DETACH)
            time.sleep(0.01)
        else:
            raise TimeoutError("it never waits in a system call")
        self.scratch = (self.saved.rsp - 65536) & ~15
        return self

    def in_system_call(self):
        """Whether the process waits in a system call; if it was stopped after one, the result of that call would be lost. The two
        bytes before the instruction pointer are the system call instruction."""
        with open(f"/proc/{self.pid}/mem", "rb") as memory:
            memory.seek(self.saved.rip - 2)
            made = memory.read(2) == b"\x0f\x05" and self.saved.orig_rax < 2**63
        return made and ctypes.c_int64(self.saved.rax).value in INTERRUPTED

    def registers(self):
        registers = Registers()
        self.ptrace(GETREGS, ctypes.addressof(registers))
        return registers

    def store(self, data, offset=0):
        """Puts bytes into the process' memory; returns their address."""
        with open(f"/proc/{self.pid}/mem", "r+b", buffering=0) as memory:
            memory.seek(self.scratch + offset)
            memory.write(data)
        return self.scratch + offset

    def load(self, size, offset=0):
        with open(f"/proc/{self.pid}/mem", "rb", buffering=0) as memory:
            memory.seek(self.scratch + offset)
            return memory.read(size)

    def call(self, number, *arguments):
        registers = Registers.from_buffer_copy(self.saved)
        registers.rip, registers.rax, registers.orig_rax = self.saved.rip - 2, number, 2**64 - 1
        registers.rsp = self.scratch - 65536
        for name, value in zip(("rdi", "rsi", "rdx", "r10", "r8", "r9"), arguments):
            setattr(registers, name, value % 2**64)
        self.ptrace(SETREGS, ctypes.addressof(registers))
        self.ptrace(SINGLESTEP)
        try:
            self.wait()
        except Killed:
            self.alive = False
            raise
        return ctypes.c_int64(self.registers().rax).value

    def send_descriptor(self, fd, sent):
        """Has the process send a byte with its descriptor `sent` (SCM_RIGHTS) over `fd`; returns the result of sendmsg(2)."""
        vector = self.store(struct.pack("QQ", self.store(b"x"), 1), 16)
        control = self.store(struct.pack("QiiiI", 20, socket.SOL_SOCKET, socket.SCM_RIGHTS, sent, 0), 32)
        message = self.store(struct.pack("QIIQQQQII", 0, 0, 0, vector, 1, control, 20, 0, 0), 64)
        return self.call(SENDMSG, fd, message, DONT_WAIT_NO_SIGNAL)

    def __exit__(self, *unused):
        if not self.alive:
            return
        # The process goes back into the system call in which it was taken over.
        self.saved.rip -= 2
        self.saved.rax, self.saved.orig_rax = self.saved.orig_rax, 2**64 - 1
        self.ptrace(SETREGS, ctypes.addressof(self.saved))
        self.ptrace(DETACH)


def copy_of(pid, fd):
    """A copy of the process' descriptor, by pidfd_getfd(2): we can do with it what the process could, without the cost of
    ptrace(2)."""
    pidfd = os.pidfd_open(pid)
    try:
        copy = libc.syscall(PIDFD_GETFD, pidfd, fd, 0)
        if copy < 0:
            raise OSError(ctypes.get_errno(), "pidfd_getfd")
        return copy
    finally:
        os.close(pidfd)


class Ring:
    """The memory in which a process of the broker reports (protocol/ring.h); we write to it as the process itself could."""

    SIZE = 32 * 1024
    BELL = 4  # broker/support/descriptors.h

    def __init__(self, pid):
        with open(f"/proc/{pid}/maps", encoding="utf-8") as maps:
            line = next(line for line in maps if "/memfd:tlsbroker-reports" in line)
        self.start = int(line.partition("-")[0], 16)
        self.memory = os.open(f"/proc/{pid}/mem", os.O_RDWR | os.O_CLOEXEC)
        self.bell = copy_of(pid, self.BELL)

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        os.close(self.memory)
        os.close(self.bell)

    def counters(self):
        """How many bytes were written, and how many read."""
        return struct.unpack("<II", os.pread(self.memory, 8, self.start))

    def room(self):
        written, read = self.counters()
        return self.SIZE - (written - read) % 2**32

    def send(self, message):
        """Writes a message; the process must not write at the same time. False if there is no room."""
        if self.room() < 4 + len(message):
            return False
        written = self.counters()[0]
        for byte in struct.pack("<I", len(message)) + message:
            os.pwrite(self.memory, bytes([byte]), self.start + 16 + written % self.SIZE)
            written = (written + 1) % 2**32
        os.pwrite(self.memory, struct.pack("<I", written), self.start)
        os.write(self.bell, struct.pack("<Q", 1))
        return True

    def fill(self, message):
        """Writes the message as often as there is room for it."""
        written = self.counters()[0]
        frame = struct.pack("<I", len(message)) + message
        frames = frame * (self.room() // len(frame))
        at = written % self.SIZE
        os.pwrite(self.memory, frames[:self.SIZE - at], self.start + 16 + at)
        os.pwrite(self.memory, frames[self.SIZE - at:], self.start + 16)
        os.pwrite(self.memory, struct.pack("<I", (written + len(frames)) % 2**32), self.start)
        os.write(self.bell, struct.pack("<Q", 1))


def copy_of_socket(pid, fd):
    copied = socket.socket(fileno=copy_of(pid, fd))
    copied.settimeout(20)
    return copied


def descriptors(pid, kind):
    """The numbers of the process' descriptors of one kind: "socket", "/dev/null", ... A descriptor that is closed meanwhile is
    left out."""
    return sorted(fd for fd, link in links(pid).items() if link.startswith(kind))


def copies(pid, kind):
    """(number, copy) of each of these descriptors that is still open when it is copied. Whoever gets a copy closes it."""
    for fd in descriptors(pid, kind):
        try:
            copy = copy_of(pid, fd)
        except OSError as error:
            if error.errno != errno.EBADF:
                raise
        else:
            yield fd, copy


def copied_sockets(pid):
    """The same for sockets, as objects that are closed afterwards."""
    for fd, copy in copies(pid, "socket"):
        try:
            copied = socket.socket(fileno=copy)
        except OSError:  # no socket any more: closed, and its number used again
            os.close(copy)
            continue
        with copied:
            copied.settimeout(20)
            yield fd, copied


def links(pid):
    """What each descriptor of the process is, by number, as /proc says it."""
    found = {}
    for name in sorted(os.listdir(f"/proc/{pid}/fd"), key=int):
        with contextlib.suppress(FileNotFoundError):  # closed since the list was made
            found[int(name)] = os.readlink(f"/proc/{pid}/fd/{name}")
    return found


def pipes_to(pid, other):
    """The process' ends of pipes whose other ends the other process has, or gets soon: one to write into, one to read from. The
    pipes of the log, which both have, do not count."""
    def find():
        theirs = {link for link in links(other).values() if link.startswith("pipe:")}
        ends = {}
        for fd, link in links(pid).items():
            if fd > 2 and link in theirs:
                with open(f"/proc/{pid}/fdinfo/{fd}", encoding="ascii") as file:
                    flags = int(dict(line.split(":", 1) for line in file)["flags"], 8)
                ends.setdefault(flags & os.O_ACCMODE, fd)
        return (ends[os.O_WRONLY], ends[os.O_RDONLY]) if len(ends) == 2 else None

    return testlib.wait_until(find, f"pipes between {pid} and {other}")


SIGSYS = signal.SIGSYS
