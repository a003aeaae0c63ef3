"""How much space each extra of flawmap takes, from the files of the installed packages.

python -m flawmap_bench.installed_sizes
"""

import tomllib
from importlib.metadata import distribution
from pathlib import Path

from packaging.requirements import Requirement

from flawmap_bench.licences import closure

EXTRAS = (
    *("serve", "watch", "camera", "tables", "figures", "medical", "export", "tensorboard", "mlflow", "wandb"),
    *("storage", "cluster"),
    *("train", "train,demo", "studio"),
)
REPO = Path(__file__).parents[2]
CUDA = ("nvidia-", "cuda-", "triton")  # what torch asks for beside itself, to use NVIDIA GPUs


def packages_of(extras: str) -> set[str]:
    """The packages of the base and of extras such as ``train,demo``, as pyproject.toml asks for them."""
    project = tomllib.loads((REPO / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lines = [*project["dependencies"]]
    waiting = [extra for extra in extras.split(",") if extra]
    for extra in waiting:
        for asked in map(Requirement, project["optional-dependencies"][extra]):
            own = asked.name == project["name"]
            waiting += asked.extras if own else ()
            lines += () if own else (str(asked),)
    return closure(map(Requirement, lines)) | {project["name"]}


def size_mb(packages: set[str]) -> float:
    """The space that these packages take, without the bytecode that Python adds when it first runs them."""
    files = {Path(str(file.locate())) for package in packages for file in distribution(package).files or []}
    return sum(file.stat().st_size for file in files if file.is_file() and file.suffix != ".pyc") / 1e6


def table() -> str:
    """Size of the base, and of each extra together with it, as a table in Markdown."""
    lines = ["| installed | packages | MB | of it for NVIDIA GPUs |", "|---|---|---|---|"]
    for extra in ("", *EXTRAS):
        packages = packages_of(extra)
        cuda = {package for package in packages if package.startswith(CUDA)}
        name = f"`flawmap[{extra}]`" if extra else "`flawmap`"
        gpu = f"{size_mb(cuda):,.0f}" if cuda else "–"
        lines.append(f"| {name} | {len(packages)} | {size_mb(packages):,.0f} | {gpu} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(table(), end="")
