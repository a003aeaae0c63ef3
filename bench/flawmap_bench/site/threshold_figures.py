"""The figures of docs/thresholds.md, drawn from made-up scores and from exact formulas.

python -m flawmap_bench.site.threshold_figures docs/images
"""

import sys
from pathlib import Path

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.stats import beta

from flawmap.metrics.rates import threshold_for_false_alarm_rate

GOOD, DEFECT, LINE = "#4477aa", "#cc6633", "#222222"
N_GOOD, RATE = 400, 0.05


def _figure(width: float, height: float, columns: int = 1) -> tuple[Figure, list[Axes]]:
    figure = Figure((width, height), layout="constrained")
    axes = [figure.add_subplot(1, columns, number + 1) for number in range(columns)]
    for one in axes:
        one.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _threshold(axes: Axes, value: float, text: str) -> None:
    axes.axvline(value, color=LINE, linewidth=1.2)
    axes.annotate(
        text, (value, 0.97), (5, 0), xycoords=axes.get_xaxis_transform(), textcoords="offset points", va="top"
    )


def good_and_defective() -> Figure:
    """One threshold, and the two mistakes that it trades."""
    generator = np.random.default_rng(0)
    good, defects = generator.normal(0, 1, N_GOOD), generator.normal(3.2, 1.3, N_GOOD // 4)
    threshold = threshold_for_false_alarm_rate(good, RATE).value
    figure, (axes,) = _figure(7, 2.8)
    bins = np.arange(-4, 8, 0.25).tolist()
    axes.hist(good, bins, color=GOOD, alpha=0.75, label=f"{N_GOOD} good images, each scored unseen")
    axes.hist(defects, bins, color=DEFECT, alpha=0.75, label="defects, which set nothing")
    _threshold(axes, threshold, f"threshold for {RATE:.0%}")
    alarms, missed = int((good > threshold).sum()), int((defects <= threshold).sum())
    axes.annotate(
        f"{alarms} false alarms", (threshold + 0.4, 6), (threshold + 0.6, 19), arrowprops={"arrowstyle": "->"}
    )
    axes.annotate(
        f"{missed} defects missed", (threshold - 1, 2), (threshold - 5.2, 24), arrowprops={"arrowstyle": "->"}
    )
    axes.set(xlabel="image score", ylabel="images", xlim=(-4.2, 8))
    axes.legend(frameon=False, loc="center right", bbox_to_anchor=(1, 0.8), fontsize="small")
    return figure


def what_a_number_of_images_promises() -> Figure:
    """The false-alarm rates that a threshold for 5 % really has, with so many good images to set it from."""
    counts = np.unique(np.geomspace(20, 2000, 60).astype(int))
    allowed = np.floor(RATE * (counts + 1))  # good images above the threshold
    figure, (axes,) = _figure(7, 2.8)
    low, high = (100 * beta.ppf(share, allowed, counts + 1 - allowed) for share in (0.025, 0.975))
    axes.fill_between(counts, low, high, color=GOOD, alpha=0.3, label="19 of 20 thresholds")
    axes.plot(counts, 100 * allowed / (counts + 1), color=GOOD, label="on average")
    axes.axhline(100 * RATE, color=LINE, linewidth=0.8, linestyle=":")
    axes.set(xscale="log", xlabel="good images that set the threshold", ylabel="false alarms, %", ylim=(0, 20))
    axes.set_xticks([20, 50, 100, 200, 500, 1000, 2000], ["20", "50", "100", "200", "500", "1,000", "2,000"])
    axes.minorticks_off()
    axes.legend(frameon=False)
    return figure


def another_camera() -> Figure:
    """A threshold where it was set, on a camera that it was not set for, and set again there."""
    generator = np.random.default_rng(1)
    here, there = generator.normal(0, 1, N_GOOD), generator.normal(1.6, 1.2, N_GOOD)
    old, new = (threshold_for_false_alarm_rate(scores, RATE).value for scores in (here, there))
    figure, panels = _figure(9, 2.6, columns=3)
    titles = "where it was set", "on another camera", "set again there"
    for axes, scores, threshold, title in zip(panels, (here, there, there), (old, old, new), titles, strict=True):
        bins = np.arange(-4, 7, 0.25).tolist()
        above = scores > threshold
        axes.hist([scores[~above], scores[above]], bins, stacked=True, color=[GOOD, DEFECT])
        _threshold(axes, threshold, f"{above.mean():.1%} above")
        axes.set(title=title, xlabel="score of good images", xlim=(-4, 7), ylim=(0, 48))
    return figure


FIGURES = {
    "threshold_trade.svg": good_and_defective,
    "threshold_images.svg": what_a_number_of_images_promises,
    "threshold_camera.svg": another_camera,
}


def main(folder: Path) -> None:
    """Write all figures into a folder."""
    for name, draw in FIGURES.items():
        with rc_context({"svg.fonttype": "none", "svg.hashsalt": name}):
            draw().savefig(folder / name, metadata={"Date": None})


if __name__ == "__main__":
    main(Path(sys.argv[1]))
