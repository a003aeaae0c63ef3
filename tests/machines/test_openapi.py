"""The server against its own OpenAPI description: whatever a client sends, the answer is one of those described."""

from collections.abc import Iterator
from typing import Any

import pytest
from fuzz_readers import brightness_model
from hypothesis import HealthCheck, given, settings

schemathesis = pytest.importorskip("schemathesis")

OPERATIONS = (
    ("POST", "/v1/detect"),
    ("POST", "/v1/reviews"),
    ("GET", "/v1/model"),
    ("GET", "/v1/session"),
    ("DELETE", "/v1/session"),
    ("GET", "/v1/session/{sha256}"),
    ("GET", "/v1/session.csv"),
    ("GET", "/v1/drift"),
    ("GET", "/v1/days"),
    ("GET", "/healthz"),
    ("GET", "/readyz"),
    ("GET", "/metrics"),
)


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    served = brightness_model()
    reviews = tmp_path_factory.mktemp("served") / "reviews.csv"
    with served.serving(served.BrightnessModel(), reviews, max_pixels=40_000) as found:
        yield found.port


def described(port: int) -> Any:
    return schemathesis.openapi.from_url(f"http://127.0.0.1:{port}/openapi.json")


def test_every_address_is_tried(port: int) -> None:
    schema = described(port)
    assert {(method.upper(), path) for path in schema for method in schema[path]} == set(OPERATIONS)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("examples", [10, pytest.param(500, marks=pytest.mark.slow)])
@pytest.mark.parametrize("operation", OPERATIONS, ids=" ".join)
def test_answers_are_those_that_are_described(port: int, operation: tuple[str, str], examples: int) -> None:
    method, path = operation
    # not every string of bytes is an image, and not every hash one of an image that was scored
    checks = [schemathesis.checks.load_all_checks(), schemathesis.checks.CHECKS.get_one("positive_data_acceptance")][1:]

    @settings(max_examples=examples, deadline=None, suppress_health_check=list(HealthCheck))
    @given(case=described(port)[path][method].as_strategy())
    def answers(case: Any) -> None:
        case.call_and_validate(excluded_checks=checks)

    answers()
