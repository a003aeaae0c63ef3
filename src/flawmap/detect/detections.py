"""The verdicts on several images: a list, which is also a table."""

from html import escape
from typing import TYPE_CHECKING, Any

from flawmap.detect.detection import Detection
from flawmap.drawing.verdict_picture import verdict_of
from flawmap.extras import needs

if TYPE_CHECKING:
    from pandas import DataFrame

SHOWN = 60  # rows in a notebook, as many as pandas shows


class Detections(list[Detection]):
    """Verdicts in the order of the images; a list in every respect."""

    def to_records(self) -> list[dict[str, Any]]:
        """A row for each image.

        Returns:
            ``image`` (its path, empty for an image in memory), ``verdict`` (``anomaly``, ``ok`` or ``no threshold``),
            ``score``, ``threshold`` (None without one), ``regions`` (how many), ``left_px``, ``top_px``, ``right_px``
            and ``bottom_px`` of the strongest region (None without one).
        """
        return [_record(detection) for detection in self]

    def to_pandas(self) -> "DataFrame":
        """The rows of :meth:`to_records` as a table of pandas, numbered from 0.

        Raises:
            MissingPackageError: pandas is not installed, which comes with the extra ``tables``.
        """
        with needs("pandas", "a table"):
            from pandas import DataFrame
        return DataFrame(self.to_records(), columns=list(COLUMNS))

    def _repr_html_(self) -> str:
        """A table in a notebook, without pandas."""
        head = "".join(f"<th>{name}</th>" for name in COLUMNS)
        shown = [_record(detection) for detection in self[:SHOWN]]
        rows = ["".join(f"<td>{_shown(value)}</td>" for value in row.values()) for row in shown]
        more = f"<p>and {len(self) - SHOWN} more</p>" if len(self) > SHOWN else ""
        return f"<table><tr>{head}</tr>{''.join(f'<tr>{row}</tr>' for row in rows)}</table>{more}"


COLUMNS = ("image", "verdict", "score", "threshold", "regions", "left_px", "top_px", "right_px", "bottom_px")


def _record(detection: Detection) -> dict[str, Any]:
    verdict = verdict_of(detection)
    box = detection.regions[0].box_xyxy_px if detection.regions else (None,) * 4
    values = (detection.score, detection.threshold, len(detection.regions), *box)
    return dict(zip(COLUMNS, (detection.name, verdict.replace("ANOMALY", "anomaly"), *values), strict=True))


def _shown(value: object) -> str:
    return "" if value is None else f"{value:.3f}" if isinstance(value, float) else escape(str(value))
