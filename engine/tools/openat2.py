"""openat2, which Python does not wrap: open a path beneath a directory, with the kernel refusing every way out of it."""

from __future__ import annotations

import ctypes
import errno
import os
import sys
from functools import cache

_NUMBER = 437  # the same on every architecture but Alpha
_RESOLVE = 0x02 | 0x04 | 0x08  # NO_MAGICLINKS, NO_SYMLINKS, BENEATH
_RACES = 8  # the kernel says EAGAIN when a rename somewhere made it unsure; it is asked again so often


class _OpenHow(ctypes.Structure):
    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


_syscall = ctypes.CDLL(None, use_errno=True).syscall
_syscall.restype = ctypes.c_long


def openat2(path: str, flags: int, directory: int) -> int:
    """A descriptor of what lies at `path` beneath the open `directory`. Raises OSError: ELOOP for a link on the way, EXDEV for a way
    out."""
    how = _OpenHow(flags | os.O_CLOEXEC, 0, _RESOLVE)
    number = 0
    for _ in range(_RACES):
        fd = _syscall(_NUMBER, directory, path.encode(), ctypes.byref(how), ctypes.sizeof(how))
        if fd >= 0:
            return int(fd)
        number = ctypes.get_errno()
        if number not in (errno.EAGAIN, errno.EINTR):
            break
    raise OSError(number, os.strerror(number))


@cache
def openat2_works() -> bool:
    """Whether this kernel (and the container around us) knows openat2."""
    if sys.platform != "linux" or ctypes.sizeof(ctypes.c_void_p) != 8:
        return False
    root = os.open("/", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.close(openat2(".", os.O_RDONLY | os.O_DIRECTORY, root))
    except OSError:
        return False
    finally:
        os.close(root)
    return True
