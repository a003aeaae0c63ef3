"""Watches the images of one camera: do they still score and look as the good images of the model's calibration do?

``flawmap detect`` watches the images of a call, ``flawmap serve`` all that it gets. The statistics, and what a warning
promises, are in :mod:`flawmap.metrics.drift_chart`. Needs no torch.
"""

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import msgspec

from flawmap.advice import command
from flawmap.detect.detection import APPEARANCE_DISTANCE
from flawmap.metrics.drift_chart import DEFECTIVE_SHARE, IMAGES_PER_FALSE_WARNING, Chart, half_exceed
from flawmap.metrics.score_drift import WHAT_CHANGES
from flawmap.runs.calibration import Calibration
from flawmap.runs.run_folder import MODEL_CONFIG
from flawmap.runs.threshold_names import options_of, whose

Measure = Literal["scores", "appearance"]
MEASURES: tuple[Measure, ...] = ("scores", "appearance")
KEPT_VALUES = 100  # of the last images, whose median is given
NAMED = 5  # images that moved most


@dataclass(frozen=True)
class Moved:
    """An image after a change.

    Attributes:
        image: its name; empty where the client gave none.
        sha256: of its file; empty where nobody computed it.
        value: of the measure.
    """

    image: str
    sha256: str
    value: float


@dataclass(frozen=True)
class Watched:
    """What is known of one measure after some images; the content of a watch that is stored.

    Attributes:
        chart: whether it warns.
        first: the first image after the most probable moment of a change; empty without one.
        since_utc: when that was, ISO 8601; empty where times are not known.
        last: values of the last images after that moment, at most ``KEPT_VALUES``.
        moved: the images after that moment that moved most, highest value first.
    """

    chart: Chart = field(default_factory=Chart)
    first: str = ""
    since_utc: str = ""
    last: tuple[float, ...] = ()
    moved: tuple[Moved, ...] = ()

    def after(self, image: Moved, is_above: bool, time_utc: str) -> "Watched":
        """The same after one more image."""
        chart = self.chart.after(is_above)
        n_since = chart.since[0]
        if n_since == 0:
            return Watched(chart)
        last = (*self.last, image.value)[-min(n_since, KEPT_VALUES) :]
        if n_since == 1:
            return Watched(chart, image.image, time_utc, last, (image,))
        others = tuple(one for one in self.moved if not one.sha256 or one.sha256 != image.sha256)
        moved = sorted((*others, image), key=lambda one: -one.value)[:NAMED]
        return Watched(chart, self.first, self.since_utc, last, tuple(moved))


@dataclass(frozen=True)
class _State:
    reference: str
    n_images: int
    measures: dict[str, Watched]


class DriftWatch:
    """The watch on one camera.

    Args:
        calibration: of the camera; its good images are compared with. Without one, nothing is watched.
        camera: or product, by the names of :mod:`flawmap.runs.threshold_names`; None stands for the default.

    Attributes:
        n_images: watched so far.
        levels: of each measure that is watched, see :func:`flawmap.metrics.drift_chart.half_exceed`.
        measures: what is known of each.
    """

    def __init__(self, calibration: Calibration | None, camera: str | None = None) -> None:
        self.camera: str | None = camera
        self.n_images: int = 0
        self._good = _good_values(calibration)
        n = calibration.n_independent if calibration else 0
        self.levels: dict[Measure, float] = {}
        for name, values in self._good.items():
            if (level := half_exceed(values, n)) is not None:
                self.levels[name] = level
        self.measures: dict[Measure, Watched] = {name: Watched() for name in self.levels}

    def see(self, scores: Mapping[str, float], score: float, image: str, sha256: str = "", time_utc: str = "") -> None:
        """Watch one more image.

        Args:
            scores: all image scores.
            score: the one that decides.
            image: its name.
            sha256: of its file.
            time_utc: ISO 8601.
        """
        self.n_images += 1
        values: dict[Measure, float | None] = {"scores": score, "appearance": scores.get(APPEARANCE_DISTANCE)}
        for name, level in self.levels.items():
            if (value := values[name]) is not None:
                moved = Moved(image, sha256, value)
                self.measures[name] = self.measures[name].after(moved, value > level, time_utc)

    @property
    def warnings(self) -> tuple[Measure, ...]:
        """The measures that have moved; empty without a warning."""
        return tuple(name for name in MEASURES if name in self.measures and self.measures[name].chart.is_warning)

    def text(self, model: Path | None, shown: Path | None = None) -> str:
        """The warning in plain sentences; empty without one.

        Args:
            model: its path, for commands; None where it is not known.
            shown: what the commands show instead, for readers who need not know where it lies.
        """
        if not self.warnings:
            return ""
        of = f" of {whose(self.camera)}" if self.camera else ""
        sentences = [f"The images{of} have moved away from the good images of the calibration."]
        sentences += [self._sentence(name) for name in self.warnings]
        most = dict.fromkeys(one.image for name in self.warnings for one in self.measures[name].moved if one.image)
        sentences += [f"Moved most: {', '.join([*most][:NAMED])}."] if most else []
        return " ".join([*sentences, *_advice(model, shown or model, self.camera)])

    def news(self, before: tuple[Measure, ...], model: Path | None) -> str:
        """What a person is told after an image: the warning where it begins, and where it ends; empty otherwise.

        Args:
            before: the warnings before the image.
            model: as of :meth:`text`.
        """
        if bool(before) == bool(self.warnings):
            return ""
        return self.text(model) or f"no longer{f', {whose(self.camera)}' if self.camera else ''}"

    def _sentence(self, name: Measure) -> str:
        watched, good = self.measures[name], self._good[name]
        n, n_above = watched.chart.since
        start = f"Since {watched.first}" if watched.first else "Lately"
        start += f" ({watched.since_utc})" if watched.since_utc else ""
        what = "score higher than" if name == "scores" else "look less like the training images than"
        middle, of_good = statistics.median(watched.last), statistics.median(good)
        return (
            f"{start}, {n_above} of {n} images {what} at least half of the {len(good)} good images: "
            f"their median {'score' if name == 'scores' else 'distance'} is {middle:.3g} instead of {of_good:.3g}."
        )

    def to_json(self, model: Path | None, shown: Path | None = None) -> dict[str, Any]:
        """All of it as JSON-ready values; see :meth:`text`."""
        return {
            "camera": self.camera,
            "n_images": self.n_images,
            "is_warning": bool(self.warnings),
            "text": self.text(model, shown),
            "not_watched": self.not_watched,
            "measures": [self._measure_json(name) for name in self.measures],
        }

    def _measure_json(self, name: Measure) -> dict[str, Any]:
        watched = self.measures[name]
        n, n_above = watched.chart.since
        return {
            "measure": name,
            "is_warning": watched.chart.is_warning,
            "n_since": n,
            "n_above": n_above,
            "since": watched.first,
            "since_utc": watched.since_utc,
            "level": self.levels[name],
            "middle": statistics.median(watched.last) if watched.last else None,
            "middle_of_good_images": statistics.median(self._good[name]),
            "moved_most": [asdict(one) for one in watched.moved],
        }

    @property
    def not_watched(self) -> str:
        """Which measures are not watched, and why; empty where both are."""
        if not self._good:
            return "nothing is watched: without a threshold there are no good images to compare with"
        if "scores" not in self.levels:
            return "nothing is watched: at least 10 good images are needed to compare with"
        if "appearance" not in self.levels:
            return (
                "appearance is not watched: the model does not measure it, or an earlier flawmap set the threshold; "
                "in that case, calibrate again"
            )
        return ""

    # ---- across restarts

    @property
    def reference(self) -> str:
        """What images are compared with; a watch goes on only while it is the same."""
        return json.dumps(self.levels)

    def stored(self) -> str:
        """The state, for :meth:`restore`."""
        measures = {str(name): watched for name, watched in self.measures.items()}
        return msgspec.json.encode(_State(self.reference, self.n_images, measures)).decode("ascii")

    def restore(self, text: str) -> None:
        """Go on from what :meth:`stored` gave; not where that was compared with other good images, or is damaged."""
        try:
            state = msgspec.json.decode(text, type=_State)
        except (ValueError, msgspec.MsgspecError):
            return
        if state.reference == self.reference and set(state.measures) == set(self.measures):
            self.n_images = state.n_images
            self.measures = {name: state.measures[name] for name in self.measures}


def _good_values(calibration: Calibration | None) -> dict[Measure, Sequence[float]]:
    if calibration is None:
        return {}
    return {"scores": calibration.held_out_scores, "appearance": calibration.appearance_distances}


def _advice(model: Path | None, shown: Path | None, camera: str | None) -> list[str]:
    place = shown or Path("MODEL")
    calibrate = command("flawmap", "calibrate", place, "GOOD_IMAGES", *options_of(camera))
    is_run = model is None or not (model.is_file() or (model / MODEL_CONFIG).is_file())  # no file, no model alone
    update = f"; {command('flawmap', 'update', place, 'GOOD_IMAGES')} teaches what is new" if is_run else ""
    return [
        f"Look at them: has something changed, for example {WHAT_CHANGES}, or are many of these parts defective?",
        f"If good parts look so from now on, {calibrate} sets a new threshold{update}.",
        f"A camera that has not changed gives a false warning less than once in {IMAGES_PER_FALSE_WARNING:,} images on "
        f"average, as long as at most {DEFECTIVE_SHARE:.0%} of the parts are defective.",
    ]
