"""The host runs out of file handles."""

from rca.spec import CauseSpec, Check, Table

CAUSE = CauseSpec(
    id="filehandles_exhausted",
    title="file handles used up",
    mechanism="As many files are open on the host as fs.file-max allows, so open, accept and socket fail with ENFILE.",
    source="kernel docs admin-guide/sysctl/fs (file-max, file-nr); open(2): ENFILE",
    alerts=("FileHandlesExhausted",),
    tables=(Table(needs=((Check("kernel_file_handles_used_ratio", ">=", 0.90, "last"),),),
                  supports=(Check("tcp_established", ">=", 1000.0, factor=2.0),)),),
    headlines=("The host runs out of file handles ({kernel_file_handles_used_ratio} in use)",),
    summary=(
        "{kernel_file_handles_used_ratio} of the file handles of the host are in use "
        "{kernel_file_handles_used_ratio:seen}.",
        "Open TCP connections, which take one each: {tcp_established} {tcp_established:seen}.",
        "Who holds them is not measured; the first suggestion counts them for each process.",
    ),
    tell_apart="/proc/sys/fs/file-nr against fs.file-max, and the number of entries in /proc/PID/fd of each process",
    explains=("exhaustion_ahead",),
    hard=True,
    specific=3,
    culprit_needed=False,
)
