# SPDX-License-Identifier: Apache-2.0
"""How the data of clients ends, for programs behind `exec` and `daemon`, where the kernel does the records."""

import unittest

import echo_service
import end_cases


class Direct(end_cases.DirectEnds, unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        echo_service.require_ktls()
        super().setUpClass()


if __name__ == "__main__":
    unittest.main()
