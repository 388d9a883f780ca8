# SPDX-License-Identifier: Apache-2.0
"""The Debian packages: what is in them, what lintian says, and their life in a small Debian of their own, from the installation
to the purge, without a running systemd. With TLSBROKER_PACKAGES packages of that directory are tested, and none are built."""

import glob
import os
import re
import shutil
import subprocess
import sys
import tempfile
import unittest

SOURCE = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
CACHE = os.path.join(os.environ.get("XDG_CACHE_HOME", os.path.expanduser("~/.cache")), "tlsbroker", "packaging")
NAMES = ("tlsbroker", "libtlsbroker0", "libtlsbroker-dev", "tlsbroker-doc")
UNITS = ("tlsbroker.service", "tlsbroker-attached.service", "tlsbroker.socket", "tlsbroker-loopback.socket",
         "tlsbroker-loopback@.service")


def run(*command, check=True, **options):
    """Runs a command, and fails with all that it printed."""
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", check=False,
                          **options)
    if check and done.returncode != 0:
        raise AssertionError(f"{command}: exit status {done.returncode}\n{done.stdout[-6000:]}")
    return done


def setUpModule():
    global PACKAGES  # pylint: disable=global-statement
    PACKAGES = os.environ.get("TLSBROKER_PACKAGES")
    if not PACKAGES:
        PACKAGES = tempfile.mkdtemp(prefix="tlsbroker-packages-")
        unittest.addModuleCleanup(shutil.rmtree, PACKAGES)
        run(os.path.join(SOURCE, "broker/packaging/build-deb"), "--output", PACKAGES)


def package(name):
    found = glob.glob(f"{PACKAGES}/{name}_*.deb")
    assert len(found) == 1, found
    return found[0]


def contents(name):
    """The paths of its files and links, from the root, without the directories."""
    lines = run("dpkg-deb", "--contents", package(name)).stdout.splitlines()
    paths = [re.split(r"\s+", line, maxsplit=5)[5] for line in lines if not line.startswith("d")]
    return {path.split(" -> ")[0].removeprefix(".") for path in paths}


class Packages(unittest.TestCase):
    def test_there_are_these_four(self):
        found = {os.path.basename(path).split("_")[0] for path in glob.glob(f"{PACKAGES}/*.deb")}
        self.assertEqual({name for name in found if not name.endswith("-dbgsym")}, set(NAMES))

    def test_the_version_is_that_of_the_build(self):
        with open(os.path.join(SOURCE, "meson.build"), encoding="utf-8") as file:
            version = re.search(r"version: '([\d.]+)'", file.read())[1]
        with open(os.path.join(SOURCE, "broker/packaging/debian/changelog"), encoding="utf-8") as file:
            self.assertTrue(file.readline().startswith(f"tlsbroker ({version}) "))

    def test_what_is_in_them(self):
        files = contents("tlsbroker")
        library = next(iter(glob.glob("/usr/lib/*-linux-gnu*/libc.so.6"))).rsplit("/", 1)[0]
        wanted = {"/etc/tlsbroker/broker.toml", "/usr/sbin/tlsbrokerd", "/usr/bin/tlsbroker",
                  "/usr/lib/sysusers.d/tlsbroker.conf", "/usr/lib/tmpfiles.d/tlsbroker.conf",
                  "/usr/share/bash-completion/completions/tlsbroker", "/usr/share/zsh/vendor-completions/_tlsbroker",
                  "/usr/share/man/man8/tlsbrokerd.8.gz", "/usr/share/man/man5/tlsbroker.toml.5.gz",
                  "/usr/share/man/man1/tlsbroker.1.gz", "/usr/share/man/man1/tlsbroker-status.1.gz"}
        roles = ("keyholder", "handshaker", "porter", "logger", "loopback")
        wanted |= {f"/usr/libexec/tlsbroker/tlsbroker-{role}" for role in roles}
        self.assertEqual(wanted - files, set())
        for unit in UNITS:
            self.assertTrue({f"/usr/lib/systemd/system/{unit}", f"/lib/systemd/system/{unit}"} & files, unit)
        self.assertIn(f"{library}/libtlsbroker.so.0", contents("libtlsbroker0"))
        wanted = {"/usr/include/tlsbroker/tlsbroker.h", "/usr/include/tlsbroker/tlsbroker.hpp", f"{library}/libtlsbroker.so",
                  f"{library}/pkgconfig/tlsbroker.pc", "/usr/share/man/man3/tlsbroker.3.gz"}
        self.assertEqual(wanted - contents("libtlsbroker-dev"), set())
        documentation = {name.removeprefix("/usr/share/doc/tlsbroker/") for name in contents("tlsbroker-doc")}
        self.assertEqual({"README.md", "broker/NEWS.md", "protocol/PROTOCOL.md", "examples/python-worker/worker.py",
                          "examples/git/broker.toml", "examples/systemd/read-write.conf"} - documentation, set())

    def test_all_examples_of_the_tree_are_in_them(self):
        tree = {os.path.relpath(path, SOURCE) for path in glob.glob(f"{SOURCE}/examples/*/*") if "__pycache__" not in path}
        self.assertEqual({f"/usr/share/doc/tlsbroker/{name}" for name in tree} - contents("tlsbroker-doc"), set())

    def test_the_loader_knows_the_library(self):
        with tempfile.TemporaryDirectory() as control:
            run("dpkg-deb", "--control", package("libtlsbroker0"), control)
            with open(os.path.join(control, "triggers"), encoding="utf-8") as file:
                self.assertIn("ldconfig", file.read())
            with open(os.path.join(control, "symbols"), encoding="utf-8") as file:
                self.assertIn(" tlsbroker_accept@TLSBROKER_0.1 ", file.read())

    def test_an_upgrade_restarts_a_broker_that_runs_and_leaves_its_sockets_open(self):
        with tempfile.TemporaryDirectory() as control:
            run("dpkg-deb", "--control", package("tlsbroker"), control)
            scripts = {}
            for name in ("postinst", "prerm", "postrm"):
                with open(os.path.join(control, name), encoding="utf-8") as file:
                    scripts[name] = file.read()
            self.assertFalse(os.path.exists(os.path.join(control, "preinst")))
        (restarted,) = re.findall(r"deb-systemd-invoke try-restart (.*) >", scripts["postinst"])
        self.assertEqual(restarted, "'tlsbroker-attached.service' 'tlsbroker.service'")
        self.assertNotRegex(scripts["postinst"], r"deb-systemd-invoke (start|restart)|deb-systemd-helper enable .*\n\s*else")
        stopped = re.findall(r"deb-systemd-invoke stop (.*) >", scripts["prerm"])
        self.assertEqual(stopped, ["tlsbroker.service tlsbroker-attached.service tlsbroker.socket tlsbroker-loopback.socket"])

    def test_lintian(self):
        # The suite is not Debian's; the rest has to be as Debian wants it.
        changes = glob.glob(f"{PACKAGES}/*.changes")
        shown = run("lintian", "--allow-root", "--fail-on", "error,warning", "--tag-display-limit", "0", "--suppress-tags",
                    "bad-distribution-in-changes-file,unreleased-changes", *changes, check=False)
        self.assertEqual((shown.returncode, re.findall("^[EW]:.*", shown.stdout, re.M)), (0, []), shown.stdout)


def mirror():
    """Where this machine gets Debian's packages from."""
    if "TLSBROKER_DEBIAN_MIRROR" in os.environ:
        return os.environ["TLSBROKER_DEBIAN_MIRROR"]
    shown = run("apt-get", "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages", "Origin: Debian", "Label: Debian",
                "Component: main").stdout.splitlines()
    return shown[0]


def codename():
    with open("/etc/os-release", encoding="utf-8") as file:
        return re.search("^VERSION_CODENAME=(.*)$", file.read(), re.M)[1]


def needed():
    """The packages that ours depend on."""
    names = set()
    for name in NAMES:
        fields = run("dpkg-deb", "--field", package(name), "Depends", "Pre-Depends").stdout
        for field in re.findall("^(?:Pre-)?Depends: (.*)$", fields, re.M):
            names |= {re.match(r"\S+", choice.strip())[0] for choice in field.split(",")}
    return sorted(names - set(NAMES))


def make_base():
    """A minimal Debian with what our packages depend on, as an archive in the cache."""
    include = needed()
    path = os.path.join(CACHE, f"{codename()}-{'-'.join(include)}.tar")
    if os.path.exists(path):
        return path
    os.makedirs(CACHE, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="tlsbroker-base-") as root:
        run("debootstrap", "--variant=minbase", f"--include={','.join(include)}", codename(), root, mirror())
        shutil.rmtree(os.path.join(root, "var/cache/apt/archives"))
        run("tar", "-C", root, "-cf", path + ".new", ".")
    os.rename(path + ".new", path)
    return path


@unittest.skipUnless(os.geteuid() == 0, "needs root")
class Installed(unittest.TestCase):
    """One system, in which the packages are installed once; each test that removes something has a copy of its own."""

    @classmethod
    def setUpClass(cls):
        cls.root = tempfile.mkdtemp(prefix="tlsbroker-installed-")
        cls.addClassCleanup(shutil.rmtree, cls.root)
        run("tar", "-C", cls.root, "-xf", make_base())
        run("mount", "-t", "proc", "proc", os.path.join(cls.root, "proc"))  # for bash
        cls.addClassCleanup(run, "umount", "--lazy", os.path.join(cls.root, "proc"))
        for name in NAMES:
            shutil.copy(package(name), os.path.join(cls.root, "root"))
        cls.before = cls.names()
        cls.install()

    @classmethod
    def inside(cls, *command, **options):
        environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C.UTF-8"}
        return run("chroot", cls.root, *command, env=environment, **options)

    @classmethod
    def install(cls):
        cls.inside("sh", "-c", "dpkg --force-confold -i /root/*.deb")

    @classmethod
    def names(cls):
        """Everything in the system that has the program's name in its own, but for the packages."""
        found = run("find", cls.root, "-xdev", "-iname", "*tlsbroker*").stdout.splitlines()
        return {path.removeprefix(cls.root) for path in found if not path.endswith(".deb")}

    def path(self, name):
        return self.root + name

    def test_the_configuration_is_good_and_serves_nothing(self):
        shown = self.inside("tlsbrokerd", "--config", "/etc/tlsbroker/broker.toml", "--check").stdout
        self.assertIn("broker.toml: ok", shown)
        self.assertIn("there is no service", shown)
        self.assertIn("/etc/tlsbroker/broker.toml", self.inside("dpkg-query", "-W", "-f", "${Conffiles}", "tlsbroker").stdout)
        self.assertTrue(os.path.isdir(self.path("/etc/tlsbroker/conf.d")))

    def test_the_user_is_there(self):
        with open(self.path("/etc/passwd"), encoding="utf-8") as file:
            self.assertRegex(file.read(), "(?m)^tlsbroker:.*nologin$")

    def test_nothing_is_enabled(self):
        self.assertEqual(glob.glob(self.path("/etc/systemd/system/*/*tlsbroker*")), [])

    def test_programs_run(self):
        self.assertIn("tlsbroker", self.inside("tlsbroker", "--version").stdout)
        self.assertIn("libtlsbroker.so.0", self.inside("ldconfig", "-p").stdout)

    def test_manual_pages_are_found(self):
        pages = {os.path.basename(path) for path in glob.glob(f"{SOURCE}/*/man/*.[1-8]")}
        self.assertGreaterEqual(len(pages), 11)
        for page in sorted(pages):
            name, section = page.rsplit(".", 1)
            found = run("man", "-M", self.path("/usr/share/man"), "-w", section, name).stdout
            self.assertIn(f"/{page}", found)

    def test_shells_complete(self):
        bash = self.path("/usr/share/bash-completion/completions/tlsbroker")
        script = 'source "$1"; COMP_WORDS=(tlsbroker sta); COMP_CWORD=1; _tlsbroker; echo "${COMPREPLY[*]}"'
        shutil.copy(bash, self.path("/root/completion"))
        self.assertEqual(self.inside("bash", "-c", script, "bash", "/root/completion").stdout, "status\n")
        script = 'fpath=("$1" $fpath); autoload -U compinit; compinit -D -u; print $_comps[tlsbroker]; autoload +X _tlsbroker'
        directory = self.path("/usr/share/zsh/vendor-completions")
        self.assertEqual(run("zsh", "-fc", script, "zsh", directory).stdout, "_tlsbroker\n")
        run("zsh", "-n", os.path.join(directory, "_tlsbroker"))

    def test_a_program_is_compiled_with_the_library(self):
        directory = next(iter(glob.glob(self.path("/usr/lib/*/pkgconfig/tlsbroker.pc")))).rsplit("/", 1)[0]
        environment = dict(os.environ, PKG_CONFIG_LIBDIR=directory, PKG_CONFIG_SYSROOT_DIR=self.root)
        flags = run("pkg-config", "--cflags", "--libs", "tlsbroker", env=environment).stdout.split()
        source = self.path("/usr/share/doc/tlsbroker/examples/event-loop-worker/event_loop_worker.c")
        flags += [f"-L{os.path.dirname(directory)}"]
        with tempfile.TemporaryDirectory() as output:
            run("cc", "-D_GNU_SOURCE", "-o", f"{output}/worker", source, *flags)
            self.assertIn("libtlsbroker.so.0", run("objdump", "-p", f"{output}/worker").stdout)

    @unittest.skipUnless(shutil.which("systemd-analyze"), "no systemd-analyze")
    def test_the_installed_units_are_confined(self):
        for unit, limit in (("tlsbroker", 30), ("tlsbroker-attached", 20), ("tlsbroker-loopback@", 20)):
            # In a system whose /lib is a link to /usr/lib.
            path = self.path(f"/usr/lib/systemd/system/{unit}.service")
            run("systemd-analyze", "security", "--offline=true", "--no-pager", f"--threshold={limit}", path)

    def test_links_of_the_documentation_lead_somewhere(self):
        """Those from the first page to files that are installed as well."""
        directory = self.path("/usr/share/doc/tlsbroker")
        with open(os.path.join(directory, "README.md"), encoding="utf-8") as file:
            links = re.findall(r"\]\(([^)#:]+)\)", file.read())
        self.assertIn("protocol/PROTOCOL.md", links)
        for link in ("protocol/PROTOCOL.md", "broker/README.md", "broker/NEWS.md"):
            self.assertTrue(os.path.isfile(os.path.join(directory, link)), link)

    def test_z_what_the_administrator_wrote_stays_until_the_purge(self):
        """The last one, since nothing is left behind it."""
        config, key = self.path("/etc/tlsbroker/broker.toml"), self.path("/etc/tlsbroker/site.key")
        with open(config, "a", encoding="utf-8") as file:
            file.write("# mine\n")
        self.install()
        with open(config, encoding="utf-8") as file:
            self.assertTrue(file.read().endswith("# mine\n"))
        with open(self.path("/etc/tlsbroker/conf.d/site.toml"), "w", encoding="utf-8") as file:
            file.write("# mine, too\n")
        self.inside("dpkg", "--remove", *NAMES)
        self.assertTrue(os.path.exists(config))
        self.assertTrue(os.path.exists(self.path("/etc/tlsbroker/conf.d/site.toml")))
        with open(key, "w", encoding="utf-8") as file:
            file.write("a key\n")
        self.inside("dpkg", "--purge", *NAMES)
        self.assertEqual(self.names() - self.before, {"/etc/tlsbroker"})
        self.assertEqual(os.listdir(self.path("/etc/tlsbroker")), ["site.key"], "a key that the package has not brought")
        os.remove(key)
        self.install()
        os.makedirs(self.path("/run/tlsbroker"), exist_ok=True)
        self.inside("dpkg", "--purge", *NAMES)
        self.assertEqual(self.names() - self.before, set())


if __name__ == "__main__":
    sys.exit(unittest.main())
