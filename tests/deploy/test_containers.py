"""The containers: small, not root, and installable; no engine is needed to know that."""

import re
import subprocess
import tomllib
import venv
from pathlib import Path

import pytest
import yaml

REPO = Path(__file__).parents[2]
DOCKER = REPO / "docker"
DOCKERFILES = ["runtime.Dockerfile", "training.Dockerfile"]


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
        needed = [*project["dependencies"], *project["optional-dependencies"]["serve"]]
        assert extras == "serve" and not [one for one in needed if re.match(r"torch|timm|lightning|opencv", one)]


def test_the_services_use_these_files_and_let_nobody_else_in():
    services = yaml.safe_load((DOCKER / "compose.yaml").read_text(encoding="utf-8"))["services"]
    for service in services.values():
        assert (DOCKER / service["build"]["context"] / service["build"]["dockerfile"]).is_file()
        assert service["cap_drop"] == ["ALL"] and service["security_opt"] == ["no-new-privileges:true"]
    inspection = services["inspection"]
    assert inspection["ports"] == ["127.0.0.1:8321:8321"] and inspection["read_only"] is True
    assert inspection["environment"]["FLAWMAP_TOKEN"].startswith("${FLAWMAP_TOKEN:?")
    assert "../models:/models:ro" in inspection["volumes"]


@pytest.mark.slow
def test_the_runtimes_install_steps_work_in_a_clean_environment(tmp_path):
    """The same pip command as in the file, then a server that says what is missing."""
    venv.create(tmp_path / "venv", with_pip=True)
    python = tmp_path / "venv" / "bin" / "python"
    build = tmp_path / "build"
    build.mkdir()
    for arguments in all_of("runtime.Dockerfile", "COPY"):
        *sources, target = arguments.split()
        for source in sources:
            place = tmp_path / target.lstrip("/")
            subprocess.run(["cp", "-r", REPO / source, place], check=True)
    (step,) = re.findall(r'pip install --no-cache-dir "/build\[serve\]"', " ".join(all_of("runtime.Dockerfile", "RUN")))
    words = step.replace('"/build', str(build)).replace('"', "").split()
    done = subprocess.run([python, "-m", *words], capture_output=True, text=True)
    if done.returncode != 0 and re.search(r"No matching distribution|Connection|retr", done.stderr + done.stdout):
        pytest.skip("no package index can be reached")
    assert done.returncode == 0, done.stderr
    listed = subprocess.run([python, "-m", "pip", "list"], capture_output=True, text=True, check=True).stdout
    assert "onnxruntime" in listed and not re.search(r"^(torch|timm|opencv)", listed, re.MULTILINE)
    flawmap = tmp_path / "venv" / "bin" / "flawmap"
    said = subprocess.run([flawmap, "serve", "none.onnx"], capture_output=True, text=True, cwd=tmp_path)
    assert said.returncode == 2 and "error: no such file: none.onnx" in said.stderr
