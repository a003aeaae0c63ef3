"""The audit fails for a known vulnerability, and not because nobody could be asked."""

import json

from flawmap_bench.audit import verdict


def answer(*packages: dict) -> str:
    return json.dumps({"dependencies": packages, "fixes": []})


def test_a_known_vulnerability_is_named_and_fails():
    flaw = {"id": "PYSEC-1", "fix_versions": ["2.1"], "aliases": [], "description": ""}
    code, lines = verdict(answer({"name": "a", "version": "1.0", "vulns": [flaw]}))
    assert code == 1
    assert lines == [
        "audited 1 of 1 packages; the others are not known to the service",
        "a 1.0: PYSEC-1, fixed in: 2.1",
    ]


def test_no_vulnerability_passes_and_says_how_many_packages_were_asked_for():
    code, lines = verdict(
        answer({"name": "a", "version": "1.0", "vulns": []}, {"name": "b", "skip_reason": "not found"})
    )
    assert code == 0
    assert lines == ["audited 1 of 2 packages; the others are not known to the service"]


def test_a_missing_service_is_said_and_passes():
    assert verdict("") == (0, ["not audited: the service of pip-audit cannot be reached"])
    assert verdict("Traceback (most recent call last)")[0] == 0
    assert verdict("[]")[0] == 0
