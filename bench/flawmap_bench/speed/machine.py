"""Which processor and which versions a measurement was made with."""

import os
import platform
import re
import resource
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

CPUINFO, STATUS = Path("/proc/cpuinfo"), Path("/proc/self/status")
VECTOR_FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "amx_int8", "amx_bf16", "asimd", "sve")
PACKAGES = ("flawmap", "torch", "onnxruntime", "openvino", "numpy", "timm", "anomalib")


def machine(threads: int, cpuinfo: Path = CPUINFO) -> str:
    """The processor (name, family, model number, vector flags), cores, threads and versions, as one paragraph."""
    packages = ", ".join(f"{name} {_version(name)}" for name in PACKAGES)
    python = f"Python {platform.python_version()}"
    return f"{processor(cpuinfo)}; {os.cpu_count()} cores, {threads} thread each unless said; {python}, {packages}"


def processor(cpuinfo: Path = CPUINFO) -> str:
    """The processor in words; without Linux's file, what Python knows.

    Names do not tell generations apart, so family and model number are given: AMD's family 25, model 17 is Zen 4, with
    vector units of 256 bits behind the 512-bit instructions.
    """
    try:
        text = cpuinfo.read_text(encoding="utf-8")
    except OSError:
        return f"{platform.processor() or platform.machine()}, {sys.platform}"
    facts = {key.strip(): value.strip() for key, value in re.findall(r"^([^:\n]+):(.*)$", text, re.MULTILINE)}
    flags = facts.get("flags", facts.get("Features", "")).split()
    known = ", ".join(flag for flag in VECTOR_FLAGS if flag in flags) or "no known vector flags"
    name = facts.get("model name", platform.machine())
    return f"{name}, family {facts.get('cpu family', '?')}, model {facts.get('model', '?')} ({known})"


def peak_memory_bytes(status: Path = STATUS) -> int:
    """The most memory that this process has had resident; without Linux's file, what ``getrusage`` knows.

    On Linux ``getrusage`` would count the memory of the process that has started this one.
    """
    try:
        found = re.search(r"^VmHWM:\s+(\d+) kB$", status.read_text(encoding="ascii"), re.MULTILINE)
    except OSError:
        found = None
    if found is not None:
        return int(found[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # macOS counts bytes


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
