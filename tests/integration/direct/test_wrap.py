# SPDX-License-Identifier: Apache-2.0
"""Wrap and dial, with direct connections."""

import unittest

import echo_service
import opening_cases


class Opening(opening_cases.Opening, unittest.TestCase):
    ktls = "require"

    @classmethod
    def setUpClass(cls):
        echo_service.require_ktls()
        super().setUpClass()


if __name__ == "__main__":
    unittest.main()
