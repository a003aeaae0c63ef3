"""Two Ray nodes on this machine, in two network namespaces: what tests with them need."""

import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

REPO = Path(__file__).parents[1]
TWO_NODES = REPO / "examples" / "two_nodes_ray.sh"
PLACES = os.pathsep.join((str(REPO / "src"), str(REPO / "bench"), os.environ.get("PYTHONPATH", "")))
# for scripts that run on the first node: another node in place of the second, whose processes are killed
REPLACE_SECOND = """
ip netns pids "$FLAWMAP_SECOND_NODE" | xargs kill -9
ip netns exec "$FLAWMAP_SECOND_NODE" taskset -c 1 ray start --address=$RAY_ADDRESS --node-ip-address=10.77.0.2 \
  --num-cpus=1 --object-store-memory=600000000 >/dev/null
"""


def skip_without_ray() -> None:
    """Skip a test where there is no Ray. It is not imported here, because ``--cluster local`` must be first."""
    if find_spec("ray") is None:
        pytest.skip("ray is not installed")


def skip_without_namespaces() -> None:
    """Skip a test where there is no Ray, or where two nodes cannot be made."""
    skip_without_ray()
    if sys.platform != "linux" or os.geteuid() != 0 or not shutil.which("ip") or (os.cpu_count() or 1) < 2:
        pytest.skip("two network namespaces need Linux, root, iproute2 and two cores")
    if subprocess.run(["unshare", "-n", "true"], check=False).returncode:
        pytest.skip("this container may not make network namespaces")


def flawmap_says(*words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run a command of flawmap in a process of its own, which must end well."""
    command = [sys.executable, "-m", "flawmap", *words]
    done = subprocess.run(command, cwd=cwd, env=environment(), capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    return done


def environment() -> dict[str, str]:
    """Of commands: the code of this repository, and its Python."""
    return os.environ | {"PYTHONPATH": PLACES, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
