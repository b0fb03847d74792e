"""Ctrl-C, heard at the end of a step instead of in the midst of it."""

import signal
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def heeding(wanted: bool) -> Generator[Callable[[], bool]]:
    """Whether somebody pressed Ctrl-C meanwhile; a second time stops at once, as usual.

    Only the main thread hears signals; elsewhere, or where it is not wanted, the answer is always no.
    """
    if not wanted or threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    before = signal.getsignal(signal.SIGINT)
    asked = threading.Event()

    def hear(number: int, frame: FrameType | None) -> None:
        asked.set()
        signal.signal(signal.SIGINT, before)

    signal.signal(signal.SIGINT, hear)
    try:
        yield asked.is_set
    finally:
        signal.signal(signal.SIGINT, before)
