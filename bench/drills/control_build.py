"""Control: a busy but healthy build, one job at a time, below saturation."""

import contextlib
from collections.abc import Iterator

from bench.drills import Drill
from bench.drills._tools import running, scratch

SOURCE = """
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <math.h>
int f{n}(int a) {{ double s = 0; for (int i = 0; i < a; i++) s += sqrt(i) * {n}; printf("%g", s); return (int)s; }}
"""


@contextlib.contextmanager
def inject() -> Iterator[None]:
    """gcc over many small files, one after the other."""
    with scratch() as folder:
        for n in range(60):
            (folder / f"part{n}.c").write_text("\n".join(SOURCE.format(n=n * 100 + k) for k in range(60)))
        (folder / "Makefile").write_text(
            "all: $(patsubst %.c,%.o,$(wildcard *.c))\n%.o: %.c\n\tgcc -O2 -c $< -o $@\nclean:\n\trm -f *.o\n")
        with running(["sh", "-c", "while :; do make -s; make -s clean; done"], cwd=str(folder)):
            yield


DRILL = Drill("control_build", "", (), inject, seconds=40, needs=("gcc", "make"))
