"""Standard input, output and errors that are closed, cannot show a character, or lose their reader."""

import io
import os
import sys
from contextlib import suppress

STREAMS = {"stdin": "r", "stdout": "w", "stderr": "w"}  # by file descriptor: 0, 1, 2


def open_closed_streams() -> None:
    """Give a process that was started with closed streams (``>&-``) streams that lead nowhere.

    Otherwise the next file that is opened would take the number of the closed stream, and print() would write into it.
    """
    for descriptor, (name, mode) in enumerate(STREAMS.items()):
        try:
            os.fstat(descriptor)
        except OSError:
            nothing = os.open(os.devnull, os.O_RDWR)
            if nothing != descriptor:
                os.dup2(nothing, descriptor)
                os.close(nothing)
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(descriptor, mode, encoding="utf-8", closefd=False))


def show_every_character() -> None:
    """A file name that the terminal cannot show is no reason to stop."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def discard_stdout() -> None:
    """Python flushes stdout once more on exit, which would fail with a message where the reader has gone."""
    with suppress(OSError, ValueError):  # stdout may not be a file
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
