"""What holds for every anomaly simulator alike, on images of all kinds and sizes."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flawmap.errors import UserError
from flawmap.recipe.settings import SimulationSettings
from flawmap.simulators.by_name import simulator_by_name, simulator_names
from flawmap.simulators.color_jitter import is_gray
from flawmap.simulators.simulated_anomaly import SimulatedAnomaly, Simulator, anomaly_inside
from flawmap_bench.simulators.nsa import NSA_PARAMETERS, NaturalSyntheticAnomalies

MAKE: dict[str, Callable[[], Simulator]] = {
    **{name: lambda name=name: simulator_by_name(name, SimulationSettings()) for name in simulator_names()},
    "nsa, chest": lambda: NaturalSyntheticAnomalies(NSA_PARAMETERS["chest_xray"]),
    "nsa, bottle": lambda: NaturalSyntheticAnomalies(NSA_PARAMETERS["bottle"]),
}
every_simulator = pytest.mark.parametrize("name", MAKE)


def part(seed: int, height: int, width: int) -> np.ndarray:
    """Coloured waves with noise, read-only."""
    generator = np.random.default_rng(seed)
    rows, columns = np.mgrid[:height, :width]
    period, phase = generator.uniform(3, 12, 2), generator.uniform(0, 6, 3)
    waves = [50 * np.sin(rows / period[0] + p) + 50 * np.cos(columns / period[1] + p) for p in phase]
    return frozen(128 + np.stack(waves, axis=2) + generator.normal(0, 6, (height, width, 3)))


def frozen(pixels: np.ndarray) -> np.ndarray:
    image = np.asarray(pixels).clip(0, 255).astype(np.uint8)
    image.setflags(write=False)  # whoever writes into his input raises
    return image


def gray(image: np.ndarray) -> np.ndarray:
    return frozen(np.repeat(image[..., :1], 3, axis=2))


def attention_of(seed: int) -> np.ndarray:
    weights = np.random.default_rng(seed).random((5, 7), np.float32) ** 4
    weights.setflags(write=False)
    return weights


def check_the_rules(image: np.ndarray, anomaly: SimulatedAnomaly) -> None:
    changed = (anomaly.image != image).any(axis=2)
    assert anomaly.image.shape == image.shape and anomaly.footprint.shape == image.shape[:2]
    assert not (changed & ~anomaly.footprint).any()
    assert anomaly.label == int(changed.any()) == int(anomaly.footprint.any())
    assert anomaly.soft_target.dtype == np.float32
    assert anomaly.soft_target.min() >= 0 and anomaly.soft_target.max() <= 1
    assert (anomaly.soft_target[~anomaly.footprint] == 0).all()


def images_of_many_kinds(generator: np.random.Generator, height: int, width: int) -> list[np.ndarray]:
    shape = (height, width, 3)
    return [
        part(int(generator.integers(1000)), height, width),
        part(int(generator.integers(1000)), height, width),
        gray(part(int(generator.integers(1000)), height, width)),
        frozen(generator.integers(0, 256, shape)),
        frozen(np.full(shape, generator.integers(0, 256))),
        frozen(np.zeros(shape)),
        frozen(np.full(shape, 255)),
    ]


def draw_many_times(name: str, draws: int) -> int:
    """Simulates on pairs of images of all kinds, at 64 px; how often something changed."""
    simulator, generator = MAKE[name](), np.random.default_rng(0)
    images = images_of_many_kinds(generator, 64, 64)
    labels = 0
    for number in range(draws):
        image, second = (images[index] for index in generator.integers(0, len(images), 2))
        anomaly = simulator(image, generator, attention_of(number % 10), second)
        check_the_rules(image, anomaly)
        labels += anomaly.label
    return labels


@every_simulator
def test_keeps_the_rules_on_images_of_all_kinds(name: str):
    assert draw_many_times(name, 200) > 60


@pytest.mark.slow
@pytest.mark.parametrize("name", simulator_names())
def test_keeps_the_rules_ten_thousand_times(name: str):
    assert draw_many_times(name, 10_000) > 3_000


@every_simulator
def test_the_generator_decides_and_nothing_else(name: str):
    image, second, attention = part(1, 96, 96), part(2, 96, 96), attention_of(3)

    def draw(seed: int) -> SimulatedAnomaly:
        np.random.seed(np.random.randint(1000))  # what the global state is does not matter
        return MAKE[name]()(image, np.random.default_rng(seed), attention, second)

    for seed in range(8):
        one, same = draw(seed), draw(seed)
        assert np.array_equal(one.image, same.image) and np.array_equal(one.footprint, same.footprint)
        assert np.array_equal(one.soft_target, same.soft_target) and one.label == same.label
    different = {draw(seed).image.tobytes() for seed in range(8)}
    assert len(different) >= 7


@every_simulator
@settings(max_examples=12)
@given(height=st.integers(32, 150), width=st.integers(32, 150), seed=st.integers(0, 2**31))
def test_images_of_any_shape_can_be_given(name: str, height: int, width: int, seed: int):
    generator = np.random.default_rng(seed)
    image, second = part(seed % 977, height, width), part(seed % 971 + 1, height, width)
    check_the_rules(image, MAKE[name]()(image, generator, attention_of(seed), second))


@every_simulator
def test_tiny_images_get_visible_anomalies(name: str):
    labels = []
    for seed in range(40):
        image, second = part(seed, 32, 32), part(seed + 1, 32, 32)
        anomaly = MAKE[name]()(image, np.random.default_rng(seed), attention_of(seed), second)
        check_the_rules(image, anomaly)
        labels.append(anomaly.label)
    assert np.mean(labels) > 0.5


@every_simulator
def test_gray_images_stay_gray(name: str):
    for seed in range(20):
        image, second = gray(part(seed, 64, 80)), gray(part(seed + 1, 64, 80))
        assert is_gray(MAKE[name]()(image, np.random.default_rng(seed), attention_of(seed), second).image)


@every_simulator
def test_colours_are_not_lost(name: str):
    image, second = part(0, 64, 64), part(1, 64, 64)
    anomalies = [MAKE[name]()(image, np.random.default_rng(seed), attention_of(seed), second) for seed in range(10)]
    assert any(
        np.ptp(anomaly.image[anomaly.footprint].astype(int), axis=1).max() > 20
        for anomaly in anomalies
        if anomaly.label
    )


@every_simulator
def test_a_simulator_raises_where_something_it_needs_is_missing(name: str):
    simulator = MAKE[name]()
    image, second, attention = part(0, 64, 64), part(1, 64, 64), attention_of(2)
    given = {"attention": attention, "second": second}
    needed = {need: given[need] for need in simulator.needs}
    enough = simulator(image, np.random.default_rng(0), **needed)
    more = simulator(image, np.random.default_rng(0), **given)
    assert np.array_equal(enough.image, more.image)  # what is not needed is not used
    for need in needed:
        with pytest.raises(ValueError, match=need):
            simulator(image, np.random.default_rng(0), **{**needed, need: None})


def test_every_simulator_says_what_it_needs():
    needs = {name: simulator_by_name(name, SimulationSettings()).needs for name in simulator_names()}
    assert [name for name, needed in needs.items() if "attention" in needed] == ["attention_cutpaste", "varied"]
    assert [name for name, needed in needs.items() if "second" in needed] == ["varied", "fpi", "nsa", "pii"]
    assert len(needs) == 10


def test_unknown_names_are_refused_with_the_known_ones():
    with pytest.raises(UserError) as caught:
        simulator_by_name("cutmix", SimulationSettings())
    assert "cutmix" in caught.value.problem
    assert all(name in caught.value.remedy for name in simulator_names())


def test_settings_reach_ours_and_its_control():
    settings = SimulationSettings(min_size=0.25, max_size=0.25, max_rotation_deg=0.0, min_scale=1.0, max_scale=1.0)
    for name in ("attention_cutpaste", "random_cutpaste"):
        anomaly = simulator_by_name(name, settings)(
            part(0, 80, 80), np.random.default_rng(0), np.ones((2, 2), np.float32), None
        )
        assert anomaly.footprint.sum() == 20 * 20


def test_anomaly_inside_cuts_to_the_footprint():
    image, patched = part(0, 32, 32), part(1, 32, 32)
    footprint = np.zeros((32, 32), bool)
    footprint[4:9, 20:30] = True
    soft = np.full((32, 32), 0.25)
    anomaly = anomaly_inside(image, patched, footprint, soft)
    assert np.array_equal(anomaly.image[footprint], patched[footprint])
    assert np.array_equal(anomaly.image[~footprint], image[~footprint])
    assert np.array_equal(anomaly.soft_target, 0.25 * footprint) and anomaly.label == 1
    assert np.array_equal(anomaly_inside(image, patched, footprint).soft_target, footprint)


def test_anomaly_inside_gives_label_0_where_nothing_changed():
    image, footprint = part(0, 32, 32), np.ones((32, 32), bool)
    anomaly = anomaly_inside(image, image.copy(), footprint, np.ones((32, 32)))
    assert anomaly.label == 0 and not anomaly.footprint.any() and not anomaly.soft_target.any()
    assert np.array_equal(anomaly.image, image) and footprint.all()


def test_is_gray_sees_a_single_coloured_pixel():
    image = np.full((32, 32, 3), 7, np.uint8)
    assert is_gray(image)
    for channel in range(3):
        coloured = image.copy()
        coloured[31, 0, channel] = 8
        assert not is_gray(coloured)


def test_the_built_in_simulators_come_first_and_others_are_registered():
    names = simulator_names()
    assert names[:3] == ("attention_cutpaste", "varied", "random_cutpaste")
    assert set(names[3:]) == {"cutpaste", "scar", "cutpaste_union", "fpi", "pii", "nsa", "draem"}
