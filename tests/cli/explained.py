"""What the answer to a mistake must look like."""


def assert_explained(said, problem: tuple[str, ...], place: str, remedy: tuple[str, ...]) -> None:
    """Exit code 2, nothing on stdout, no traceback, and on stderr the three parts, each with what it must hold."""
    assert (said.code, said.out) == (2, "")
    assert "Traceback" not in said.err and "bug" not in said.err
    first, *_, last = lines = said.err[said.err.index("error: ") :].splitlines()
    assert all(part in first for part in problem), first
    assert last.startswith("remedy: ") and all(part in last for part in remedy), last
    if place:
        assert lines[1].startswith("  at: ") and place in lines[1], lines[1]
