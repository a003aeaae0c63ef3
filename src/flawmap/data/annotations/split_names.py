"""Names of folders and files that say which split images belong to."""

import re

WORDS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
}
_WORD = re.compile(rf"(?<![a-z])(?:{'|'.join(sorted(WORDS, key=len, reverse=True))})\d*(?![a-z])")


def split_folder(name: str) -> str | None:
    """The word in a name that is one of a split, with digits behind it, in lower case: ``train2017``.

    >>> split_folder("instances_train2017"), split_folder("Valid"), split_folder("strained"), split_folder("test_train")
    ('train2017', 'valid', None, None)
    """
    words = set(_WORD.findall(name.lower()))
    return words.pop() if len(words) == 1 else None


def split_named(name: str | None) -> str | None:
    """The split that a name says: train, val or test; None if it says none.

    >>> split_named("instances_train2017"), split_named("Valid"), split_named("images")
    ('train', 'val', None)
    """
    word = split_folder(name or "")
    return WORDS[word.rstrip("0123456789")] if word else None
