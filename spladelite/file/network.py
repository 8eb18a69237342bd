"""Whether a file lies on a file system that several machines can write to.

Write-ahead logging needs memory that all of a file's users share, and such memory ends at each machine.
"""

from __future__ import annotations

import ctypes
import os
import sys
from contextlib import suppress
from pathlib import Path

_LINUX = frozenset(("nfs", "nfs4", "cifs", "smb3", "smbfs", "afs", "ceph", "fuse.sshfs", "fuse.glusterfs"))

# struct statfs of macOS, <sys/mount.h>: uint32 and int32, five uint64, two int32, uid, type, and then the flags
_MAC_FLAGS_AT, _MAC_STATFS_BYTES = 64, 4096  # half of it is enough
_MAC_LOCAL = 0x1000  # MNT_LOCAL

_WINDOWS_REMOTE = 4  # DRIVE_REMOTE


def on_network(path: str) -> bool:
    """Whether the file's folder is on a network file system, as far as the system tells; False if it does not."""
    folder = os.path.dirname(os.path.realpath(path))
    with suppress(OSError, AttributeError):
        if sys.platform == "win32":
            return _windows(folder)
        if sys.platform == "darwin":
            return _mac(folder)
        return _linux(folder)
    return False


def _linux(folder: str) -> bool:
    kinds: dict[Path, str] = {}
    with open("/proc/self/mounts", encoding="utf-8", errors="surrogateescape") as mounts:
        for line in mounts:
            _, point, kind, *_ = line.split()
            kinds[Path(point.replace(r"\040", " "))] = kind
    return next((kinds[place] for place in (Path(folder), *Path(folder).parents) if place in kinds), "") in _LINUX


def _mac(folder: str) -> bool:
    system = ctypes.CDLL(None)
    # On Intel, the name without a suffix is an older function with another struct.
    statfs = getattr(system, "statfs$INODE64", None) or system.statfs
    found = ctypes.create_string_buffer(_MAC_STATFS_BYTES)
    if statfs(os.fsencode(folder), found) != 0:
        return False
    flags = int.from_bytes(found.raw[_MAC_FLAGS_AT : _MAC_FLAGS_AT + 4], sys.byteorder)
    return not flags & _MAC_LOCAL


def _windows(folder: str) -> bool:
    root = os.path.splitdrive(folder)[0]  # C: or \\server\share
    kernel = ctypes.windll.kernel32  # type: ignore[attr-defined]
    return root.startswith("\\\\") or bool(kernel.GetDriveTypeW(f"{root}\\") == _WINDOWS_REMOTE)
