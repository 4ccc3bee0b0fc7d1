"""A training job without a GPU: processes that compute and meet in collectives, on stand-ins for NCCL and CUDA.

The stand-ins have the names, symbols and argument lists of libnccl.so.2 and libcudart.so.12; a collective is a barrier
of the processes. Compiled with gcc where it is used.
"""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

NCCL = r"""
#include <fcntl.h>
#include <pthread.h>
#include <stddef.h>
#include <sys/mman.h>
#include <unistd.h>
/* A communicator is the shared barrier of its ranks; NULL = alone. Rank 0 makes it, the others wait for `ready`. */
struct comm { pthread_barrier_t barrier; volatile int ready; };
int ncclCommInitRank(void **comm, int ranks, const char *file, int rank)
{
	int fd = open(file, O_RDWR | O_CREAT, 0600);
	if (fd < 0 || ftruncate(fd, 4096)) return 1;
	struct comm *made = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	close(fd);
	if (made == MAP_FAILED) return 1;
	if (rank == 0) {
		pthread_barrierattr_t shared;
		pthread_barrierattr_init(&shared);
		pthread_barrierattr_setpshared(&shared, PTHREAD_PROCESS_SHARED);
		pthread_barrier_init(&made->barrier, &shared, ranks);
		made->ready = 1;
	}
	while (!made->ready) usleep(1000);
	*comm = made;
	return 0;
}
static int meet(void *comm) { if (comm) pthread_barrier_wait(&((struct comm *)comm)->barrier); return 0; }
int ncclAllReduce(const void *s, void *r, size_t n, int type, int op, void *comm, void *stream) { return meet(comm); }
int ncclReduceScatter(const void *s, void *r, size_t n, int type, int op, void *c, void *stream) { return meet(c); }
int ncclAllGather(const void *s, void *r, size_t n, int type, void *comm, void *stream) { return meet(comm); }
int ncclBroadcast(const void *s, void *r, size_t n, int type, int root, void *comm, void *stream) { return meet(comm); }
int ncclReduce(const void *s, void *r, size_t n, int type, int op, int root, void *c, void *stream) { return meet(c); }
int ncclSend(const void *s, size_t n, int type, int peer, void *comm, void *stream) { return 0; }
int ncclRecv(void *r, size_t n, int type, int peer, void *comm, void *stream) { return 0; }
int ncclGroupStart(void) { return 0; }
int ncclGroupEnd(void) { return 0; }
"""

CUDART = r"""
#include <unistd.h>
/* As the real one does, the first goes on to the driver's function. A "stream" is a time in microseconds. */
int cuStreamSynchronize(long us) { if (us > 0) usleep(us); return 0; }
int cudaStreamSynchronize(long us) { int r = cuStreamSynchronize(us); __asm__ volatile("" : "+r"(r)); return r; }
int cudaDeviceSynchronize(void) { usleep(1); return 0; }
int cudaEventSynchronize(long us) { if (us > 0) usleep(us); return 0; }
int cudaGraphLaunch(void *graph, long stream) { return 0; }
int cuLaunchKernel(void *function, long stream) { return 0; }
"""

TRAIN = r"""
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
int ncclCommInitRank(void **comm, int ranks, const char *file, int rank);
int ncclAllReduce(const void *s, void *r, size_t n, int type, int op, void *comm, void *stream);
int ncclAllGather(const void *s, void *r, size_t n, int type, void *comm, void *stream);
int cudaStreamSynchronize(long us);
int cudaGraphLaunch(void *graph, long stream);
int cuLaunchKernel(void *function, long stream);
static volatile long percent = 100;
static void slower(int number) { percent = number == SIGUSR1 ? 130 : 100; }
/* train STEPS WORK SLEEP_US SYNC_US [FILE]: each step works, lies idle, launches a graph, waits for it, meets twice. */
int main(int argc, char **argv)
{
	long steps = atol(argv[1]), work = atol(argv[2]), sleep_us = atol(argv[3]), sync_us = atol(argv[4]);
	void *comm = NULL;
	char line[8];
	signal(SIGUSR1, slower);
	signal(SIGUSR2, slower);
	if (argc > 5 && ncclCommInitRank(&comm, atoi(getenv("WORLD_SIZE")), argv[5], atoi(getenv("RANK")))) return 1;
	if (argc <= 5) { puts("here"); fflush(stdout); if (!fgets(line, sizeof line, stdin)) return 1; }
	for (long i = 0; steps == 0 || i < steps; i++) {
		long n = work * percent / 100;
		for (volatile long k = 0; k < n; k++) ;
		if (sleep_us) usleep(sleep_us * percent / 100);
		cuLaunchKernel(0, 0);
		if (sync_us) { cudaGraphLaunch(0, 0); cudaStreamSynchronize(sync_us); }
		ncclAllReduce(0, 0, 4096, 7, 0, comm, 0);
		ncclAllGather(0, 0, 64, 7, comm, 0);
	}
	if (argc <= 5) { puts("done"); fflush(stdout); if (!fgets(line, sizeof line, stdin)) return 1; }
	return 0;
}
"""


def build(folder: Path, nccl: str = "libnccl.so.2", cudart: str = "libcudart.so.12") -> Path:
    """Compiles libraries and program into `folder`; returns the program. Needs gcc."""
    for name, text in (("nccl", NCCL), ("cudart", CUDART), ("train", TRAIN)):
        (folder / f"{name}.c").write_text(text)
    for library, source in ((nccl, "nccl"), (cudart, "cudart")):
        _gcc(folder, "-shared", "-fPIC", f"-Wl,-soname,{library}", "-o", library, f"{source}.c", "-lpthread")
    _gcc(folder, "-o", "train", "train.c", f"-l:{nccl}", f"-l:{cudart}", "-L.", f"-Wl,-rpath,{folder}", "-lpthread")
    return folder / "train"


# With frame pointers a function begins by push %rbp, as all do in NVIDIA's libraries: a probe there costs a tenth.
def _gcc(folder: Path, *arguments: str) -> None:
    options = ("-O1", "-fno-omit-frame-pointer", "-fno-shrink-wrap", "-w")
    subprocess.run(["gcc", *options, *arguments], cwd=folder, check=True, capture_output=True)


@dataclass(slots=True)
class Job:
    """A running job: its processes by rank."""

    ranks: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def slow(self, rank: int, on: bool = True) -> None:
        """Makes one rank compute 30 % longer, or as long as the others again."""
        self.ranks[rank].send_signal(signal.SIGUSR1 if on else signal.SIGUSR2)

    def pin(self, rank: int, core: int) -> None:
        """Binds one rank to a core."""
        os.sched_setaffinity(self.ranks[rank].pid, {core})

    def end(self) -> None:
        """Kills every rank."""
        for rank in self.ranks:
            rank.kill()
        for rank in self.ranks:
            rank.wait()


def _wait_for_handler(pid: int, seconds: float = 30.0) -> None:
    """Waits until the process handles SIGUSR1, which would end it before."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        text = Path(f"/proc/{pid}/status").read_text()
        if int(text.partition("SigCgt:")[2].split()[0], 16) >> (signal.SIGUSR1 - 1) & 1:
            return
        time.sleep(0.01)
    raise TimeoutError(f"process {pid} is not ready after {seconds:g} s")


@contextlib.contextmanager
def training(folder: Path, ranks: int = 4, work: int = 400_000, sleep_us: int = 40_000, name: str = "drill"
             ) -> Iterator[Job]:
    """A job of that many ranks that runs until the end; work: of each step in turns of a loop, then idle time.

    The processes are called trainer-0, trainer-1 ...
    """
    program = folder / "train" if (folder / "train").exists() else build(folder)
    meeting = folder / f"meeting-{time.monotonic_ns()}"
    job = Job()
    try:
        for rank in range(ranks):
            own = folder / f"trainer-{rank}"
            if not own.exists():
                own.hardlink_to(program)
            job.ranks.append(subprocess.Popen(
                [str(own), "0", str(work), str(sleep_us), "0", str(meeting)], start_new_session=True,
                env={"PATH": os.environ.get("PATH", ""), "RANK": str(rank), "LOCAL_RANK": str(rank),
                     "WORLD_SIZE": str(ranks), "TORCHELASTIC_RUN_ID": name}))
        for process in job.ranks:
            _wait_for_handler(process.pid)
        yield job
    finally:
        job.end()
