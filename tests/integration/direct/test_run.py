"""Unmodified daemons with connections whose records the kernel does."""

import unittest

import echo_service
import run_cases


class Bridged(run_cases.Run, unittest.TestCase):
    ktls = "require"
    mode = "direct"
    many = 4 * run_cases.MIB

    @classmethod
    def setUpClass(cls):
        echo_service.require_ktls()
        super().setUpClass()


class Direct(Bridged):
    direct = True


if __name__ == "__main__":
    unittest.main()
