"""Where it was measured: processor, memory, kernel, file system and versions, and nothing that tells whose it is."""

import hashlib
import os
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path

import disk
from cases import ROOT


def describe(folder: Path) -> dict[str, str]:
    """The machine in words; the file system is that of ``folder``."""
    return {
        "processor": _field("/proc/cpuinfo", "model name") or platform.machine(),
        "cores": str(os.cpu_count()),
        "memory": f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB",
        "kernel": f"{platform.system()} {platform.release()}",
        "file system": _file_system(folder),
        "the disk writes": disk.speeds(folder),
        "Python": platform.python_version(),
        "torch": version("torch"),
    }


def sources() -> str:
    """A digest of the code that is measured: results of other code are not its own."""
    digest = hashlib.sha256()
    for room in ("registry", "engine", "cli", "schema"):
        for file in sorted((ROOT / room).rglob("*")):
            if file.suffix in {".c", ".h", ".py", ".sql"}:
                digest.update(f"{file.relative_to(ROOT)}\0".encode() + file.read_bytes())
    return digest.hexdigest()[:16]


def mergekit_program(path: Path) -> Path:
    """`mergekit-yaml` of an environment named by its folder, its Python or that program itself."""
    places = (path / "bin", path.parent) if path.is_dir() else (path.parent,)
    for place in places:
        if (place / "mergekit-yaml").is_file():
            return (place / "mergekit-yaml").absolute()
    message = f"no mergekit-yaml beside {path}"
    raise SystemExit(message)


def mergekit_version(program: Path) -> str:
    """The version of mergekit that a program belongs to."""
    asked = "from importlib.metadata import version; print(version('mergekit'))"
    answer = subprocess.run(
        [program.parent / "python", "-c", asked], check=True, capture_output=True, text=True
    )
    return answer.stdout.strip()


def _field(file: str, name: str) -> str:
    """The first value of a field in one of the kernel's tables."""
    for line in Path(file).read_text(encoding="utf-8").splitlines():
        key, _, value = line.partition(":")
        if key.strip() == name:
            return value.strip()
    return ""


def _file_system(folder: Path) -> str:
    """Type of the file system that holds ``folder``: that of the longest mount point above it."""
    resolved, best, found = folder.resolve(), -1, "unknown"
    for line in Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines():
        before, _, after = line.partition(" - ")
        point = Path(before.split()[4].replace("\\040", " "))
        if resolved.is_relative_to(point) and len(point.parts) >= best:
            best, found = len(point.parts), after.split()[0]
    return found
