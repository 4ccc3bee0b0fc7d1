"""A drill that cannot cause its fault is an error of that drill: the others go on, and the run ends with 1."""

import contextlib
from collections.abc import Iterator
from typing import Any, cast

import pytest

from bench.daemon import Daemon
from bench.drills import Drill, discover
from bench.drills.__main__ import _one, summary
from bench.drills._tools import sh
from etio.core.errors import EtioError


class Alive:
    """The parts of a daemon that a run of a drill asks. code: exit status of its process, None while it runs."""

    def __init__(self, code: int | None = None) -> None:
        self.process, self.client, self._code = self, self, code

    def poll(self) -> int | None:
        return self._code

    def get(self, _path: str, **_query: object) -> dict[str, Any]:
        return {"reports": [], "alerts": []}


def etio(code: int | None = None) -> Daemon:
    return cast(Daemon, Alive(code))


def drill(undone: list[str], cause: str, *command: str) -> Drill:
    @contextlib.contextmanager
    def inject() -> Iterator[None]:
        try:
            sh(*command)
            yield
        finally:
            undone.append("undone")

    return Drill("one", cause, ("x",), inject, seconds=0.1)


@pytest.mark.parametrize("cause", ["disk_full", ""])
def test_a_failing_inject_is_an_error_of_its_drill_and_is_undone(cause: str) -> None:
    undone: list[str] = []
    case = _one(etio(), drill(undone, cause, "sh", "-c", "echo no such device >&2; exit 3"), 1)
    assert undone == ["undone"]
    assert "CalledProcessError" in case.error
    assert "no such device" in case.error
    assert case.control is (cause == "")


def test_errors_count_neither_as_missed_faults_nor_as_silent_controls() -> None:
    good = _one(etio(), drill([], "disk_full", "true"), 1)
    bad = _one(etio(), drill([], "disk_full", "no-such-program-here"), 1)
    result = summary([good, bad])
    assert (good.error, result["errors"], result["ac1"]) == ("", 1, 0.0)
    assert summary([bad])["ac1"] is None


def test_an_error_of_a_daemon_that_ended_is_no_error_of_the_drill() -> None:
    @contextlib.contextmanager
    def inject() -> Iterator[None]:
        raise EtioError("nobody answers")
        yield

    with pytest.raises(EtioError):
        _one(etio(1), Drill("one", "disk_full", ("x",), inject, seconds=0.1), 1)


def test_each_drill_names_a_known_cause_and_whom_to_blame() -> None:
    from rca.discover import causes

    known = {spec.id for spec in causes()}
    for one in discover().values():
        assert one.control or (one.cause in known and one.culprit), one.name
