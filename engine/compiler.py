"""The compiled kernels: the C files of this folder, built once for a machine by the C compiler it has, and loaded.

Where there is no compiler, or ``REG_KERNELS=torch`` is set, there are none, and torch does the same arithmetic to the
same bits, several times slower.
"""

import ctypes
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

from registry.fingerprint import digest_text
from registry.whole_file import put_in_place

SOURCES = tuple(sorted(Path(__file__).parent.glob("*.[ch]")))
"""What is compiled, and the headers it includes."""

_FLAGS = (
    "-O3", "-fPIC", "-shared", "-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math",
    "-fno-strict-aliasing",
)  # fmt: skip
_SECONDS = 120
_KEPT_BYTES = 64 << 20  # of freed memory that stays with the process
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # parameters of mallopt
_LARGEST_BYTES = 32 << 20  # that the C library takes from its heap


@cache
def library() -> ctypes.CDLL | None:
    """The compiled kernels; None where there are none."""
    if os.environ.get("REG_KERNELS") == "torch":
        return None
    compiler = os.environ.get("CC") or shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        return None
    texts = (source.read_text(encoding="utf-8") for source in SOURCES)
    key = digest_text("\0".join((*texts, compiler, *_FLAGS, _machine())))
    try:
        built = _folder() / f"kernels-{key[:16]}.so"
        if not built.is_file():
            _build(compiler, built)
        return ctypes.CDLL(str(built))
    except (OSError, RuntimeError, subprocess.SubprocessError):  # RuntimeError: nobody's home
        return None


@cache
def keep_memory() -> None:
    """Let freed memory stay with the process, as far as the C library can be told.

    Slices come and go by the thousand; memory that is new each time costs more than the arithmetic done in it.
    """
    if sys.platform.startswith("linux"):
        mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
        if mallopt is not None:
            mallopt(_MMAP_THRESHOLD, _LARGEST_BYTES)
            mallopt(_TRIM_THRESHOLD, _KEPT_BYTES)


def _machine() -> str:
    """What the compiled code depends on: it uses all the processor has."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    flags = next((line for line in lines if line.startswith(("flags", "Features"))), "")
    return f"{platform.system()} {platform.machine()} {platform.processor()} {flags}"


def _folder() -> Path:
    """Where compiled kernels are kept."""
    cache_folder = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache_folder) / "homolog"


def _build(compiler: str, target: Path) -> None:
    """Compile to a file that appears whole; for this processor, else for any of its kind.

    Raises:
        OSError, SubprocessError: it cannot be done.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
        made = Path(scratch) / target.name
        for flags in ((*_FLAGS, "-march=native"), _FLAGS):
            sources = [str(source) for source in SOURCES if source.suffix == ".c"]
            command = [compiler, *flags, "-o", str(made), *sources, "-lm"]
            done = subprocess.run(command, capture_output=True, timeout=_SECONDS, check=False)  # noqa: S603 - the user's compiler, our arguments
            if done.returncode == 0:
                put_in_place(made, target)
                return
        raise subprocess.CalledProcessError(done.returncode, command)
