"""Faults of the machine: a few of each kind in the quick tests, fifty kills of every verb in the slow ones."""

import random
import sys
from pathlib import Path

import pytest
from faults import Campaign, can_mount

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="processes are forked, disks are mounted")


QUICK = ("calibrate", "detect")


@pytest.fixture(scope="module")
def campaign(tmp_path_factory: pytest.TempPathFactory) -> Campaign:
    return Campaign(tmp_path_factory.mktemp("faults"), QUICK)


@pytest.mark.parametrize("verb", QUICK)
@pytest.mark.parametrize("kind", ["kill", "torn", "twice", "forbidden", "full"])
def test_a_fault_costs_nothing_that_was_finished(campaign: Campaign, kind: str, verb: str) -> None:
    if kind == "full" and not can_mount():
        pytest.skip("a small disk cannot be mounted here: that needs root")
    getattr(campaign, kind)(verb, random.Random(f"{kind}/{verb}"))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["kill", "torn", "twice", "forbidden", "full"])
def test_many_faults_of_every_verb(kind: str, tmp_path: Path) -> None:
    if kind == "full" and not can_mount():
        pytest.skip("a small disk cannot be mounted here: that needs root")
    campaign, problems = Campaign(tmp_path), []
    for verb in campaign.verbs:
        for number in range(50 if kind == "kill" else 10):
            try:
                getattr(campaign, kind)(verb, random.Random(f"{kind}/{verb}/{number}"))
            except Exception as error:
                problems.append(f"{verb} {number}: {error}")
    assert problems == []
