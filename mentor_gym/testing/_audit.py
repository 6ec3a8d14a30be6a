"""Watch what a piece of code asks of the host: files, network, processes.

It hears of what Python itself does (`sys.addaudithook`). What a C extension or another process does on its own is
not heard.
"""

from __future__ import annotations

import contextlib
import gc
import sys
import threading
from collections.abc import Iterator
from typing import Any

# Events by group; an event belongs to a group when it starts with one of its prefixes.
GROUPS = {
    "files": (
        "open", "os.chmod", "os.chown", "os.link", "os.listdir", "os.mkdir", "os.remove", "os.rename", "os.rmdir",
        "os.scandir", "os.symlink", "os.truncate", "os.utime", "os.walk", "os.chdir", "shutil.", "tempfile.",
        "glob.", "sqlite3.connect",
    ),
    "network": ("socket.", "urllib.", "ftplib.", "http.", "imaplib.", "poplib.", "smtplib.", "webbrowser."),
    "processes": (
        "subprocess.", "os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.fork", "os.forkpty", "os.kill",
        "os.startfile", "pty.", "signal.pthread_kill", "ctypes.dlopen", "os.putenv", "os.unsetenv",
    ),
}  # fmt: skip
_PREFIXES = {prefix: group for group, prefixes in GROUPS.items() for prefix in prefixes}
# A database in memory.
_HARMLESS = {("sqlite3.connect", ":memory:"), ("sqlite3.connect", "")}

_heard: list[tuple[str, str]] | None = None
_others: frozenset[int] = frozenset()
_is_hooked = False


@contextlib.contextmanager
def listening() -> Iterator[list[tuple[str, str]]]:
    """Collect (group, event with its first argument) while the block runs, in this thread and in new ones."""
    global _heard, _others, _is_hooked
    if not _is_hooked:
        # A hook stays for the life of the process; outside of this block ours does nothing.
        sys.addaudithook(_hear)
        _is_hooked = True
    # What is collected in the block must not be garbage of before.
    gc.collect()
    _others = frozenset(thread.ident or 0 for thread in threading.enumerate()) - {threading.get_ident()}
    heard: list[tuple[str, str]] = []
    _heard = heard
    try:
        yield heard
    finally:
        _heard = None


def _hear(event: str, arguments: tuple[Any, ...]) -> None:
    if _heard is None or threading.get_ident() in _others:
        return
    for prefix, group in _PREFIXES.items():
        if event == prefix or (prefix[-1] == "." and event.startswith(prefix)):
            what = arguments[0] if arguments else ""
            if (event, str(what)) not in _HARMLESS:
                _heard.append((group, f"{event}({what!r})"))
            return
