# SPDX-License-Identifier: Apache-2.0
"""How the data of relayed clients ends, for programs behind `exec` and `daemon`."""

import unittest

import end_cases


class Relayed(end_cases.Ends, unittest.TestCase):
    pass


if __name__ == "__main__":
    unittest.main()
