"""The command line: one file per verb. Heavy imports happen inside the verbs, so that help is instant."""

import sys
from collections.abc import Sequence
from types import ModuleType

from flawmap import __version__
from flawmap.cli.streams import discard_stdout, open_closed_streams, show_every_character
from flawmap.cli.verbs import VERBS, added_verb, added_verbs, overview
from flawmap.errors import UserError

EXIT_DONE, EXIT_CHECK_FAILED, EXIT_USER_ERROR, EXIT_INTERRUPTED = 0, 1, 2, 130
BENCHMARK = "benchmark"  # is listed in this package, and comes with flawmap-bench
RESUMABLE = ("train", "demo", "detect")
WORKING = (*RESUMABLE, "evaluate", "calibrate", "update", "export", "watch", BENCHMARK)  # the others only print


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb.

    Returns:
        0 done; 1 a check failed; 2 a usage or data error, or a bug (without a traceback unless ``--debug``);
        130 interrupted, with finished work kept.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    open_closed_streams()
    show_every_character()
    debug = "--debug" in words
    words = [word for word in words if word != "--debug"]
    try:
        code = _run(words)
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        print(f"\ninterrupted{_kept(words)}", file=sys.stderr)
        return EXIT_INTERRUPTED
    except BrokenPipeError:  # the reader of our output has gone, as in `flawmap ... | head`
        discard_stdout()
        if not words or words[0] not in WORKING:
            return EXIT_DONE
        print(f"interrupted: the reader of the output has gone{_kept(words)}", file=sys.stderr)
        return EXIT_INTERRUPTED
    except Exception as error:
        if debug:
            import traceback

            traceback.print_exc()
        print(f"error: {_explained(error, words)}", file=sys.stderr)
        return EXIT_USER_ERROR


def _kept(words: list[str]) -> str:
    resumable = bool(words) and words[0] in RESUMABLE
    return "; finished work is kept (the same command with --resume continues)" if resumable else ""


def _run(words: list[str]) -> int:
    if len(words) == 2 and words[0] == "help":
        words = [words[1], "--help"]
    if not words or words[0] in ("-h", "--help", "help"):
        print(overview())
        return EXIT_DONE
    if words[0] in ("-V", "--version"):
        print(f"flawmap {__version__}")
        return EXIT_DONE
    from flawmap.cli.arguments import parse

    verb = words[0]
    module = _module_of(verb)
    try:
        arguments = parse(verb, module.add_arguments, words[1:], getattr(module, "MEANING", VERBS.get(verb, "")))
    except SystemExit as done:  # --help was printed
        return int(done.code or 0)
    return module.run(arguments)


def _module_of(verb: str) -> ModuleType:
    """The module with a verb's ``add_arguments`` and ``run``; those of other packages come by entry points.

    Raises:
        UserError: there is no such verb, or it is not installed.
    """
    if verb in VERBS and verb != BENCHMARK:
        from importlib import import_module

        return import_module(f"flawmap.cli.{verb}")
    if (module := added_verb(verb)) is not None:
        return module
    if verb == BENCHMARK:
        raise UserError(
            "`flawmap benchmark` needs the package flawmap-bench", "", "in a clone of flawmap: pip install -e bench"
        )
    from difflib import get_close_matches

    near = get_close_matches(verb, [*VERBS, *added_verbs()], n=1)
    hint = f"did you mean flawmap {near[0]}?" if near else "flawmap --help lists all verbs"
    raise UserError(f"there is no verb {verb!r}", "", hint)


def _explained(error: Exception, words: list[str]) -> UserError:
    """The error in words that help: a full disk, missing permission or too little memory is not a bug."""
    if isinstance(error, UserError):
        return error
    if isinstance(error, OSError) and error.strerror:
        place = str(error.filename or "")
        return UserError(error.strerror, place, "check the path, its permissions and the free space")
    if isinstance(error, MemoryError) or "out of memory" in str(error) or "can't allocate memory" in str(error):
        return UserError("out of memory", "", "--device cpu, or a recipe with smaller images or batches")
    if isinstance(error, ModuleNotFoundError) and error.name and error.name.partition(".")[0] != "flawmap":
        from flawmap.extras import missing

        return missing(error.name.partition(".")[0])
    import shlex

    return UserError(
        f"{type(error).__name__}: {error}\nthis is a bug in flawmap; please report it",
        "",
        f"run `{shlex.join(['flawmap', *words, '--debug'])}` and include its output",
    )
