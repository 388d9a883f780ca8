# SPDX-License-Identifier: Apache-2.0
"""The kernel refuses keys, of one direction, from the start or for living connections: "prefer" relays or
closes, "require" closes, and in 500 tries on each kernel nothing but TLS records is on the wire."""

import os
import unittest

import broker as testlib
import echo_service
import tries

LAUNCHER = testlib.program("tests/interop/fail-ktls")
HANDSHAKERS = 3
KINDS = 4  # of version and suite that tries.py makes; each handshaker learns about each kind by itself
MODES = ("prefer", "require")


class Injected(unittest.TestCase):
    def setUp(self):
        echo_service.require_ktls()

    def start(self, services, direction, error, at_start, **options):
        service = echo_service.EchoService({name: name for name in services}, handshakers=HANDSHAKERS, **options)
        self.switch = os.path.join(service.home, "refuse")
        service.launch_by([LAUNCHER, direction, error, self.switch])
        if at_start:
            self.refuse()
        return self.enterContext(service)

    def refuse(self):
        with open(self.switch, "w", encoding="ascii"):
            pass

    def run_tries(self, service, name, count):
        outcomes = tries.run(service, name, count)
        print(f"  {self.id().split('.')[-1]} {name}: {dict(outcomes)}", flush=True)
        return outcomes

    def from_the_start(self, direction, count):
        service = self.start(["prefer"], direction, "ENOENT", at_start=True)
        outcomes = self.run_tries(service, "prefer", count)
        relayed = sum(n for outcome, n in outcomes.items()
                      if outcome[0] == "relay" and outcome[1].endswith("-" + direction))
        self.assertEqual(relayed, count, "all are relayed, and the reason names the direction")

    def later(self, direction, count):
        """Makes `count` tries at each of both services; returns the outcomes of "prefer"."""
        service = self.start(MODES, direction, "ENOMEM", at_start=False)
        before = tries.run(service, "prefer", KINDS)
        self.assertEqual(dict(before), {("direct", None): KINDS}, "the probe found all that it needs")
        self.refuse()
        found = {name: self.run_tries(service, name, count) for name in MODES}
        self.assertEqual(dict(found["require"]), {"closed": count})
        return found["prefer"]

    def test_tx_from_the_start(self):
        self.from_the_start("tx", 50)

    def test_rx_from_the_start(self):
        self.from_the_start("rx", 50)

    def test_tx_later(self):
        """The kernel refuses the first direction: it has no key yet, so all connections can be relayed."""
        outcomes = self.later("tx", 100)
        self.assertEqual({outcome[0] for outcome in outcomes}, {"relay"})
        refused = outcomes["relay", "install-failed"]
        self.assertLessEqual(refused, HANDSHAKERS * KINDS)
        self.assertGreater(refused, 0)

    def test_rx_later(self):
        """The kernel refuses the second direction: in the relay the kernel seals, and OpenSSL opens. OpenSSL alone relays later
        connections of the same kind."""
        outcomes = self.later("rx", 100)
        self.assertEqual({outcome[0] for outcome in outcomes}, {"relay"})
        refused = outcomes["relay", "install-failed"]
        self.assertLessEqual(refused, HANDSHAKERS * KINDS)
        self.assertGreater(refused, 0)

    def test_require_from_the_start(self):
        """No suite can be offered: the broker says so and serves nobody."""
        service = self.start(["require"], "tx", "ENOENT", at_start=True, expect_ready=False)
        service.wait_for_log('ktls = "require", but this kernel takes no suite', timeout=20)
        context = service.context()
        outcome = tries.Client(service.ports["require"], context).attempt()
        self.assertIn(outcome, ("refused", "failed"))


if __name__ == "__main__":
    testlib.main()
