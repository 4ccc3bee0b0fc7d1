"""Control: hundreds of small packages are installed one after the other, some programs for each."""

import contextlib
from collections.abc import Iterator

from bench.drills import Drill
from bench.drills._tools import running, scratch, sh

INSTALL = """
while :; do
    for package in packages/*.tar; do
        mkdir -p root; tar xf $package -C root; sha256sum $package >sums; touch root/done; cat root/done sums >log
        basename $package >name; ls root >list; rm -rf root
    done
    sleep 1
done
"""


@contextlib.contextmanager
def inject() -> Iterator[None]:
    """200 packages of one file each, again and again."""
    with scratch() as folder:
        sh("sh", "-c", f"cd {folder}; mkdir packages; for i in $(seq 200); do echo $i >file; "
                       "tar cf packages/$i.tar file; done")
        shell = folder / "pkginstall"
        shell.symlink_to("/bin/bash")
        with running([str(shell), "-c", INSTALL], cwd=str(folder)):
            yield


DRILL = Drill("control_installation", "", (), inject, seconds=40, needs=("tar", "sha256sum"))
