# SPDX-License-Identifier: Apache-2.0
"""examples/event-loop-worker with direct connections."""

import unittest

import echo_service
import event_loop_cases


class EventLoopWorker(event_loop_cases.EventLoopWorker, unittest.TestCase):
    ktls = "require"

    @classmethod
    def setUpClass(cls):
        echo_service.require_ktls()
        super().setUpClass()


if __name__ == "__main__":
    unittest.main()
