# SPDX-License-Identifier: Apache-2.0
"""Attacks of a worker on its handshakers, which must not affect anything beyond its own service. tests/testlib/walls.py defines
that; tests/testlib/wall_attacker.py attacks."""

import time
import unittest

import walls


class Requests(walls.Walls):
    def test_an_answer_socket_with_a_socket_in_it_whose_close_waits(self):
        self.start()
        with self.under(self.attacker("answer", self.socket_path)):
            self.wait_for_hang(times=2)

    def test_a_socket_whose_close_waits(self):
        self.start()
        with self.under(self.attacker("socket", self.socket_path)):
            self.wait_for_hang(times=2)

    def test_a_wrapped_socket_that_is_made_blocking(self):
        self.start()
        with self.under(self.attacker("wrap", self.socket_path)):
            self.wait_for_hang(times=2)

    def test_a_reload_meanwhile(self):
        """The attacked service itself can be reloaded: what is started beside a process that hangs works until it serves."""
        self.start()
        with self.under(self.attacker("socket", self.socket_path)):
            self.wait_for_hang()
            for protocol in ("h2", "http/1.1"):
                self.service.lines["attacked"] += f'alpn = ["{protocol}"]\n'
                begun = time.monotonic()
                self.service.reload("in force .* started=attacked removed=-$")
                took = time.monotonic() - begun
                print(f"  reloaded in {took:.1f} s")
                self.service.lines["attacked"] = self.service.lines["attacked"].rpartition("alpn")[0]


if __name__ == "__main__":
    unittest.main()
