/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Forks (threads included, as the kernel counts them), execs, exits, failures, and who does them.
 *
 * A fork counts for the process that last executed a program: copies of it that only fork on (a fork bomb, the workers
 * of a server) count for their original. roots[] holds, for such a copy, its pid (high half) and the original's.
 * ran[] holds what an original, or a copy of it, executed last: who executes the same again and again runs a loop, who
 * unpacks a package after the other executes several in turn.
 */
#define ROOTS 262144
#define RAN 256

struct shared {
	struct heavy forks[HEAVY_SLOTS];
	struct heavy execs[HEAVY_SLOTS];
	struct heavy failures[HEAVY_SLOTS];
	u64 forked;
	u64 executed;
	u64 exited;
	u64 failed;
	u64 repeated;
	u64 unused[3];
	u64 ran[RAN];
};

struct private {
	u64 roots[ROOTS];
};

static inline u64 *root_place(u32 pid)
{
	return &PRIVATE->roots[BOUND(pid, ROOTS - 1)];
}

static inline u32 parent_of_current(void)
{
	u32 pid = 0;
#ifdef HAVE_TASK
	u64 parent = 0;

	bpf_probe_read_kernel(&parent, 8, (char *)bpf_get_current_task() + TASK_PARENT);
	bpf_probe_read_kernel(&pid, 4, (char *)parent + TASK_TGID);
#endif
	return pid;
}

int sched_process_fork(u64 *ctx)
{
	u32 pid = bpf_get_current_pid_tgid() >> 32, child = FIELD(u32, ctx, sched_process_fork_child_pid), root = pid;
	u64 now = bpf_ktime_get_ns(), known = *root_place(pid);
	struct heavy *slot;

	COUNT(SHARED->forked, 1);
	if (known >> 32 == pid)
		root = known;
	*root_place(child) = (u64)child << 32 | root;
	slot = heavy_slot(SHARED->forks, root, 1, now);
	if (!slot)
		return 0;
	bpf_get_current_comm(slot->name, sizeof(slot->name));
	if (root == pid)
		slot->aux = parent_of_current();
	else if (!slot->count)
		slot->aux = 0;
	heavy_add(slot, 0, 1, now);
	return 0;
}

/* Keyed by the new command name; aux is the last parent, amount is unused. */
int sched_process_exec(u64 *ctx)
{
	u32 pid = bpf_get_current_pid_tgid() >> 32, root = *root_place(pid);
	u64 now = bpf_ktime_get_ns();
	u64 comm[2] = {}, what, *last;
	struct heavy *slot;

	COUNT(SHARED->executed, 1);
	bpf_get_current_comm(comm, sizeof(comm));
	what = (comm[0] ^ (comm[1] * MULTIPLIER)) | 1;
	if (*root_place(pid) >> 32 == pid) {
		last = &SHARED->ran[BOUND(root, RAN - 1)];
		if (*last == (what ^ (u64)root << 32))
			COUNT(SHARED->repeated, 1);
		*last = what ^ (u64)root << 32;
	}
	*root_place(pid) = 0;
	slot = heavy_slot(SHARED->execs, what, 1, now);
	if (!slot)
		return 0;
	if (!slot->count)
		__builtin_memcpy(slot->name, comm, sizeof(comm));
	slot->aux = parent_of_current();
	heavy_add(slot, 0, 1, now);
	return 0;
}

/* Signals by which a program ends that has a fault of its own: ILL, TRAP, ABRT, BUS, FPE, SEGV, SYS. */
#define FAULTS (1u << 4 | 1u << 5 | 1u << 6 | 1u << 7 | 1u << 8 | 1u << 11 | 1u << 31)

/* A process that ends with a status other than 0, or by a signal of FAULTS; keyed by name and parent. amount counts
 * those that ended by a signal; aux holds the parent, and above it how the last one ended: the status, or ENDED_BY and
 * the signal. */
#define ENDED_BY (1u << 23)
#define ENDED_SHIFT 24
static inline void count_failure(void)
{
#ifdef HAVE_TASK
	u32 code = 0, parent;
	u64 comm[2] = {};
	struct heavy *slot;

	bpf_probe_read_kernel(&code, 4, (char *)bpf_get_current_task() + TASK_EXIT_CODE);
	if (code & 0x7f ? !(1u << (code & 0x1f) & FAULTS) || code & 0x60 : !(code >> 8))
		return;
	parent = parent_of_current();
	bpf_get_current_comm(comm, sizeof(comm));
	COUNT(SHARED->failed, 1);
	slot = heavy_slot(SHARED->failures, (comm[0] ^ (comm[1] * MULTIPLIER) ^ ((u64)parent << 32)) | 1, 1,
			  bpf_ktime_get_ns());
	if (!slot)
		return;
	if (!slot->count)
		__builtin_memcpy(slot->name, comm, sizeof(comm));
	if (code & 0x7f)
		parent |= ENDED_BY | (code & 0x7f) << ENDED_SHIFT;
	else
		parent |= (code >> 8 & 0xff) << ENDED_SHIFT;
	slot->aux = parent;
	heavy_add(slot, !!(code & 0x7f), 1, bpf_ktime_get_ns());
#endif
}

int sched_process_exit(u64 *ctx)
{
	u32 tid = bpf_get_current_pid_tgid();
	u64 *place = root_place(tid);

	if (*place >> 32 == tid)
		*place = 0;
	COUNT(SHARED->exited, 1);
	if (tid == bpf_get_current_pid_tgid() >> 32)
		count_failure();
	return 0;
}
