"""The containers: small, not root, and installable; no engine is needed to know that."""

import json
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
import venv
from pathlib import Path

import pytest
import yaml

from flawmap.recipe.files import to_yaml
from images import striped, write_good, write_image
from tiny_detector import fitted_detector, tiny_recipe

REPO = Path(__file__).parents[2]
DOCKER = REPO / "docker"
DOCKERFILES = ["runtime.Dockerfile", "training.Dockerfile"]
PYPI = "https://pypi.org/simple"


def instructions(name: str) -> list[tuple[str, str]]:
    """(INSTRUCTION, arguments) in order, continued lines joined, comments left out."""
    text = re.sub(r"^\s*#.*\n", "", (DOCKER / name).read_text(encoding="utf-8"), flags=re.MULTILINE)
    lines = [line for line in text.replace("\\\n", " ").splitlines() if line.strip()]
    return [(line.split(None, 1)[0], " ".join(line.split(None, 1)[1].split())) for line in lines]


def all_of(name: str, instruction: str) -> list[str]:
    return [arguments for found, arguments in instructions(name) if found == instruction]


@pytest.mark.parametrize("name", DOCKERFILES)
def test_an_image_names_its_base_copies_what_is_there_and_is_not_root(name):
    known = {"FROM", "ARG", "RUN", "COPY", "USER", "WORKDIR", "EXPOSE", "HEALTHCHECK", "ENTRYPOINT", "CMD"}
    assert {found for found, _ in instructions(name)} <= known
    (base,) = all_of(name, "FROM")
    assert re.fullmatch(r"python:3\.1[1-9]-slim", base)
    for arguments in all_of(name, "COPY"):
        for source in arguments.split()[:-1]:
            assert (REPO / source).exists() and f"!{source}" in (REPO / ".dockerignore").read_text().splitlines()
    assert [user for user in all_of(name, "USER") if user not in ("0", "root")] == ["10001"]
    order = [found for found, _ in instructions(name)]
    assert order.index("USER") > max(place for place, found in enumerate(order) if found == "RUN")
    for command in ("ENTRYPOINT", "CMD"):
        assert all_of(name, command)[0].startswith("[")  # without a shell, so that signals arrive


@pytest.mark.parametrize("name", DOCKERFILES)
def test_installed_extras_exist_and_the_runtime_has_no_torch(name):
    project = tomllib.loads((REPO / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    (extras,) = re.findall(r'"/build\[([\w,]+)\]"', " ".join(all_of(name, "RUN")))
    assert set(extras.split(",")) <= project["optional-dependencies"].keys()
    if name == "runtime.Dockerfile":
        extra = project["optional-dependencies"]
        needed = [*project["dependencies"], *extra["serve"], *extra["watch"]]
        assert extras == "serve,watch" and not [one for one in needed if re.match(r"torch|timm|lightning|opencv", one)]


def test_the_services_use_these_files_and_let_nobody_else_in():
    services = yaml.safe_load((DOCKER / "compose.yaml").read_text(encoding="utf-8"))["services"]
    for service in services.values():
        assert (DOCKER / service["build"]["context"] / service["build"]["dockerfile"]).is_file()
        assert service["cap_drop"] == ["ALL"] and service["security_opt"] == ["no-new-privileges:true"]
    inspection = services["inspection"]
    assert inspection["ports"] == ["127.0.0.1:8321:8321"] and inspection["read_only"] is True
    assert inspection["environment"]["FLAWMAP_TOKEN"].startswith("${FLAWMAP_TOKEN:?")
    assert "../models:/models:ro" in inspection["volumes"]


# ---- the same steps without an engine


def installed(name: str, place: Path, **arguments: str) -> Path:
    """Do what the image's COPY and pip lines do, in a clean virtual environment below ``place``; its bin folder.

    Args:
        name: of the file.
        place: an empty folder, which stands for the image's root.
        arguments: values of ARG lines, as ``--build-arg`` gives them.
    """
    venv.create(place / "venv", with_pip=True)
    (place / "build").mkdir()
    for copied in all_of(name, "COPY"):
        *sources, target = copied.split()
        for source in sources:
            subprocess.run(["cp", "-r", REPO / source, place / target.lstrip("/")], check=True)
    values = {name: default for name, _, default in (one.partition("=") for one in all_of(name, "ARG"))} | arguments
    for step in (step.strip() for command in all_of(name, "RUN") for step in command.split("&&")):
        if not step.startswith("pip "):
            continue
        for argument, value in values.items():
            step = step.replace(f"${{{argument}}}", value)
        words = shlex.split(step.replace("/build", str(place / "build")))
        words = [word for word in words if word != "--no-cache-dir"]  # which keeps images small, and tests slow
        done = subprocess.run([place / "venv/bin/python", "-m", *words], capture_output=True, text=True)
        if done.returncode != 0 and re.search(r"No matching distribution|Connection|retr", done.stderr + done.stdout):
            pytest.skip("no package index can be reached")
        assert done.returncode == 0, done.stderr
    shutil.rmtree(place / "build")
    return place / "venv" / "bin"


def said_by(program: Path, *words: object, here: Path) -> subprocess.CompletedProcess:
    """``flawmap WORDS`` of an environment, of which nothing of this one is seen."""
    command = [program / "python", "-I", "-m", "flawmap", *words]
    return subprocess.run([str(word) for word in command], capture_output=True, text=True, cwd=here)


def packages_in(program: Path) -> set[str]:
    listed = subprocess.run([program / "python", "-m", "pip", "list", "--format=json"], capture_output=True, check=True)
    return {one["name"].lower() for one in json.loads(listed.stdout)}


@pytest.mark.slow
def test_the_runtime_as_its_image_installs_it_detects_with_an_exported_file_and_has_no_torch(tmp_path):
    pytest.importorskip("onnxscript")
    from flawmap.deploy.export import export_model
    from flawmap.deploy.parity import CheckImage

    image = write_image(tmp_path / "part.png", striped(3))
    export_model(fitted_detector(), tmp_path / "tile.onnx", "onnx", [CheckImage(image)])
    program = installed("runtime.Dockerfile", tmp_path)
    packages = packages_in(program)
    assert packages >= {"flawmap", "onnxruntime", "uvicorn"} and not packages & {"torch", "timm", "opencv-python"}
    found = said_by(program, "detect", image, "--model", "tile.onnx", "--json", here=tmp_path)
    assert found.returncode == 0, found.stderr
    assert json.loads(found.stdout)["score"] == pytest.approx(fitted_detector().predict(image).score, abs=1e-4)
    missing = said_by(program, "serve", "none.onnx", here=tmp_path)
    assert missing.returncode == 2 and "error: no such file: none.onnx" in missing.stderr


@pytest.mark.slow
def test_the_training_as_its_image_installs_it_trains_and_exports(tmp_path):
    """From pip's own index, as ``--build-arg TORCH_INDEX=...`` would choose it."""
    if shutil.disk_usage(tmp_path).free < 15e9:
        pytest.skip("the training image wants 15 GB of free disk")
    index = subprocess.run([sys.executable, "-m", "pip", "config", "get", "global.index-url"], capture_output=True)
    place = tmp_path / "image"
    place.mkdir()
    program = installed("training.Dockerfile", place, TORCH_INDEX=index.stdout.decode().strip() or PYPI)
    try:
        write_good(tmp_path / "parts")
        (tmp_path / "tiny.yaml").write_text(to_yaml(tiny_recipe()), encoding="utf-8")
        for words in (
            ("train", "parts", "--run", "runs/parts", "--recipe", "tiny.yaml", "--device", "cpu"),
            ("export", "runs/parts", "--output", "parts.onnx", "--count", "4"),
            ("detect", "parts/000.png", "--model", "parts.onnx"),
        ):
            done = said_by(program, *words, here=tmp_path)
            assert done.returncode == 0, done.stderr
    finally:
        shutil.rmtree(place)  # 6 GB; pytest keeps the folders of its last three sessions
