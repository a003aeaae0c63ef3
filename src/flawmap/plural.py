"""Numbers of things in messages."""


def plural(n: int, noun: str) -> str:
    """``1 image``, ``2 images``, ``1,000 images``.

    >>> plural(1, "good image"), plural(1000, "good image")
    ('1 good image', '1,000 good images')
    """
    return f"{n:,} {noun}" if n == 1 else f"{n:,} {noun}s"
