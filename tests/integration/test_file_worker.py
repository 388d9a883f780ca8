# SPDX-License-Identifier: Apache-2.0
"""examples/file-worker with relayed connections."""

import unittest

import file_worker_cases


class FileWorker(file_worker_cases.FileWorker, unittest.TestCase):
    ktls, mode = "never", "relay"


if __name__ == "__main__":
    unittest.main()
