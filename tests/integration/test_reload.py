"""Reloads under load, with relayed connections."""

import unittest

import reload_cases


class UnderLoad(reload_cases.UnderLoad, unittest.TestCase):
    ktls = "never"


if __name__ == "__main__":
    unittest.main()
