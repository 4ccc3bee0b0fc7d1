"""The import arrow of ARCHITECTURE.md, function-level imports included."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ROOMS = ("collector", "detectors", "rca", "api")
THIRD = {
    "duckdb": ("etio/store/",),
    "fastapi": ("api/",),
    "starlette": ("api/",),
    "uvicorn": ("api/",),
    "bcc": ("collector/ebpf/loader",),
    "pynvml": ("collector/",),
    "pyroute2": ("collector/",),
    "river": ("detectors/",),
    "statsmodels": ("detectors/",),
    "httpx": ("api/", "rca/llm/"),
    "rich": ("etio/show.py",),
}
CORE_BANS = {"threading", "subprocess", "asyncio", "time", "os", "socket", "pathlib_io", "logging", "random"}
STORE_USERS = ("etio/store/", "etio/daemon/", "etio/cli.py", "bench/")
SUBPROCESS_HOMES = ("etio/daemon/", "collector/ebpf/", "collector/gpu/guard.py", "bench/", "etio/store/")


def sources() -> list[Path]:
    return [p for room in (*ROOMS, "etio", "bench") for p in (ROOT / room).rglob("*.py")]


def imports(path: Path) -> list[tuple[str, int]]:
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found += [(a.name, node.lineno) for a in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            module = node.module or ""
            found += [(module, node.lineno)] + [(f"{module}.{a.name}", node.lineno) for a in node.names]
    return found


def breaks(name: str, modules: list[tuple[str, int]]) -> list[str]:
    room = name.split("/", maxsplit=1)[0]
    bad = []
    for module, line in modules:
        top = module.split(".")[0]
        place = f"{name}:{line} imports {module}"
        if (room in ROOMS and top in ROOMS and top != room) or (top == "bench" and room != "bench"):
            bad.append(f"{place}: siblings meet only through etio.core")
        if room in ROOMS and top == "etio" and not module.startswith("etio.core") and module != "etio":
            bad.append(f"{place}: a room may know etio.core only")
        if name.startswith("etio/core/") and (top in ROOMS or top in CORE_BANS or (
                module.startswith("etio.") and not module.startswith("etio.core"))):
            bad.append(f"{place}: core imports nothing of ours and touches nothing")
        if name.startswith("etio/store/") and (top in ROOMS or module.startswith(("etio.daemon", "etio.cli"))):
            bad.append(f"{place}: the store knows core only")
        if module.startswith("etio.store") and not name.startswith(STORE_USERS):
            bad.append(f"{place}: only the daemon opens the store")
        if top in THIRD and room != "bench" and not name.startswith(THIRD[top]):
            bad.append(f"{place}: {top} belongs to {', '.join(THIRD[top])}")
        if top == "subprocess" and not name.startswith(SUBPROCESS_HOMES):
            bad.append(f"{place}: no process is started from here")
    return bad


@pytest.mark.parametrize("path", sources(), ids=lambda p: str(p.relative_to(ROOT)))
def test_import_arrow(path: Path) -> None:
    assert breaks(str(path.relative_to(ROOT)), imports(path)) == []


@pytest.mark.parametrize(("name", "module"), [
    ("collector/disks.py", "rca.agent"),
    ("detectors/tail.py", "duckdb"),
    ("etio/core/engine.py", "time"),
    ("rca/who.py", "etio.store.history"),
    ("api/app.py", "etio.daemon.app"),
    ("rca/who.py", "subprocess"),
])
def test_the_check_itself_catches(name: str, module: str) -> None:
    assert breaks(name, [(module, 1)])


@pytest.mark.slow
def test_importing_rooms_needs_no_optional_library(tmp_path: Path) -> None:
    code = ("import sys\n"
            "class Ban:\n"
            "    def find_spec(self, name, path=None, target=None):\n"
            "        if name.split('.')[0] in ('pynvml', 'pyroute2', 'river', 'statsmodels', 'bcc'):\n"
            "            raise ImportError(name)\n"
            "sys.meta_path.insert(0, Ban())\n"
            "import collector, detectors, rca, api\n"
            "print(len(collector.discover()), len(detectors.discover()))\n")
    import subprocess
    import sys
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    assert all(int(n) > 3 for n in done.stdout.split())
