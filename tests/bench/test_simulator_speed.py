"""What is measured of the simulators' speed, and how it is shown."""

import time
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import pytest

from flawmap.simulators.by_name import simulator_names
from flawmap.simulators.simulated_anomaly import SimulatedAnomaly, Simulator, anomaly_inside
from flawmap_bench.speed.simulator_speed import images_per_second, measure, table


@dataclass(frozen=True)
class Busy(Simulator):
    """Takes a known time of the processor, and remembers what it was given."""

    calls: list = field(default_factory=list)
    seconds: float = 0.01
    needs: ClassVar = ("second",)

    def simulate(self, image: np.ndarray, generator: np.random.Generator, second: np.ndarray) -> SimulatedAnomaly:
        self.calls.append((int(image[0, 0, 0]), int(second[0, 0, 0]), generator.random()))
        started = time.process_time()
        while time.process_time() - started < self.seconds:
            pass
        return anomaly_inside(image, image, np.zeros(image.shape[:2], bool))


IMAGES = [np.full((32, 32, 3), value, np.uint8) for value in (1, 2, 3)]


def test_the_rate_is_that_of_the_processor():
    assert images_per_second(Busy(), IMAGES, 0) == pytest.approx(100, rel=0.3)


def test_each_image_comes_once_with_the_next_for_its_second():
    busy = Busy(seconds=0.0)
    for repetition in (0, 0, 1):
        images_per_second(busy, IMAGES, repetition)
    assert [call[:2] for call in busy.calls] == [(1, 2), (2, 3), (3, 1)] * 3
    numbers = [call[2] for call in busy.calls]
    assert numbers[:3] == numbers[3:6] and len(set(numbers)) == 6  # the same again, and others for another repetition


def test_all_simulators_are_measured():
    rates = measure(32, 2, 1)
    assert tuple(rates) == simulator_names()
    assert all(1 < rate < 1e6 for rate in rates.values())


def test_the_table_is_sorted_and_relative_to_ours():
    lines = table({"attention_cutpaste": 200.0, "fpi": 500.4, "draem": 50.0}, 224).splitlines()
    assert "224 px" in lines[0]
    assert [line.split() for line in lines[1:]] == [
        ["fpi", "500", "2.50"],
        ["attention_cutpaste", "200", "1.00"],
        ["draem", "50", "0.25"],
    ]
