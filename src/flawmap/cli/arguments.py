"""Parsing, and the arguments that several verbs share."""

import math
import re
import shlex
from argparse import ArgumentParser, Namespace, _SubParsersAction
from collections.abc import Callable, Sequence
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from flawmap.errors import UserError
from flawmap.recipe.checks import refuse_without_effect
from flawmap.recipe.fields import settings_and_groups
from flawmap.recipe.files import load_recipe
from flawmap.recipe.settings import Recipe
from flawmap.storage.address import refuse_secrets

if TYPE_CHECKING:
    from flawmap.deploy.threshold_choice import ThresholdChoice

STRICT_HELP = "exit with 2 before anything is done if anything in a folder is left out"
NUMBERS = {
    "int": "a whole number",
    "float": "a number",
    "count": "a whole number above 0",
    "amount": "a number above 0",
}


class VerbParser(ArgumentParser):
    """Argparse that raises a :class:`UserError` instead of printing its usage and leaving the process."""

    def error(self, message: str) -> NoReturn:
        """Raises: UserError: ``message`` in our words where the type of a value is wrong, else as argparse has it."""
        wrong_type = re.fullmatch(r"argument (\S+): invalid (int|float|count|amount) value: '(.*)'", message)
        if wrong_type:
            option, kind, value = wrong_type.groups()
            message = f"{option} is {value}, must be {NUMBERS[kind]}"
            if option.endswith("-rate"):
                raise UserError(message, self.prog, "0.01 stands for 1 %, with a point")
        wrong_choice = re.search(r"invalid choice: '(.*)' \(choose from (.*)\)", message)
        if wrong_choice:
            value, choices = wrong_choice.groups()
            near = get_close_matches(value, re.findall(r"[\w.]+", choices), n=1)
            message += f"; did you mean {near[0]}?" if near else ""
        raise UserError(message, self.prog, f"{self.prog} --help")

    def refuse_unknown_options(self, words: Sequence[str]) -> None:
        """Raises: UserError: an option that the verb does not have; with the one that was probably meant."""
        known = set(self._option_string_actions)
        for action in self._actions:
            if isinstance(action, _SubParsersAction):
                chosen = next((action.choices[word] for word in words if word in action.choices), None)
                known |= set(chosen._option_string_actions) if chosen else set()
        for word in words:
            option = word.partition("=")[0]
            if option == "--":
                return
            if option.startswith("--") and option not in known:
                if "--set" in known and (setting := option.removeprefix("--")) in settings_and_groups():
                    raise UserError(f"unknown option {option}", self.prog, f"--set {setting}=VALUE")
                near = get_close_matches(option, known, n=1, cutoff=0.7)
                self.error(f"unknown option {option}" + (f"; did you mean {near[0]}?" if near else ""))

    def parsed(self, words: Sequence[str]) -> Namespace:
        """Parse; folders may also follow options, as in ``flawmap update RUN --dry-run FOLDER``."""
        has_verbs = any(isinstance(action, _SubParsersAction) for action in self._actions)  # cannot be mixed
        return self.parse_args(words) if has_verbs else self.parse_intermixed_args(words)


def parse(
    verb: str, add_arguments: Callable[[ArgumentParser], None], words: Sequence[str], meaning: str = ""
) -> Namespace:
    """Parse the words after the verb; its help begins with what it does.

    Returns:
        the arguments, and ``command``: what was typed, for the record.

    Raises:
        UserError: unknown, missing or empty arguments; or an address with a credential in it.
    """
    refuse_secrets(words)
    parser = VerbParser(prog=f"flawmap {verb}", description=meaning, allow_abbrev=False)
    add_arguments(parser)
    parser.refuse_unknown_options(words)
    arguments = parser.parsed(words)
    for name, value in vars(arguments).items():
        if value == "" or (isinstance(value, list) and "" in value):
            raise UserError(f"{name} is empty", parser.prog, "give it a value; is a shell variable unset?")
    arguments.command = shlex.join(["flawmap", verb, *words])
    return arguments


def count(text: str) -> int:
    """A whole number above 0, as the type of an argument; argparse names it in its message."""
    if (number := int(text)) < 1:
        raise ValueError
    return number


def amount(text: str) -> float:
    """A finite number above 0, as the type of an argument."""
    if not 0 < (number := float(text)) < math.inf:
        raise ValueError
    return number


def add_recipe_arguments(parser: ArgumentParser) -> None:
    """``--recipe``, ``--roi`` and ``--set``."""
    parser.add_argument("--recipe", help="a preset (quick, standard, paper, ...) or a YAML file (default: standard)")
    parser.add_argument(
        "--roi",
        metavar="FILE",
        help="region of interest: a PNG mask (white counts), or JSON, also by camera; short for --set data.roi=FILE",
    )
    add_set_argument(parser)


def add_set_argument(parser: ArgumentParser) -> None:
    """``--set``, of a recipe's settings."""
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="A.B=C",
        help="change one setting, such as memory.tokens=20000 (flawmap recipe standard lists them); repeatable",
    )


def add_data_argument(parser: ArgumentParser, may_be_missing: str = "") -> None:
    """DATA: good images, in one place or in several.

    Args:
        parser: of the verb.
        may_be_missing: when nothing need be given; empty where that is never so.
    """
    parser.add_argument(
        "data",
        nargs="*" if may_be_missing else "+",
        help="folder of good images, MVTec AD folder, manifest.csv, or elpv, here or in a store (s3://BUCKET/FOLDER); "
        "several count as one data set" + may_be_missing,
    )


def add_data_arguments(parser: ArgumentParser) -> None:
    """``--skip-unreadable``, ``--strict`` and ``--json``."""
    either = parser.add_mutually_exclusive_group()
    either.add_argument("--skip-unreadable", action="store_true", help="leave out files that cannot be decoded")
    either.add_argument("--strict", action="store_true", help=STRICT_HELP)
    add_json_argument(parser)


def add_device_argument(parser: ArgumentParser) -> None:
    """``--device``."""
    parser.add_argument(
        "--device", choices=("auto", "cpu", "cuda", "mps"), default="auto", help="where to compute (default: auto)"
    )


def add_cluster_argument(parser: ArgumentParser, what: str) -> None:
    """``--cluster``; ``what`` it does on the nodes."""
    parser.add_argument(
        "--cluster",
        metavar="local|auto|ADDRESS",
        help=f"{what} on the nodes of a Ray cluster: local starts one on this machine for this command, auto is the "
        "one that this machine is a node of, ADDRESS is HOST:PORT or ray://HOST:PORT (default: here, without Ray)",
    )


def add_camera_argument(parser: ArgumentParser) -> None:
    """``--product`` and ``--camera``, of the verbs that judge images."""
    parser.add_argument(
        "--product",
        metavar="NAME",
        help="all images show this product of a model of several (default: found for each image by likeness)",
    )
    parser.add_argument(
        "--camera",
        metavar="NAME",
        help="use threshold and region of interest of this camera (default: the common ones)",
    )


def add_threshold_arguments(parser: ArgumentParser) -> None:
    """How to judge: ``--product``, ``--camera``, ``--threshold``, ``--false-alarm-rate``, ``--min-area``."""
    add_camera_argument(parser)
    parser.add_argument(
        "--threshold",
        metavar="FILE",
        help="use the thresholds in this file of flawmap calibrate (default: MODEL.threshold.json beside an exported "
        "file, else those that the model carries)",
    )
    parser.add_argument(
        "--false-alarm-rate",
        type=float,
        help="use the thresholds that the same good images set for this rate (default: as calibrated)",
    )
    parser.add_argument(
        "--min-area",
        type=amount,
        metavar="AREA",
        help="leave out regions smaller than this many pixels of the image, or square millimetres with --mm-per-pixel; "
        "an image with smaller regions only is good (default: keep all)",
    )
    parser.add_argument("--mm-per-pixel", type=amount, metavar="MM", help="side of a pixel on the part, for --min-area")


def threshold_choice(arguments: Namespace) -> "ThresholdChoice":
    """How to judge, of the arguments of :func:`add_threshold_arguments`.

    Raises:
        UserError: the rate is outside (0, 1), or ``--mm-per-pixel`` has nothing to convert.
    """
    from flawmap.deploy.threshold_choice import ThresholdChoice
    from flawmap.runs.threshold_names import threshold_name

    area, side_mm = arguments.min_area or 0.0, arguments.mm_per_pixel
    if side_mm is not None and not area:
        problem = "--mm-per-pixel says what --min-area means, which is not given"
        raise UserError(problem, "--mm-per-pixel", "add --min-area with square millimetres, or leave it out")
    file = Path(arguments.threshold) if arguments.threshold else None
    min_area_px = area if side_mm is None else area / side_mm**2
    name = threshold_name(arguments.product, arguments.camera)
    return ThresholdChoice(name, file, arguments.false_alarm_rate, min_area_px)


def add_json_argument(parser: ArgumentParser) -> None:
    """``--json``."""
    parser.add_argument("--json", action="store_true", help="print only the result, as JSON")


def recipe_of(arguments: Namespace) -> Recipe:
    """The recipe that the arguments name, the recommended one if none, with ``--set`` applied.

    Raises:
        UserError: as :func:`load_recipe`; or ``--set`` changes a setting that the method does not use; or the region of
            interest cannot be read.
    """
    recipe = load_recipe(arguments.recipe or "standard", arguments.set)
    for override in arguments.set:
        refuse_without_effect(override.partition("=")[0].strip(), recipe, f"--set {override}")
    if (roi := getattr(arguments, "roi", None)) is not None:  # flawmap recipe has no such option
        refuse_without_effect("data.roi", recipe, "--roi")
        recipe = replace(recipe, data=replace(recipe.data, roi=roi))
    if recipe.data.roi is None:
        return recipe
    from flawmap.data.rois import with_roi_content  # here, because it loads numpy and Pillow

    return with_roi_content(recipe)
