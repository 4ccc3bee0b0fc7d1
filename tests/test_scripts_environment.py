"""The virtual environment of scripts/run and its siblings: made once, made anew when it cannot be used."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

LIB = Path(__file__).resolve().parent.parent / "scripts" / "lib.sh"
PIP = 'pip_install() { echo "pip $1"; }; '
"""In place of what takes a minute and a network."""
OLD_PYTHON = '#!/bin/sh\ncase "$2" in *print*) echo 3.10;; *) exit 1;; esac\n'


def script(prefix: Path, text: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(["bash", "-c", f'. "{LIB}"; {text}'], env={**os.environ, "ETIO_PREFIX": str(prefix)},
                          capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an environment that is as it should be, but for its packages; half an old one was there before."""
    folder = tmp_path_factory.mktemp("prefix")
    (folder / "venv/bin").mkdir(parents=True)
    (folder / "venv/bin/python").symlink_to("/nonexistent")
    (folder / "stamp").write_text("unfinished\n")
    done = script(folder, PIP + 'make_venv ""')
    assert done.returncode == 0, done.stderr
    assert done.stderr.endswith("anew: its installation was interrupted\n")
    assert done.stdout.splitlines() == ["pip setuptools", "pip --no-build-isolation"]
    return folder


@pytest.fixture
def prefix(made: Path, tmp_path: Path) -> Iterator[Path]:
    """The same, which a test may break."""
    shutil.copytree(made / "venv/bin", tmp_path / "bin", symlinks=True)
    packages, stamp = next((made / "venv/lib").glob("python3*")), (made / "stamp").read_text()
    yield made
    next((made / "venv/lib").glob("python3*")).rename(packages)
    shutil.rmtree(made / "venv/bin")
    shutil.copytree(tmp_path / "bin", made / "venv/bin", symlinks=True)
    (made / "stamp").write_text(stamp)


def replace_pip(prefix: Path, command: str) -> None:
    (prefix / "venv/bin/pip").write_text(f"#!/bin/sh\n# {prefix}/venv/bin/python\n{command}\n")


def fault(prefix: Path) -> str:
    done = script(prefix, "venv_fault")
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_a_second_run_installs_nothing(made: Path) -> None:
    done = script(made, PIP + 'make_venv ""')
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_relative_folder_is_meant_from_where_the_script_was_called(made: Path) -> None:
    assert script(Path(os.path.relpath(made)), 'cd /; echo "$prefix"').stdout.strip() == str(made)


def test_sources_that_have_not_changed_are_not_installed_again(prefix: Path) -> None:
    replace_pip(prefix, "echo installed")
    assert script(prefix, "install_sources; install_sources").stdout == "installed\n"
    replace_pip(prefix, "exit 1")
    assert script(prefix, 'rm "$prefix/sources"; install_sources').returncode == 2
    assert fault(prefix) == "its installation was interrupted"


def test_an_interrupted_installation_begins_again(tmp_path: Path) -> None:
    killed = script(tmp_path, 'new_venv() { mkdir -p "$prefix/venv"; echo unfinished >"$prefix/stamp"; }; '
                              'pip_install() { kill -9 $$; }; make_venv ""')
    assert killed.returncode == -9
    assert fault(tmp_path) == "its installation was interrupted"


@pytest.mark.parametrize(("broken", "words"), [("gone", "its Python is gone"), ("old", "it has Python 3.10"),
                                               ("upgraded", "its packages are of another one"),
                                               ("moved", "it was made in another folder")])
def test_an_environment_that_cannot_be_used_is_made_anew(prefix: Path, broken: str, words: str) -> None:
    python, packages = prefix / "venv/bin/python", next((prefix / "venv/lib").glob("python3*"))
    if broken == "upgraded":
        packages.rename(packages.with_name("python3.4"))
    elif broken == "moved":
        pip = prefix / "venv/bin/pip"
        pip.write_text(pip.read_text().replace(str(prefix), "/elsewhere"))
    else:
        python.unlink()
        if broken == "old":
            python.write_text(OLD_PYTHON)
            python.chmod(0o755)
    done = script(prefix, PIP + 'new_venv() { echo new; }; make_venv ""')
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0] == "new"
    assert done.stderr.startswith(f"==> making the virtual environment in {prefix}/venv anew: ")
    assert done.stderr.endswith(f"{words}\n")
    assert done.stderr.count("\n") == 1


def test_a_failed_update_leaves_what_was_there(prefix: Path) -> None:
    (prefix / "stamp").write_text("of another version\n")
    replace_pip(prefix, "exit 1")
    done = script(prefix, 'make_venv ""')
    assert done.returncode == 2
    assert "PIP_INDEX_URL" in done.stderr
    assert (prefix / "stamp").read_text() == "of another version\n"


def test_an_environment_of_somebody_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "venv").mkdir()
    (tmp_path / "venv" / "precious").touch()
    done = script(tmp_path, PIP + 'make_venv ""')
    assert done.returncode == 2
    assert "not etio's" in done.stderr
    assert (tmp_path / "venv" / "precious").exists()
