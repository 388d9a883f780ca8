# SPDX-License-Identifier: Apache-2.0
"""How much is measured: how many rounds, and how large they are."""

import contextlib


class Scale:
    def __init__(self, quick, rounds, before=None):
        """`before` is the build directory of an earlier state."""
        self.quick, self.rounds, self.before = quick, rounds, before

    @contextlib.contextmanager
    def running(self, competitors):
        """All competitors, started."""
        with contextlib.ExitStack() as stack:
            yield [stack.enter_context(subject) for subject in competitors]
