"""Takes a running process over, as its attacker would: from the next moment on it does what we say. The real program
with its real descriptors, no test build of it. By ptrace(2) and root; x86-64. Standard library only.

    with Taken(pid) as process:
        process.call(SYS_openat, -100, process.store(b"/etc/passwd\\0"), 0)    # the result, or Killed
"""

import ctypes
import os
import signal
import socket
import time

libc = ctypes.CDLL(None, use_errno=True)
libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
libc.ptrace.restype = ctypes.c_long
GETREGS, SETREGS, SINGLESTEP, DETACH, SEIZE, INTERRUPT = 12, 13, 9, 17, 0x4206, 0x4207

READ, WRITE, SENDTO, RECVFROM, SOCKET, CONNECT, EXECVE, OPENAT, PTRACE, PROCESS_VM_READV, FORK, PIDFD_GETFD = (
    0, 1, 44, 45, 41, 42, 59, 257, 101, 310, 57, 438)

# The results of a call that a signal has ended: EINTR, and those that the kernel keeps to itself (linux/errno.h).
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
        """And waits there: what one that is over has found would be lost. The two bytes before are the instruction."""
        with open(f"/proc/{self.pid}/mem", "rb") as memory:
            memory.seek(self.saved.rip - 2)
            made = memory.read(2) == b"\x0f\x05" and self.saved.orig_rax < 2**63
        return made and ctypes.c_int64(self.saved.rax).value in INTERRUPTED

    def registers(self):
        registers = Registers()
        self.ptrace(GETREGS, ctypes.addressof(registers))
        return registers

    def store(self, data, offset=0):
        """Puts bytes into its memory; the address."""
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

    def __exit__(self, *unused):
        if not self.alive:
            return
        # Back into the system call that it was taken from.
        self.saved.rip -= 2
        self.saved.rax, self.saved.orig_rax = self.saved.orig_rax, 2**64 - 1
        self.ptrace(SETREGS, ctypes.addressof(self.saved))
        self.ptrace(DETACH)


def copy_of_socket(pid, fd):
    """Its socket for us, by pidfd_getfd(2): what it can do over it, without the cost of ptrace(2)."""
    pidfd = os.pidfd_open(pid)
    try:
        copy = libc.syscall(PIDFD_GETFD, pidfd, fd, 0)
        if copy < 0:
            raise OSError(ctypes.get_errno(), "pidfd_getfd")
        copied = socket.socket(fileno=copy)
        copied.settimeout(20)
        return copied
    finally:
        os.close(pidfd)


def descriptors(pid, kind):
    """Its descriptors that are of a kind: "socket", "/dev/null", ..."""
    found = []
    for name in os.listdir(f"/proc/{pid}/fd"):
        if os.readlink(f"/proc/{pid}/fd/{name}").startswith(kind):
            found.append(int(name))
    return sorted(found)


SIGSYS = signal.SIGSYS
