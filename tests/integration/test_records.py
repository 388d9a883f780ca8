# SPDX-License-Identifier: Apache-2.0
"""What a peer sends after the handshake, in relay mode. See record_cases.py."""

import unittest

import broker as testlib
import record_cases


class Relay(record_cases.RecordCases, unittest.TestCase):
    KTLS = "never"


if __name__ == "__main__":
    testlib.main()
