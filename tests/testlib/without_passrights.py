#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Runs a command as on a kernel before Linux 6.16: SO_PASSRIGHTS (83) is unknown, so a socket cannot refuse the
descriptors that strangers send. Usage: without_passrights.py COMMAND..."""

import ctypes
import os
import sys

import under_unit

ENOPROTOOPT = 92
SO_PASSRIGHTS = 83
SET_CTL_NNP = 3  # whether to set no_new_privs is left to the command


def main():
    library = under_unit.seccomp
    filter_ = library.seccomp_init(ctypes.c_uint32(under_unit.ALLOW))
    under_unit.check(library.seccomp_attr_set(ctypes.c_void_p(filter_), SET_CTL_NNP, 0), "seccomp_attr_set")
    under_unit.add_rule(filter_, under_unit.ERRNO | ENOPROTOOPT, library.seccomp_syscall_resolve_name(b"setsockopt"),
                        under_unit.Condition(2, under_unit.MASKED_EQ, 0xFFFFFFFF, SO_PASSRIGHTS))
    under_unit.check(library.seccomp_load(ctypes.c_void_p(filter_)), "seccomp_load")
    os.execv(sys.argv[1], sys.argv[1:])


if __name__ == "__main__":
    main()
