# SPDX-License-Identifier: Apache-2.0
"""examples/event-loop-worker with relayed connections."""

import unittest

import event_loop_cases


class EventLoopWorker(event_loop_cases.EventLoopWorker, unittest.TestCase):
    ktls = "never"


if __name__ == "__main__":
    unittest.main()
