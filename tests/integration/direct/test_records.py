# SPDX-License-Identifier: Apache-2.0
"""What a peer sends after the handshake, on direct connections. See record_cases.py."""

import unittest

import broker as testlib
import echo_service
import record_cases


class Direct(record_cases.RecordCases, unittest.TestCase):
    KTLS, DIRECT = "require", True

    @classmethod
    def setUpClass(cls):
        echo_service.require_ktls()
        super().setUpClass()


if __name__ == "__main__":
    testlib.main()
