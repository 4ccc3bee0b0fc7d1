"""What runs under the distribution's /usr/bin/python3 (the warden and the loaders) keeps to Python 3.10, that of
Ubuntu 22.04, whatever the daemon itself may use."""

import ast
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "collector" / "ebpf"
OLDEST = (3, 10)
PROGRAMS = ("loader", "loader_jobs", "warden")
OPTIONAL = {"bcc"}
IMPORT = """
import runpy, sys, types
sys.modules["bcc"] = types.ModuleType("bcc")
runpy.run_path(sys.argv[1], run_name="not_main")
print(*sorted(name.rpartition(".")[2] for name in sys.modules if name.startswith("collector.ebpf.")))
"""


YOUNG = """from datetime import UTC
from typing import Self
from enum import StrEnum
import tomllib
import os; os.unshare(0)
"""
"""A younger Python's names, one a line."""


def imports(text: str) -> set[str]:
    """Full names of all modules, and of what may be modules, that a source text imports anywhere."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(text, feature_version=OLDEST)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {str(node.module), *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def reached() -> dict[str, set[str]]:
    """Name of each module of ours that the programs import, themselves included: what it imports."""
    found: dict[str, set[str]] = {}
    waiting = list(PROGRAMS)
    while waiting:
        name = waiting.pop()
        if name not in found and (FOLDER / f"{name}.py").is_file():
            found[name] = imports((FOLDER / f"{name}.py").read_text())
            waiting += [one.removeprefix("collector.ebpf.") for one in found[name] if one.startswith("collector.ebpf.")]
    return found


def interpreters() -> list[str]:
    """The distribution's own Python and every other one from 3.10 on that is at hand."""
    names = ["/usr/bin/python3", *(f"python3.{minor}" for minor in range(OLDEST[1], 20))]
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"), "versions")
    names += [str(found) for found in sorted(pyenv.glob("3.1[0-9]*/bin/python3"))]
    paths = {os.path.realpath(path) for name in names if (path := shutil.which(name))}
    return sorted(path for path in paths if is_young_enough(path))


def is_young_enough(path: str) -> bool:
    """Whether this interpreter is promised to do; False as well where it does not run (a shim without one)."""
    done = subprocess.run([path, "-I", "-c", f"import sys; sys.exit(sys.version_info < {OLDEST})"], check=False,
                          capture_output=True)
    return done.returncode == 0


def mypy(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Types and names of the standard library as Python 3.10 has them."""
    version = ".".join(map(str, OLDEST))
    return subprocess.run([sys.executable, "-m", "mypy", "--python-version", version, *arguments], cwd=folder,
                          capture_output=True, text=True, check=False)


def test_the_programs_are_those_that_can_be_started() -> None:
    started = {path.stem for path in FOLDER.glob("*.py") if '__name__ == "__main__"' in path.read_text()}
    assert started == set(PROGRAMS)


def test_they_import_the_standard_library_and_their_siblings_only() -> None:
    for name, imported in reached().items():
        roots = {one.partition(".")[0] for one in imported}
        assert roots - OPTIONAL - {"collector"} <= sys.stdlib_module_names, name
        assert not [one for one in imported if one.startswith("collector.") and not one.startswith("collector.ebpf")]


def test_no_name_is_younger_than_the_oldest_python() -> None:
    done = mypy(ROOT, *(word for name in PROGRAMS for word in ("-m", f"collector.ebpf.{name}")))
    assert done.returncode == 0, done.stdout + done.stderr


def test_younger_names_would_be_noticed(tmp_path: Path) -> None:
    (tmp_path / "young.py").write_text(YOUNG)
    told = mypy(tmp_path, "young.py").stdout
    assert [line for line in range(1, YOUNG.count("\n") + 1) if f"young.py:{line}: error" not in told] == []
    with pytest.raises(SyntaxError):
        imports("try: ...\nexcept* OSError: ...\n")


@pytest.mark.parametrize("python", interpreters())
@pytest.mark.parametrize("program", PROGRAMS)
def test_every_interpreter_at_hand_imports_them(python: str, program: str) -> None:
    done = subprocess.run([python, "-I", "-B", "-W", "error", "-c", IMPORT, str(FOLDER / f"{program}.py")],
                          capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert set(done.stdout.split()) <= set(reached())
