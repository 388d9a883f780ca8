# SPDX-License-Identifier: Apache-2.0
"""Wrap and dial, relayed."""

import unittest

import opening_cases


class Opening(opening_cases.Opening, unittest.TestCase):
    ktls = "never"


if __name__ == "__main__":
    unittest.main()
