# SPDX-License-Identifier: Apache-2.0
"""A kernel without the TLS module (tests/vm/boot --without-module tls), or any kernel without TLS."""

import unittest

import broker as testlib
import echo_service
import tries


class WithoutTls(unittest.TestCase):
    def setUp(self):
        if echo_service.kernel_has_tls():
            self.skipTest("this kernel has TLS")

    def test_prefer_is_relayed(self):
        with echo_service.EchoService({"prefer": "prefer"}) as service:
            outcomes = tries.run(service, "prefer", 20)
        self.assertEqual(dict(outcomes), {("relay", "kernel-no-tls-ulp"): 20})

    def test_require_serves_nobody(self):
        with echo_service.EchoService({"require": "require"}, expect_ready=False) as service:
            service.wait_for_log('ktls = "require", but this kernel takes no suite', timeout=20)
            outcome = tries.Client(service.ports["require"], service.context()).attempt()
        self.assertIn(outcome, ("refused", "failed"))


if __name__ == "__main__":
    testlib.main()
