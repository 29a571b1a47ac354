"""Become a program that may not use io_uring, as under Docker's default seccomp profile.

    python3 without_io_uring.py PROGRAM [ARGUMENT...]

io_uring_setup, io_uring_enter and io_uring_register fail with EPERM, as the profile's default
action has it; everything else is allowed. The program keeps this process's id. No library is
needed: the filter is five instructions of BPF, handed over with prctl(2).
"""

import ctypes
import errno
import os
import struct
import sys

PR_SET_NO_NEW_PRIVS = 38
PR_SET_SECCOMP = 22
SECCOMP_MODE_FILTER = 2
SECCOMP_RET_ERRNO = 0x00050000
SECCOMP_RET_ALLOW = 0x7FFF0000
BPF_LOAD_WORD = 0x20
BPF_JUMP_IF_AT_LEAST = 0x35
BPF_RETURN = 0x06

# 425 setup, 426 enter, 427 register: the same numbers on every architecture since Linux 5.1.
FIRST, BEHIND = 425, 428


def instruction(code, jump_true, jump_false, operand):
    return struct.pack("HBBI", code, jump_true, jump_false, operand)


def forbid_io_uring():
    program = b"".join([
        instruction(BPF_LOAD_WORD, 0, 0, 0),  # the number of the system call
        instruction(BPF_JUMP_IF_AT_LEAST, 0, 2, FIRST),
        instruction(BPF_JUMP_IF_AT_LEAST, 1, 0, BEHIND),
        instruction(BPF_RETURN, 0, 0, SECCOMP_RET_ERRNO | errno.EPERM),
        instruction(BPF_RETURN, 0, 0, SECCOMP_RET_ALLOW),
    ])
    code = ctypes.create_string_buffer(program, len(program))
    filter_program = struct.pack("HxxxxxxP" if struct.calcsize("P") == 8 else "HxxP",
                                 len(program) // 8, ctypes.addressof(code))
    libc = ctypes.CDLL(None, use_errno=True)
    for arguments in ((PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0),
                      (PR_SET_SECCOMP, SECCOMP_MODE_FILTER, filter_program, 0, 0)):
        if libc.prctl(*arguments) != 0:
            sys.exit(f"prctl{arguments[:1]}: {os.strerror(ctypes.get_errno())}")


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    forbid_io_uring()
    os.execvp(sys.argv[1], sys.argv[1:])
