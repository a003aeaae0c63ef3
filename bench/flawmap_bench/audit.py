"""Ask the Python Package Index for known vulnerabilities of the installed packages. Where it cannot be asked, say so.

    python -m flawmap_bench.audit

Exits with 1 if a package has a known vulnerability, and with 0 if none is known or nobody could be asked.
"""

import json
import subprocess
import sys

COMMAND = (sys.executable, "-m", "pip_audit", "--local", "--skip-editable", "--progress-spinner", "off", "-f", "json")


def verdict(answer: str) -> tuple[int, list[str]]:
    """The exit code and the lines for people.

    Args:
        answer: what pip-audit printed; not JSON where its service could not be reached.
    """
    try:
        packages = json.loads(answer)["dependencies"]
    except (ValueError, KeyError, TypeError):
        return 0, ["not audited: the service of pip-audit cannot be reached"]
    audited = [package for package in packages if "skip_reason" not in package]
    lines = [f"audited {len(audited)} of {len(packages)} packages; the others are not known to the service"]
    found = [(package, flaw) for package in audited for flaw in package["vulns"]]
    for package, flaw in found:
        fixed = ", ".join(flaw["fix_versions"]) or "none yet"
        lines.append(f"{package['name']} {package['version']}: {flaw['id']}, fixed in: {fixed}")
    return int(bool(found)), lines


def main() -> int:
    """Run pip-audit."""
    try:
        done = subprocess.run(COMMAND, capture_output=True, text=True, timeout=300)
    except subprocess.TimeoutExpired:
        return print("not audited: the service of pip-audit does not answer") or 0
    code, lines = verdict(done.stdout)
    print(*lines, sep="\n")
    return code


if __name__ == "__main__":
    sys.exit(main())
