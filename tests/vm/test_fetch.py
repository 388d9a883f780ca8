# SPDX-License-Identifier: Apache-2.0
"""Which kernel `fetch` takes, from invented archives: real packages with a few bytes in each, and apt's own tools. No network.

For `fetch` it looks as if QEMU were in the cache already."""

import hashlib
import os
import pathlib
import subprocess
import tempfile
import unittest

FETCH = pathlib.Path(__file__).resolve().parent / "fetch"
SUITES = ("bookworm", "bookworm-updates", "bookworm-backports", "trixie-backports", "bookworm-security")
# This archive has no signature, and it does not matter which packages are installed here.
APT_CONF = """
Acquire::AllowInsecureRepositories "true";
APT::Get::AllowUnauthenticated "true";
Dir::State::status "{home}/status";
Dir::Etc::preferences "/dev/null";
Dir::Etc::preferencesparts "/dev/null";
"""


def stanza(name, version, **fields):
    lines = {"Package": name, "Version": version, "Architecture": "amd64", "Maintainer": "Test <test@example.org>",
             "Description": "made up", **fields}
    return "".join(f"{key}: {value}\n" for key, value in lines.items())


class Fetch(unittest.TestCase):
    def setUp(self):
        self.home = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory(prefix="tlsbroker-fetch-")))
        self.cache = self.home / "cache/tlsbroker/vm"
        (self.cache / "qemu").mkdir(parents=True)
        (self.cache / "qemu/done").touch()
        (self.home / "status").touch()
        (self.home / "apt.conf").write_text(APT_CONF.format(home=self.home))
        self.packages = {suite: self.home / "mirror/dists" / suite / "main/binary-amd64/Packages" for suite in SUITES}
        for file in self.packages.values():
            file.parent.mkdir(parents=True)
            file.touch()

    def publish(self, name, version, release, suite="trixie-backports", kernel="", depends=""):
        """Publishes a package that has a module named after itself and, with `kernel`, a kernel at that path, which starts with
        the package's name."""
        root = self.home / "root" / name
        for path in (kernel, f"usr/lib/modules/{release}/{name}.ko"):
            if path:
                (root / path).parent.mkdir(parents=True, exist_ok=True)
                (root / path).write_bytes(name.encode().ljust(1024, b"\0"))
        fields = {"Depends": depends} if depends else {}
        (root / "DEBIAN").mkdir()
        (root / "DEBIAN/control").write_text(stanza(name, version, **fields))
        deb = self.home / "mirror" / f"{name}.deb"
        subprocess.run(["dpkg-deb", "--root-owner-group", "-Znone", "-b", root, deb], check=True, stdout=subprocess.DEVNULL)
        data = deb.read_bytes()
        with open(self.packages[suite], "a", encoding="ascii") as file:
            file.write(stanza(name, version, **fields, Filename=deb.name, Size=len(data), SHA256=hashlib.sha256(data).hexdigest()) + "\n")

    def image(self, release, version, unsigned=False, suite="trixie-backports", depends=""):
        """Publishes all of a kernel in one package."""
        name = f"linux-image-{release}" + ("-unsigned" if unsigned else "")
        self.publish(name, version, release, suite, kernel=f"boot/vmlinuz-{release}", depends=depends)

    def split(self, release, version, without=(), versions=None):
        """Publishes an image that consists only of its dependencies; some of these may have other versions than the image
        wants."""
        names = {part: f"linux-{part}-{release}" for part in ("base", "binary", "modules")}
        wanted = ", ".join(f"{name} (= {version})" for name in names.values())
        self.publish(f"linux-image-{release}", version, release, depends="dracut | linux-initramfs-tool, " + wanted)
        for part, name in names.items():
            if part not in without:
                kernel = f"usr/lib/modules/{release}/vmlinuz" if part == "binary" else ""
                self.publish(name, (versions or {}).get(part, version), release, kernel=kernel)

    def mention(self, release):
        """Publishes another package that depends on an image, so that apt knows the image's name although nobody has published
        it."""
        self.publish(f"linux-headers-{release}", "1", release, depends=f"linux-image-{release} | linux-image-{release}-unsigned")

    def fetch(self, kernel):
        mirror = f"file://{self.home}/mirror"
        environment = {**os.environ, "XDG_CACHE_HOME": str(self.home / "cache"), "APT_CONFIG": str(self.home / "apt.conf"),
                       "TLSBROKER_DEBIAN_MIRROR": mirror, "TLSBROKER_DEBIAN_SECURITY_MIRROR": mirror}
        return subprocess.run([FETCH, kernel], env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False)

    def assert_fetched(self, kernel, release, source, modules=None):
        """`fetch` took that kernel, from the package `source`, and the modules of these packages (by default of that one
        only)."""
        done = self.fetch(kernel)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual((self.cache / kernel / "release").read_text(), release + "\n")
        self.assertEqual((self.cache / kernel / "vmlinuz").read_bytes().rstrip(b"\0").decode(), source)
        found = {path.stem for path in (self.cache / kernel / "modules/lib/modules" / release).glob("*.ko")}
        self.assertEqual(found, modules or {source})

    def assert_none(self, kernel, why):
        done = self.fetch(kernel)
        self.assertEqual(done.returncode, 1, done.stderr)
        self.assertIn(why, done.stderr)
        self.assertFalse((self.cache / kernel).exists())
        return done.stderr

    def test_only_the_unsigned_image_of_the_newest_is_published(self):
        """apt knows only the name of the signed image."""
        self.image("6.1.0-56-cloud-amd64", "6.1.192-2", suite="bookworm-security")
        self.image("6.1.0-57-cloud-amd64", "6.1.192-3", suite="bookworm-security", unsigned=True)
        self.mention("6.1.0-57-cloud-amd64")
        self.assert_fetched("6.1", "6.1.0-57-cloud-amd64", "linux-image-6.1.0-57-cloud-amd64-unsigned")

    def test_no_image_of_the_newest_is_published(self):
        self.image("6.1.0-56-cloud-amd64", "6.1.192-2", suite="bookworm-security")
        self.mention("6.1.0-57-cloud-amd64")
        self.assert_fetched("6.1", "6.1.0-56-cloud-amd64", "linux-image-6.1.0-56-cloud-amd64")

    def test_the_newest_is_installed_here_but_no_longer_published(self):
        installed = stanza("linux-image-6.1.0-57-cloud-amd64", "6.1.192-3", Status="install ok installed")
        (self.home / "status").write_text(installed)
        self.image("6.1.0-56-cloud-amd64", "6.1.192-2", suite="bookworm-security")
        self.assert_fetched("6.1", "6.1.0-56-cloud-amd64", "linux-image-6.1.0-56-cloud-amd64")

    def test_signed_if_both_are_published(self):
        for unsigned in (True, False):
            self.image("6.1.0-56-cloud-amd64", "6.1.192-2", suite="bookworm-security", unsigned=unsigned)
        self.assert_fetched("6.1", "6.1.0-56-cloud-amd64", "linux-image-6.1.0-56-cloud-amd64")

    def test_all_parts_of_a_split_image(self):
        self.split("7.2.12+deb13-cloud-amd64", "7.2.12-1~bpo13+1")
        names = {f"linux-{part}-7.2.12+deb13-cloud-amd64" for part in ("base", "binary", "image", "modules")}
        self.assert_fetched("latest", "7.2.12+deb13-cloud-amd64", "linux-binary-7.2.12+deb13-cloud-amd64", names)

    def test_a_part_of_the_newest_is_missing(self):
        """In each of three releases another part is missing; in a fourth release one part has another version than its image
        wants."""
        self.image("7.2.9+deb13-cloud-amd64", "7.2.9-1~bpo13+1")
        for minor, part in enumerate(("base", "binary", "modules"), 11):
            self.split(f"7.2.{minor}+deb13-cloud-amd64", f"7.2.{minor}-1~bpo13+1", without={part})
        self.split("7.3.4+deb13-cloud-amd64", "7.3.4-1~bpo13+2", versions={"binary": "7.3.4-1~bpo13+1"})
        self.assert_fetched("latest", "7.2.9+deb13-cloud-amd64", "linux-image-7.2.9+deb13-cloud-amd64")

    def test_order_of_releases(self):
        """Releases are ordered by number and not by letter, whatever their order in the archive. 6.1 is neither 6.12 nor another
        flavour; latest is no release candidate, and nothing of another Debian release."""
        for release in ("6.16.12+deb13", "6.16.12+deb13.1", "6.16.9+deb13", "6.17-rc4+deb13", "6.18.1+deb12", "6.18.1+deb14"):
            self.image(f"{release}-cloud-amd64", "1")
        self.image("6.19.1+deb13-rt-amd64", "1")
        for release in ("6.1.0-9", "6.1.0-10", "6.1.0-2", "6.12.90+deb12", "6.10.0-1"):
            self.image(f"{release}-cloud-amd64", "1", suite="bookworm")
        self.image("6.1.0-11-amd64", "1", suite="bookworm")
        self.assert_fetched("6.1", "6.1.0-10-cloud-amd64", "linux-image-6.1.0-10-cloud-amd64")
        self.assert_fetched("latest", "6.16.12+deb13.1-cloud-amd64", "linux-image-6.16.12+deb13.1-cloud-amd64")

    def test_latest_must_be_able_to_rekey(self):
        self.image("6.12.9+deb13-cloud-amd64", "1")
        self.image("6.12.10+deb13-cloud-amd64", "1")
        self.split("6.14.1+deb13-cloud-amd64", "1", without={"binary"})
        self.assert_none("latest", "6.12.10+deb13-cloud-amd64, the newest left, is older than 6.14")

    def test_no_kernel_at_all(self):
        self.image("6.12.10+deb12-cloud-amd64", "1")
        self.assert_none("6.1", "no kernel 6.1 that can be downloaded")
        self.assert_none("latest", "no kernel latest that can be downloaded")

    def test_the_newest_has_left_the_pool(self):
        self.image("7.2.9+deb13-cloud-amd64", "1")
        self.split("7.2.12+deb13-cloud-amd64", "1")
        (self.home / "mirror/linux-modules-7.2.12+deb13-cloud-amd64.deb").unlink()
        self.assert_fetched("latest", "7.2.9+deb13-cloud-amd64", "linux-image-7.2.9+deb13-cloud-amd64")

    def test_nothing_can_be_downloaded(self):
        """In that case fetch stops after a few releases."""
        for minor in range(1, 6):
            self.image(f"6.1.0-{minor}-cloud-amd64", "1")
            (self.home / f"mirror/linux-image-6.1.0-{minor}-cloud-amd64.deb").unlink()
        messages = self.assert_none("6.1", "no kernel 6.1 that can be downloaded")
        self.assertEqual(messages.count("getting kernel"), 3)
        self.assertFalse(list(self.cache.glob("new.*")))
