# SPDX-License-Identifier: Apache-2.0
"""Reloads under load, with direct connections."""

import unittest

import echo_service
import reload_cases


class UnderLoad(reload_cases.UnderLoad, unittest.TestCase):
    ktls = "require"

    def setUp(self):
        echo_service.require_ktls()
        super().setUp()


if __name__ == "__main__":
    unittest.main()
