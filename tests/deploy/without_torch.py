"""What an exported file gives in a process that has the base installation alone."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import flawmap

WITHOUT_TORCH = """
import json, sys

class Forbid:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"torch", "torchvision", "timm", "lightning", "cv2", "jaxtyping", "onnx", "openvino",
                                  "scipy"}:
            raise ImportError(name + " is not part of the base installation")

sys.meta_path.insert(0, Forbid())
sys.path.insert(0, sys.argv[1])
"""
PREDICT = """
import flawmap.deploy
print(json.dumps(flawmap.deploy.load(sys.argv[2], threads=1).predict(sys.argv[3]).to_json()))
"""


def predicted_without_torch(file: Path, image: Path) -> dict[str, Any]:
    return run_without_torch(PREDICT, file, image)


def run_without_torch(code: str, *arguments: object) -> Any:
    """What the code prints as JSON; the arguments are ``sys.argv[2:]``."""
    source = Path(flawmap.__file__).parents[1]
    command = [sys.executable, "-I", "-c", WITHOUT_TORCH + code, source, *arguments]
    done = subprocess.run([*map(str, command)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)
