"""Device and precision: what is chosen, why, and what is refused."""

import pytest
import torch

from flawmap.engine.compute import Compute, choose_compute
from flawmap.errors import UserError

pytestmark = pytest.mark.usefixtures("small_heads")


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch):
    """Makes the machine one with the given devices and abilities."""

    def make(cuda: int = 0, mps: bool = False, cpu_bf16: bool = False, cuda_bf16: bool = False) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: cuda)
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: cuda_bf16)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
        monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: cpu_bf16)

    return make


@pytest.mark.parametrize(
    ("has", "expected"),
    [
        ({}, Compute("cpu", "fp32", "no CUDA device visible")),
        ({"cpu_bf16": True}, Compute("cpu", "bf16", "no CUDA device visible; it computes in bf16")),
        ({"mps": True, "cpu_bf16": True}, Compute("mps", "fp32", "mps is the fastest device here")),
        ({"cuda": 1, "mps": True}, Compute("cuda", "fp32", "cuda is the fastest device here")),
        (
            {"cuda": 1, "cuda_bf16": True},
            Compute("cuda", "bf16", "cuda is the fastest device here; it computes in bf16"),
        ),
    ],
)
def test_auto_takes_the_fastest_and_says_why(machine, has: dict, expected: Compute):
    machine(**has)
    assert choose_compute() == expected


@pytest.fixture
def roundings():
    """CUDA's switches, all on; they are put back after the test."""
    products = torch.backends.cuda.matmul
    names = [(products, "allow_tf32"), (products, "allow_bf16_reduced_precision_reduction")]
    switches = [(torch.backends.cudnn, "allow_tf32"), *names]
    before = [getattr(owner, name) for owner, name in switches]
    for owner, name in switches:
        setattr(owner, name, True)
    yield switches
    for (owner, name), value in zip(switches, before, strict=True):
        setattr(owner, name, value)


def test_cuda_rounds_nowhere_more_than_asked(machine, roundings):
    machine(cuda=1)
    choose_compute("cpu")
    assert all(getattr(owner, name) for owner, name in roundings)  # they are none of a processor's
    choose_compute("cuda")
    assert not any(getattr(owner, name) for owner, name in roundings)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_what_is_asked_for_is_taken(machine, precision: str):
    machine(cuda=1, cpu_bf16=True, cuda_bf16=True)
    assert choose_compute("cpu", precision) == Compute("cpu", precision, "as asked")
    assert choose_compute("cpu") == Compute("cpu", "bf16", "as asked; it computes in bf16")


def test_int8_is_computed_on_the_processor_only(machine):
    machine(cuda=1, cuda_bf16=True)
    for device in ("auto", "cpu"):
        assert choose_compute(device, "fp32", encoder_precision="int8") == Compute("cpu", "fp32", "as asked")
    with pytest.raises(UserError) as caught:
        choose_compute("cuda", "fp32", encoder_precision="int8")
    assert caught.value.problem == "this model's encoder computes in int8, which --device cuda does not"
    assert caught.value.remedy.startswith("--device cpu")


def test_lightning_is_told_the_same_precision():
    assert Compute("cpu", "fp32", "").lightning_precision == "32-true"
    assert Compute("cpu", "bf16", "").lightning_precision == "bf16-mixed"


@pytest.mark.parametrize(
    ("device", "version", "problem"),
    [
        ("cuda", None, "--device cuda, but this torch build has no CUDA support"),
        ("cuda", "12.8", "--device cuda, but none is visible"),
        ("mps", None, "--device mps, but none is visible"),
    ],
)
def test_a_device_that_is_not_there_is_refused(
    machine, monkeypatch: pytest.MonkeyPatch, device: str, version: str | None, problem: str
):
    machine()
    monkeypatch.setattr(torch.version, "cuda", version)
    with pytest.raises(UserError) as caught:
        choose_compute(device)
    assert caught.value.problem == problem
    assert caught.value.place == "--device"
    assert caught.value.remedy == "install a matching torch build, or --device cpu"


@pytest.mark.parametrize(
    ("has", "device", "problem", "remedy"),
    [
        ({"cuda": 2}, "cuda", "3 devices are asked for, 2 cuda devices are visible", "--set compute.devices=2"),
        ({"mps": True}, "auto", "3 devices are asked for, 1 mps device is visible", "--set compute.devices=1"),
    ],
)
def test_more_devices_than_there_are_is_refused(machine, has: dict, device: str, problem: str, remedy: str):
    machine(**has)
    with pytest.raises(UserError) as caught:
        choose_compute(device, devices=3)
    assert (caught.value.problem, caught.value.place, caught.value.remedy) == (problem, "compute.devices", remedy)


def test_as_many_devices_as_there_are_is_accepted(machine):
    machine(cuda=3)
    assert choose_compute("cuda", devices=3).devices == 3


def test_a_processor_is_one_device(machine):
    machine()
    with pytest.raises(UserError) as caught:
        choose_compute("cpu", devices=3)
    assert "its cores share the work already" in caught.value.problem
    assert caught.value.remedy == "--set compute.devices=1"
    assert choose_compute("cpu", devices=1).devices == 1
