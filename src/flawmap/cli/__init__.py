"""The command line: one file per verb. Heavy imports happen inside the verbs, so that help is instant."""

import sys
from collections.abc import Sequence

from flawmap import __version__
from flawmap.cli.verbs import VERBS, overview
from flawmap.errors import UserError

EXIT_DONE, EXIT_CHECK_FAILED, EXIT_USER_ERROR, EXIT_INTERRUPTED = 0, 1, 2, 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb.

    Returns:
        0 done; 1 a check failed; 2 a mistake the user can repair (printed without a traceback unless ``--debug``);
        130 interrupted, with what was done kept.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    if not words or words[0] in ("-h", "--help", "help"):
        print(overview())
        return EXIT_DONE
    if words[0] == "--version":
        print(f"flawmap {__version__}")
        return EXIT_DONE
    debug = "--debug" in words
    try:
        return _run([word for word in words if word != "--debug"])
    except UserError as error:
        if debug:
            raise
        print(_as_text(error), file=sys.stderr)
        return EXIT_USER_ERROR
    except KeyboardInterrupt:
        print("\ninterrupted; what was finished is kept (go on with --resume)", file=sys.stderr)
        return EXIT_INTERRUPTED
    except BrokenPipeError:  # the reader of our output has gone, as `flawmap ... | head` does
        sys.stderr.close()
        return EXIT_DONE
    except Exception as error:
        if debug:
            raise
        print(_as_bug(error, words), file=sys.stderr)
        return EXIT_USER_ERROR


def _run(words: list[str]) -> int:
    from importlib import import_module

    verb = words[0]
    if verb not in VERBS:
        from difflib import get_close_matches

        near = get_close_matches(verb, VERBS, n=1)
        hint = f"did you mean flawmap {near[0]}?" if near else "flawmap --help lists all verbs"
        raise UserError(f"there is no verb {verb!r}", "", hint)
    module = import_module(f"flawmap.cli.{verb}")
    from flawmap.cli.arguments import parse

    return module.run(parse(verb, module.add_arguments, words[1:]))


def _as_text(error: UserError) -> str:
    place = f"\n  at: {error.place}" if error.place else ""
    remedy = f"\nremedy: {error.remedy}" if error.remedy else ""
    return f"error: {error.problem}{place}{remedy}"


def _as_bug(error: Exception, words: list[str]) -> str:
    return (
        f"error: {type(error).__name__}: {error}\n"
        "this is a bug of flawmap, not of yours\n"
        f"remedy: run `flawmap {' '.join(words)} --debug` and report what it prints"
    )
