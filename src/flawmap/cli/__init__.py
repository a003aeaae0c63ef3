"""The command line: one file per verb. Heavy imports happen inside the verbs, so that help is instant."""

import io
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from types import ModuleType

from flawmap import __version__
from flawmap.cli.verbs import VERBS, overview
from flawmap.errors import UserError

EXIT_DONE, EXIT_CHECK_FAILED, EXIT_USER_ERROR, EXIT_INTERRUPTED = 0, 1, 2, 130
CAN_GO_ON = ("train", "demo", "detect")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb.

    Returns:
        0 done; 1 a check failed; 2 a mistake the user can repair, or a bug (printed without a traceback unless
        ``--debug``); 130 interrupted, with what was done kept.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    for stream in (sys.stdout, sys.stderr):  # a file name that the terminal cannot show is no reason to stop
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    debug = "--debug" in words
    words = [word for word in words if word != "--debug"]
    if not words or words[0] in ("-h", "--help", "help"):
        print(overview())
        return EXIT_DONE
    if words[0] == "--version":
        print(f"flawmap {__version__}")
        return EXIT_DONE
    try:
        code = _run(words)
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        kept = "; what was finished is kept (go on with --resume)" if words[0] in CAN_GO_ON else ""
        print(f"\ninterrupted{kept}", file=sys.stderr)
        return EXIT_INTERRUPTED
    except BrokenPipeError:  # the reader of our output has gone, as `flawmap ... | head` does
        _forget_stdout()
        return EXIT_DONE
    except Exception as error:
        if debug:
            import traceback

            traceback.print_exc()
        print(_as_text(error, words), file=sys.stderr)
        return EXIT_USER_ERROR


def _run(words: list[str]) -> int:
    from importlib import import_module

    verb = words[0]
    if verb not in VERBS:
        from difflib import get_close_matches

        near = get_close_matches(verb, VERBS, n=1)
        hint = f"did you mean flawmap {near[0]}?" if near else "flawmap --help lists all verbs"
        raise UserError(f"there is no verb {verb!r}", "", hint)
    module = _benchmark() if verb == "benchmark" else import_module(f"flawmap.cli.{verb}")
    from flawmap.cli.arguments import parse

    try:
        parsed = parse(verb, module.add_arguments, words[1:])
    except SystemExit as done:  # --help was asked for, and printed
        return int(done.code or 0)
    return module.run(parsed)


def _benchmark() -> ModuleType:
    """The verb of the package flawmap-bench, which is installed beside flawmap or is not.

    Raises:
        UserError: it is not installed.
    """
    from importlib.metadata import entry_points

    for found in entry_points(group="flawmap.verbs", name="benchmark"):
        return found.load()
    raise UserError("`flawmap benchmark` needs the package flawmap-bench", "", "in a clone: pip install -e bench")


def _forget_stdout() -> None:
    """Python flushes stdout once more when it ends, which would fail and say so."""
    with suppress(OSError, ValueError):  # stdout may be no file
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _as_text(error: Exception, words: list[str]) -> str:
    if not isinstance(error, UserError):
        error = _of_the_machine(error) or _bug(error, words)
    place = f"\n  at: {error.place}" if error.place else ""
    remedy = f"\nremedy: {error.remedy}" if error.remedy else ""
    return f"error: {error.problem}{place}{remedy}"


def _of_the_machine(error: Exception) -> UserError | None:
    """A full disk, a folder without permission or too little memory is nobody's bug; None for anything else."""
    if isinstance(error, OSError) and error.strerror:
        place = str(error.filename or "")
        return UserError(error.strerror, place, "check the path, its permissions and the space left there")
    if isinstance(error, MemoryError) or "out of memory" in str(error) or "can't allocate memory" in str(error):
        return UserError("out of memory", "", "--device cpu, or a recipe with smaller detect.sizes_px or batches")
    if isinstance(error, ModuleNotFoundError) and (error.name or "").partition(".")[0] != "flawmap":
        return UserError(f"the package {error.name} is not installed", "", 'pip install "flawmap[train]"')
    return None


def _bug(error: Exception, words: list[str]) -> UserError:
    import shlex

    return UserError(
        f"{type(error).__name__}: {error}\nthis is a bug of flawmap, not of yours",
        "",
        f"run `{shlex.join(['flawmap', *words, '--debug'])}` and report what it prints",
    )
