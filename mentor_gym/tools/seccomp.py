"""A filter that lets a process make no system calls but a few: a program for the kernel, assembled here.

It is an allow-list: what compute and read-only imports need. What is not on it fails with `EPERM`: no process or
thread is made, nothing is executed, sent, written to a file, signalled or asked of the machine.
"""

from __future__ import annotations

import struct

# Numbers of system calls by machine, from the kernel's tables (`asm/unistd_64.h`, `asm-generic/unistd.h`).
_NUMBERS = {
    "x86_64": {
        "read": 0, "write": 1, "close": 3, "stat": 4, "fstat": 5, "lstat": 6, "lseek": 8, "mmap": 9,
        "mprotect": 10, "munmap": 11, "brk": 12, "pread64": 17, "access": 21, "mremap": 25,
        "madvise": 28, "exit": 60, "getcwd": 79, "readlink": 89, "getdents64": 217,
        "exit_group": 231, "newfstatat": 262, "readlinkat": 267, "faccessat": 269, "statx": 332, "faccessat2": 439,
    },
    "aarch64": {
        "getcwd": 17, "faccessat": 48, "close": 57, "getdents64": 61, "lseek": 62, "read": 63,
        "write": 64, "pread64": 67, "readlinkat": 78, "newfstatat": 79, "fstat": 80, "exit": 93, "exit_group": 94,
        "brk": 214, "munmap": 215, "mremap": 216, "mmap": 222, "mprotect": 226, "madvise": 233,
        "statx": 291, "faccessat2": 439,
    },
}  # fmt: skip
_OPENAT = {"x86_64": 257, "aarch64": 56}
_ARCHITECTURE = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
# O_WRONLY, O_RDWR and O_CREAT.
_WRITING = 0o103

_LOAD, _EQUAL, _ANY_BIT, _RETURN = 0x20, 0x15, 0x45, 0x06
_ALLOW, _DENY, _KILL = 0x7FFF0000, 0x00050001, 0x80000000
# Where the kernel puts number, architecture and third argument of the call (`struct seccomp_data`).
_NUMBER, _MACHINE, _FLAGS = 0, 4, 32


def machines() -> tuple[str, ...]:
    """Return the machines for which there is a filter.

    >>> machines()
    ('x86_64', 'aarch64')
    """
    return tuple(_NUMBERS)


def assemble(machine: str) -> bytes:
    """Return the filter of a machine, as the kernel takes it (an array of `struct sock_filter`).

    >>> len(assemble("x86_64")) % 8
    0
    """
    numbers = sorted(_NUMBERS[machine].values())
    # Each test jumps to the last instruction when it holds; a jump counts the instructions that are skipped.
    tests = [(_EQUAL, len(numbers) - place, 0, number) for place, number in enumerate(numbers)]
    program = [
        (_LOAD, 0, 0, _MACHINE),
        (_EQUAL, 1, 0, _ARCHITECTURE[machine]),
        (_RETURN, 0, 0, _KILL),
        (_LOAD, 0, 0, _NUMBER),
        (_EQUAL, 0, 2, _OPENAT[machine]),
        (_LOAD, 0, 0, _FLAGS),
        (_ANY_BIT, len(numbers), len(numbers) + 1, _WRITING),
        *tests,
        (_RETURN, 0, 0, _DENY),
        (_RETURN, 0, 0, _ALLOW),
    ]
    return b"".join(struct.pack("<HBBI", *instruction) for instruction in program)
