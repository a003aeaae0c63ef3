"""What the table shows of a run, and how the seeds of a board and method are put together."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from flawmap_bench.boards.all_boards.find import FoundBoard
from flawmap_bench.boards.scoreboard import Measured, measured
from flawmap_bench.methods import title_of

CONFOUNDER = "view="  # a stratum by which images are told apart without a look at the defect


@dataclass(frozen=True)
class Measure:
    """One measure: its title, ``image`` or ``pixel``, and its name there."""

    title: str
    level: str
    name: str

    @property
    def key(self) -> str:
        """Its name in JSON."""
        return f"{self.level}_{self.name}"


IMAGE_AUROC = Measure("image AUROC", "image", "auroc")
PIXEL_AP = Measure("pixel AP", "pixel", "average_precision")
AUPRO_30 = Measure("AUPRO .3", "pixel", "aupro_30")
MEASURES = (
    IMAGE_AUROC,
    Measure("image AP", "image", "average_precision"),
    Measure("pixel AUROC", "pixel", "auroc"),
    PIXEL_AP,
    AUPRO_30,
    Measure("AUPRO .05", "pixel", "aupro_05"),
)
REGION_MEASURES = (  # of methods that have a threshold of map values
    Measure("SegF1", "pixel", "f1_at_threshold"),
    Measure("region precision", "pixel", "region_precision"),
)
COSTS = ("train_processor_seconds", "processor_seconds_per_image", "peak_memory_mib")


@dataclass(frozen=True)
class BoardRow:
    """One method on one board.

    Attributes:
        board: which one.
        method: by name.
        results: what each finished seed measured.
        failures: why others did not finish.
    """

    board: FoundBoard
    method: str
    results: Mapping[int, Mapping[str, Any]]
    failures: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        """How tables call the method."""
        return title_of(self.method)

    @property
    def is_within_views(self) -> bool:
        """Whether image measures are means over views."""
        return any(_views(result) for result in self.results.values())

    def values(self, measure: Measure) -> dict[int, float]:
        """The measure with each finished seed, in [0, 1]; nothing where the board does not have it."""
        values = {seed: value_of(result, measure) for seed, result in self.results.items()}
        return {seed: value for seed, value in values.items() if value is not None}

    def summary(self, measure: Measure) -> Measured | None:
        """Mean and standard error over seeds; None where the board does not have the measure, or nothing has run."""
        return measured(list(self.values(measure).values()))

    def cost(self, name: str) -> float | None:
        """The mean over seeds of one of the :data:`COSTS`; None where it was not counted."""
        costs = [float(result[name]) for result in self.results.values() if result.get(name) is not None]
        return sum(costs) / len(costs) if costs else None


def value_of(result: Mapping[str, Any], measure: Measure) -> float | None:
    """A measure of one run, in [0, 1]; None where the board does not have it.

    X-rays of a patient who lies (AP) are more often abnormal than of one who stands (PA), so ranking the views already
    ranks the images. Where a test has views, image measures are the mean over the views that have both classes.
    """
    views = _views(result)
    if measure.level == "image" and views:
        return sum(view[measure.key] for view in views.values()) / len(views)
    return result.get(measure.level, {}).get(measure.name, {}).get("value")


def _views(result: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """The strata of a run that are views with normal and abnormal images."""
    strata = result.get("by_stratum", {})
    return {
        name: stratum
        for name, stratum in strata.items()
        if name.startswith(CONFOUNDER) and stratum.get(IMAGE_AUROC.key) is not None
    }


def view_values(result: Mapping[str, Any]) -> dict[str, float]:
    """Image AUROC within each view."""
    return {name: view[IMAGE_AUROC.key] for name, view in _views(result).items()}


def in_percent(value: Measured | None) -> str:
    """97.0 ± 0.2, with the standard error where there are several seeds; a dash for None."""
    if value is None:
        return "–"
    error = "" if value.standard_error is None else f" ± {100 * value.standard_error:.1f}"
    return f"{100 * value.mean:.1f}{error}"
