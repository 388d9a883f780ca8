"""How much is measured."""

import contextlib


class Scale:
    def __init__(self, quick, rounds):
        self.quick, self.rounds = quick, rounds

    @contextlib.contextmanager
    def running(self, competitors):
        """All of them, started."""
        with contextlib.ExitStack() as stack:
            yield [stack.enter_context(subject) for subject in competitors]
