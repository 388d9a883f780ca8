# SPDX-License-Identifier: Apache-2.0
"""examples/file-worker with direct connections."""

import unittest

import echo_service
import file_worker_cases


class FileWorker(file_worker_cases.FileWorker, unittest.TestCase):
    ktls, mode = "require", "direct"

    @classmethod
    def setUpClass(cls):
        echo_service.require_ktls()
        super().setUpClass()


if __name__ == "__main__":
    unittest.main()
