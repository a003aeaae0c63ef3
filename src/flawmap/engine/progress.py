"""What training tells the person who waits. Loads no heavy package."""

import sys


def say(label: str, text: str) -> None:
    """One line of progress on stderr, with the aligned label of the command line's output."""
    print(f"{label:<10} {text}", file=sys.stderr, flush=True)


def duration(seconds: float) -> str:
    """Seconds as people say them: 90 -> "1m30s"."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s"
    return f"{whole // 3600}h{whole % 3600 // 60:02d}m"
