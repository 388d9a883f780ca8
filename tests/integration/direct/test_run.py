# SPDX-License-Identifier: Apache-2.0
"""Unmodified daemons with connections whose records the kernel does."""

import unittest

import echo_service
import run_cases


class Kernel:
    ktls = "require"
    mode = "direct"
    many = 4 * run_cases.MIB

    @classmethod
    def setUpClass(cls):
        echo_service.require_ktls()
        super().setUpClass()


class Bridged(Kernel, run_cases.Bridged, unittest.TestCase):
    pass


class Direct(Kernel, run_cases.Run, unittest.TestCase):
    direct = True


if __name__ == "__main__":
    unittest.main()
