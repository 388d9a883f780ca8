# SPDX-License-Identifier: Apache-2.0
"""What [service.NAME.worker] can say about a program beside which one it is."""

import glob
import os
import re
import resource
import shutil
import signal
import subprocess
import tempfile
import unittest

import broker as testlib
from exec_service import ExecService

SHOW_ARGUMENTS = ["/usr/bin/printf", "<%s>"]


def runner_of(service, name):
    """The worker of an `exec` service."""
    for pid in service.processes()["worker"]:
        with open(f"/proc/{pid}/environ", "rb") as file:
            if f"LISTEN_FDNAMES=tlsbroker.{name}:".encode() in file.read():
                return pid
    raise AssertionError(f"no worker of {name}")


class Arguments(unittest.TestCase):
    def test_empty_ones_and_times_in_days(self):
        lines = 'connections = { idle_timeout = "7d", lifetime = "60d" }'
        with ExecService({"show": [*SHOW_ARGUMENTS, "", "--save", ""]}, lines=lines) as service:
            self.assertEqual(service.talk("show"), b"<><--save><>")
            with open(f"/proc/{runner_of(service, 'show')}/cmdline", "rb") as file:
                words = file.read().split(b"\0")
            self.assertIn(b"--idle-timeout=604800s", words)
            self.assertIn(b"--lifetime=5184000s", words)


def kinds(program):
    """The same program as each kind of worker. The output of all but `exec` is the log."""
    return {"programs": {kind: ["/usr/bin/python3", "-c", program] for kind in ("exec", "command", "daemon")},
            "commands": ("command",), "daemons": ("daemon",)}


# A worker that is no `exec` program would be started again if it ended.
STAYS = """
import sys, time
if "exec" not in sys.argv: time.sleep(1000)"""
SAYS_ENVIRONMENT = """import os
print(*(f"<{name}={os.environ.get(name)}>" for name in ("LANG", "EMPTY", "SECRET", "PATH", "LD_X", "HOME")), flush=True)
print(sorted(name for name in os.environ if name.startswith("TLSBROKER_")), flush=True)""" + STAYS
OPENS_OUTPUT = """import os
def attempt(what, *arguments):
    try: what(*arguments); print("done", flush=True)
    except OSError as error: print(error.strerror, flush=True)
for path in "/dev/stdout", "/dev/stderr":
    with open(path, "w") as file: file.write(f"written to {path}" + chr(10))
attempt(os.open, "/dev/stdout", os.O_RDONLY)
attempt(os.open, "/dev/stdout", os.O_RDWR)
attempt(os.fchmod, 1, 0o666)
print("end", flush=True)""" + STAYS


# What AddressSanitizer says of vfork(2).
OF_A_SANITIZER = re.compile(r"==\d+==WARNING: ASan is ignoring|False positive error reports|For details see https://github")


@unittest.skipUnless(os.geteuid() == 0, "needs root")
class Surroundings(unittest.TestCase):
    def said(self, service, kind, count):
        """The first lines of the program's output."""
        if kind == "exec":
            return service.talk(kind).decode().splitlines()[:count]
        service.wait_for_log(rf"worker.{kind}\[\d+\]: end")
        lines = [line.split("]: ", 1)[1] for line in service.log_text().splitlines()
                 if line.startswith(f"worker.{kind}[") and ": run: " not in line]
        return [line for line in lines if not OF_A_SANITIZER.match(line)][:count]

    def test_environment(self):
        """Each kind of program gets it, and no command line shows it."""
        wanted = {"LANG": "C.UTF-8", "EMPTY": "", "SECRET": "s3cr3t 1", "PATH": "/usr/bin", "LD_X": "y", "HOME": "None"}
        values = ", ".join(f'"{name}" = "{value}"' for name, value in wanted.items())
        lines = f"environment = {{ {values.replace('None', '/h')} }}"
        wanted["HOME"] = "/h"
        options = kinds(SAYS_ENVIRONMENT.replace("import os", "import os, atexit").replace(
            STAYS, '\nprint("end", flush=True)' + STAYS))
        options["programs"]["exec"].append("exec")
        with ExecService(options.pop("programs"), lines=lines, **options) as service:
            for kind in ("exec", "command", "daemon"):
                with self.subTest(kind):
                    values, ours = self.said(service, kind, 2)
                    self.assertEqual(values, " ".join(f"<{name}={value}>" for name, value in wanted.items()))
                    self.assertEqual(ours, "['TLSBROKER_CONNECTION', 'TLSBROKER_SERVICE']" if kind == "exec" else "[]")
            for pid in service.processes()["worker"]:
                with open(f"/proc/{pid}/cmdline", "rb") as file:
                    self.assertNotIn(b"s3cr3t", file.read())

    def test_output_can_be_opened_for_writing_only(self):
        """The broker's end of a worker's output is root's, and stays so."""
        options = kinds(OPENS_OUTPUT)
        options["programs"].pop("exec")
        with ExecService(options.pop("programs"), **options) as service:
            for kind in ("command", "daemon"):
                with self.subTest(kind):
                    self.assertEqual(self.said(service, kind, 6), [
                        "written to /dev/stdout", "written to /dev/stderr", "Permission denied", "Permission denied",
                        "Operation not permitted", "end"])

    def test_output_of_the_dispatcher_cannot_be_opened(self):
        """The program's own lines have its connection in front; there is no way around that."""
        command = ["/bin/sh", "-c", "read pid; echo forged >/proc/$pid/fd/2 && echo done; echo end"]
        with ExecService({"forge": command}) as service:
            self.assertEqual(service.talk("forge", f"{runner_of(service, 'forge')}\n".encode()), b"end\n")
            service.wait_for_log("exec: .*Permission denied|Permission denied")
            self.assertNotRegex(service.log_text(), "forged")

    def test_output_of_exec_can_be_opened(self):
        command = ["/bin/sh", "-c", "echo to-the-client >/dev/stdout; echo to-the-log >/dev/stderr"]
        with ExecService({"open": command}) as service:
            self.assertEqual(service.talk("open"), b"to-the-client\n")
            service.wait_for_log("exec: stderr .*to-the-log|to-the-log")

    def test_directory(self):
        options = kinds('import os\nprint(os.getcwd(), flush=True)\nprint("end", flush=True)' + STAYS)
        options["programs"]["exec"].append("exec")
        with ExecService(options.pop("programs"), lines='directory = "/usr/lib"', **options) as service:
            for kind in ("exec", "command", "daemon"):
                self.assertEqual(self.said(service, kind, 1), ["/usr/lib"], kind)

    def test_directory_that_cannot_be_entered(self):
        """The worker's rights count, not root's."""
        with ExecService({"echo": ["/bin/cat"]}, lines='read_only = ["{home}"]\ndirectory = "{home}/closed"') as service:
            service.wait_for_log("the worker cannot be started: working directory .*/closed: No such file or directory")
            checked = subprocess.run([testlib.program("broker/supervisor/tlsbrokerd"), "--config", service.config_file, "--check"],
                                     capture_output=True, text=True, check=False)
            self.assertRegex(checked.stderr, r':\d+:\d+: ".*/closed" cannot be found: .*; a directory that exists is needed')
            os.mkdir(os.path.join(service.home, "closed"), 0o700)
            start = len(service.log)
            service.wait_for_log("the worker cannot be started: working directory .*/closed: Permission denied", start=start)
            os.chmod(os.path.join(service.home, "closed"), 0o711)
            self.assertEqual(service.talk("echo", b"hello"), b"hello")

    def test_core_dumps(self):
        limit = ["/bin/sh", "-c", "ulimit -Sc; ulimit -Hc"]
        soft, hard = resource.getrlimit(resource.RLIMIT_CORE)
        resource.setrlimit(resource.RLIMIT_CORE, (0, hard))
        self.addCleanup(resource.setrlimit, resource.RLIMIT_CORE, (soft, hard))
        with ExecService({"yes": limit, "no": limit}, lines={"yes": "core_dumps = true"}) as service:
            self.assertEqual(service.talk("no").split(), [b"0", b"0"])
            most = b"unlimited" if hard == resource.RLIM_INFINITY else str(hard // 512).encode()
            # AddressSanitizer in `tlsbroker exec` takes the soft limit away again (disable_coredump).
            soft = b"0" if testlib.sanitized() else most
            self.assertEqual(service.talk("yes").split(), [soft, most])


# Says what is there, leaves something, and says whether that is there.
USES_TMP = r"""cd /tmp; ls /tmp /var/tmp; mktemp -d tlsbroker-made-XXXXXX; echo x >/var/tmp/tlsbroker-made; cat /var/tmp/tlsbroker-made;
cat {home}/file; echo y >{home}/file; cat {home}/writable/in; echo z >{home}/writable/out; ls {home}; readlink {home}/link; cat {home}/link
df --output=size -k /tmp /var/tmp 2>/dev/null | tail -2"""


@unittest.skipUnless(os.geteuid() == 0, "needs root")
class Tmp(unittest.TestCase):
    LINES = """read_only = ["{home}/file", "{home}/link"]
read_write = ["{home}/writable"]
"""
    # AddressSanitizer needs terabytes of address space.
    LIMITS, SIZE = ("", r"\d+") if testlib.sanitized() else ('limits = { memory = "16M" }', "16384")

    def start(self, lines):
        service = self.enterContext(ExecService({"use": ["/bin/sh", "-c", f"exec 2>&1; {USES_TMP}"]}, lines=lines))
        for name in ("file", "other", "target", "writable/in"):
            with open(os.path.join(service.home, name), "w", encoding="ascii") as file:
                file.write(f"this is {name}\n")
            os.chmod(file.name, 0o666)
        os.symlink("target", os.path.join(service.home, "link"))
        return service

    @staticmethod
    def made():
        return glob.glob("/tmp/tlsbroker-made*") + glob.glob("/var/tmp/tlsbroker-made*")

    def test_is_the_worker_s_own(self):
        """What it lists stays where it is, and nothing else is there. Nothing is left, however the worker ends."""
        service = self.start(self.LINES + self.LIMITS)
        with open("/proc/self/mountinfo", encoding="utf-8") as file:
            mounts = file.read()
        for end in (signal.SIGKILL, signal.SIGTERM, None):
            # A worker that has not found a path says so, and is started again.
            said = service.talk("use").decode().replace(service.home, "HOME")
            first, second = said.split("HOME/file: Read-only file system\n")
            base = os.path.basename(service.home)
            self.assertRegex(first, rf"^/tmp:\n{base}\n\n/var/tmp:\ntlsbroker-made-\w+\nx\nthis is file\n/bin/sh: \d+: cannot create $")
            self.assertRegex(second, r"^this is writable/in\nfile\nlink\ntarget\nwritable\ntarget\nthis is target\n( *" + self.SIZE + r"\n){2}$")
            with open(os.path.join(service.writable, "out"), encoding="ascii") as file:
                self.assertEqual(file.read(), "z\n")
            os.unlink(file.name)
            self.assertIn("tlsbroker-made", service.talk("use").decode().split("\n\n")[0], "it lasts as long as the worker")
            self.assertEqual(self.made(), [])
            start = len(service.log)
            if end is None:
                service.signal(signal.SIGTERM)
                self.assertEqual(service.process.wait(20 * testlib.PATIENCE), 0)
            else:
                os.kill(runner_of(service, "use"), end)
                service.wait_for_log("started role=worker", start=start)
        with open("/proc/self/mountinfo", encoding="utf-8") as file:
            self.assertEqual(file.read(), mounts)

    def test_is_the_machine_s_if_that_is_wanted(self):
        for lines in ("private_tmp = false", 'read_write = ["/tmp", "/var/tmp"]'):
            with self.subTest(lines):
                service = self.start(lines)
                self.addCleanup(lambda: [os.rmdir(path) if os.path.isdir(path) else os.unlink(path) for path in self.made()])
                said = service.talk("use").decode()
                self.assertEqual("Permission denied" in said.split("this is", 1)[0], lines.startswith("private"), said)
                self.assertEqual(len(self.made()), 0 if lines.startswith("private") else 2)


# What PostgreSQL and programs that share memory between processes need.
SHARES_MEMORY = """import os
from multiprocessing import Lock, shared_memory
with Lock():
    memory = shared_memory.SharedMemory(create=True, size=100000)
    memory.buf[:5] = b"hello"
    again = shared_memory.SharedMemory(memory.name)
    print(memory.name in os.listdir("/dev/shm"), len(os.listdir("/dev/shm")), bytes(again.buf[:5]))
    memory.unlink()"""


@unittest.skipUnless(os.geteuid() == 0, "needs root")
class SharedMemory(unittest.TestCase):
    def test_is_the_worker_s_own(self):
        with ExecService({"share": ["/usr/bin/python3", "-c", SHARES_MEMORY]}) as service:
            self.assertEqual(service.talk("share"), b"True 1 b'hello'\n")

    def test_is_the_machine_s_if_that_is_wanted(self):
        with tempfile.NamedTemporaryFile(dir="/dev/shm", prefix="tlsbroker-") as file:
            with ExecService({"list": ["/bin/ls", "/dev/shm", "/tmp"]}, lines='read_write = ["/dev/shm"]') as service:
                machines, own = service.talk("list").decode().split("\n\n")
                self.assertIn(os.path.basename(file.name), machines.split())
                self.assertEqual(own, "/tmp:\n")


@unittest.skipUnless(os.geteuid() == 0, "needs root")
class Paths(unittest.TestCase):
    def setUp(self):
        programs = {kind: ["/bin/sh", "-c", "cat {home}/current/page"] for kind in ("link", "same")}
        lines = {"link": 'read_only = ["{home}/current"]', "same": 'read_only = ["{home}/rel/1", "{home}/writable"]'}
        self.service = ExecService(programs, lines=lines)
        for release in "12":
            os.makedirs(os.path.join(self.service.home, "rel", release))
            with open(os.path.join(self.service.home, "rel", release, "page"), "w", encoding="ascii") as file:
                file.write(f"release {release}\n")
        self.current = os.path.join(self.service.home, "current")
        os.symlink("rel/1", self.current)
        self.enterContext(self.service)

    def replace(self, what):
        """As deployments do, with one rename(2)."""
        what(self.current + ".new")
        os.rename(self.current + ".new", self.current)

    def reload(self):
        start = len(self.service.log)
        self.service.signal(signal.SIGHUP)
        self.service.wait_for_log("in force", start=start)
        return "\n".join(self.service.log[start:])

    def page(self):
        return self.service.talk("link")

    def test_are_looked_up_again_by_a_reload(self):
        self.assertEqual(self.page(), b"release 1\n")
        workers = {name: runner_of(self.service, name) for name in ("link", "same")}
        self.assertNotIn("replaced", self.reload())
        self.assertEqual({name: runner_of(self.service, name) for name in ("link", "same")}, workers)
        self.replace(lambda new: os.symlink("rel/2", new))
        said = self.reload()
        self.assertRegex(said, r'"/\S+/current" is not the one that the workers have; they are replaced service=link')
        testlib.wait_until(lambda: not os.path.exists(f"/proc/{workers['link']}"), "end of the old worker")
        self.assertEqual(self.page(), b"release 2\n")
        self.assertEqual(runner_of(self.service, "same"), workers["same"])

    def test_that_are_missing_leave_the_workers_alone(self):
        worker = runner_of(self.service, "link")
        os.unlink(self.current)
        self.assertRegex(self.reload(), r'"/\S+/current" cannot be found: No such file or directory; the workers stay')
        self.assertEqual(runner_of(self.service, "link"), worker)
        os.mkdir(self.current)
        with open(os.path.join(self.current, "page"), "w", encoding="ascii") as file:
            file.write("no link\n")
        self.assertIn("they are replaced", self.reload())
        testlib.wait_until(lambda: not os.path.exists(f"/proc/{worker}"), "end of the old worker")
        self.assertEqual(self.page(), b"no link\n")

    def test_of_the_program(self):
        """One that was installed anew is executed after a reload."""
        program = os.path.join(self.service.home, "program")
        service = ExecService({"own": [program]})
        self.addCleanup(service.stop, kill=True)

        def install(number):
            with open(program + ".new", "w", encoding="ascii") as file:
                file.write(f"#!/bin/sh\necho version {number}\n")
            os.chmod(program + ".new", 0o755)
            os.rename(program + ".new", program)
        install(1)
        service.start()
        self.assertEqual(service.talk("own"), b"version 1\n")
        worker = runner_of(service, "own")
        install(2)
        start = len(service.log)
        service.signal(signal.SIGHUP)
        service.wait_for_log("they are replaced service=own", start=start)
        testlib.wait_until(lambda: not os.path.exists(f"/proc/{worker}"), "end of the old worker")
        self.assertEqual(service.talk("own"), b"version 2\n")


# Mounts an /etc, with what programs need of it, in which resolv.conf links to a file that is replaced while the worker runs.
LINKED = """set -e; mkdir -p {0}/etc/ssl /run/tlsbroker-test-resolve; cd /etc; chmod 755 {0}/etc {0}/etc/ssl /run/tlsbroker-test-resolve
cp passwd group nsswitch.conf ld.so.cache {0}/etc; cp ssl/openssl.cnf {0}/etc/ssl; cd /
echo "nameserver 192.0.2.1" >/run/tlsbroker-test-resolve/stub; chmod 644 /run/tlsbroker-test-resolve/stub
ln -s ../run/tlsbroker-test-resolve/stub {0}/etc/resolv.conf; mount --bind {0}/etc /etc; exec "$@" """


@unittest.skipUnless(os.geteuid() == 0, "needs root to mount")
class Resolver(unittest.TestCase):
    def test_what_resolv_conf_links_to(self):
        home = self.enterContext(tempfile.TemporaryDirectory(prefix="tlsbroker-resolver-"))
        self.addCleanup(shutil.rmtree, "/run/tlsbroker-test-resolve", ignore_errors=True)
        read = ["/bin/sh", "-c", "exec 2>&1; cat /etc/resolv.conf; ls /run; true"]
        service = ExecService({"on": read, "off": read}, lines={"on": "network = true"},
                              launcher=["unshare", "--mount", "/bin/sh", "-c", LINKED.format(home), "sh"])
        with service:
            said = service.talk("on").decode()
            self.assertIn("nameserver 192.0.2.1", said)
            self.assertEqual(said.count("Permission denied"), 1, said)  # ls
            with open("/run/tlsbroker-test-resolve/new", "w", encoding="ascii") as file:
                file.write("nameserver 192.0.2.2\n")
            os.chmod(file.name, 0o644)
            os.rename(file.name, "/run/tlsbroker-test-resolve/stub")
            self.assertIn("nameserver 192.0.2.2", service.talk("on").decode())
            self.assertIn("/etc/resolv.conf: Permission denied", service.talk("off").decode())


if __name__ == "__main__":
    unittest.main()
