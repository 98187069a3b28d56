"""
On what a result was measured: the machine and the versions, without anything that names its owner.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import subprocess
from pathlib import Path

from benchmarks import golang, haproxy, nginx

PACKAGES = ("twistproxy", "twisted", "aiohttp", "uvloop")


def describeMachine() -> dict[str, str]:
    """
    Describe the hardware and the kernel.

    @return: what, and its description.
    """
    cpuinfo = _read("/proc/cpuinfo")
    model = re.search(r"^model name\s*:\s*(.+)$", cpuinfo, re.MULTILINE)
    memory = re.search(r"^MemTotal:\s*(\d+) kB", _read("/proc/meminfo"), re.MULTILINE)
    # The flag is set by hypervisors, on the architecture that has it.
    virtual = ", virtual" if re.search(r"^flags\s*:.*\bhypervisor\b", cpuinfo, re.MULTILINE) else ""
    return {
        "CPU": f"{model[1] if model else platform.machine()}, {os.cpu_count()} cores{virtual}",
        "memory": f"{int(memory[1]) / 1e6:.0f} GB" if memory else "?",
        "kernel": f"Linux {platform.release().partition('-')[0]}",
        "load at the start": f"{os.getloadavg()[0]:.1f}",
    }


def describeVersions() -> dict[str, str]:
    """
    List the versions of what took part.

    @return: program, and version; C{?} for one that is missing.
    """
    versions = {"Python": platform.python_version()}
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = "?"
    try:
        versions["Go"] = golang.version()
    except golang.CannotBuild:
        versions["Go"] = "?"
    versions["nginx"] = _ask(r"nginx/(\S+)", nginx.findNginx(), "-v")
    versions["HAProxy"] = _ask(r"HAProxy version (\d[\d.]*)", haproxy.findHaproxy(), "-v")
    versions["wrk"] = _ask(r"wrk (?:debian/)?(\S+)", "wrk", "-v")
    versions["curl"] = _ask(r"curl (\S+)", "curl", "--version")
    return versions


def _ask(pattern: str, *command: str) -> str:
    try:
        result = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError:
        return "?"
    found = re.search(pattern, result.stdout + result.stderr)
    return found[1] if found else "?"


def _read(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError:
        return ""
