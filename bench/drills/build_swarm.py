"""A build with more jobs than cores: compilers that live for a tenth of a second each, none of which is the culprit."""

import contextlib
from collections.abc import Iterator

from bench.drills import Drill
from bench.drills._tools import cores, running, scratch

SOURCE = "#include <stdio.h>\n#include <stdlib.h>\n#include <string.h>\nint main(void) { return puts(\"x\"); }\n"
MAKEFILE = "all: $(addsuffix .o,$(shell seq 1 9000))\n%.o:\n\tgcc -O2 -c x.c -o $@\n"


@contextlib.contextmanager
def inject() -> Iterator[None]:
    """Two compilers for each core: more would crowd the run queue, which is another trouble."""
    with scratch() as folder:
        (folder / "x.c").write_text(SOURCE)
        (folder / "Makefile").write_text(MAKEFILE)
        with running(["make", "-s", f"-j{2 * cores()}", "-C", str(folder)]):
            yield


DRILL = Drill("build_swarm", "cpu_saturation", ("make",), inject, needs=("gcc", "make"))
