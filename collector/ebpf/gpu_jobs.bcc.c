/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What processes that use GPUs do on the host side: when they come to a collective, and how long they wait in calls
 * that wait. Attached by uprobes to NCCL and CUDA, wherever they are mapped from.
 *
 * Waiting is counted once, at the outermost call of a thread (cudaStreamSynchronize calls cuStreamSynchronize), told by
 * the stack pointer: a nested call stands lower on the stack, so a return that was never seen (an exception) does no harm.
 * Only threads that lead count: the main thread, and those that ever came to a collective.
 */
#define JOBS 64
#define RING 1024
#define TRIES 8
#define THREADS 16384
#define JOB_IDLE_NS 60000000000ULL

struct arrival {
	u64 number; /* from 1 on; written last */
	u64 ns;
	u64 count;
	u64 blocked_ns; /* of the process, until this arrival */
	u32 op;
	u32 comm;
};

/* One process; 128 bytes and its ring. `generation` grows when another process takes the place over. */
struct job {
	u64 tgid;
	u64 generation;
	u64 seen_ns;
	u64 arrivals;
	u64 blocked_ns;
	u64 blocked_calls;
	u64 graph_launches;
	u64 kernel_launches;
	u64 unused[8];
	struct arrival ring[RING];
};

struct shared {
	struct job jobs[JOBS];
	u64 refused;
	u64 unused[7];
};

/* A thread inside of a call that waits, since start_ns, with its stack there; start_ns is 0 outside. */
struct thread {
	u64 id;
	u64 start_ns;
	u64 stack;
	u64 leads;
};

struct private {
	struct thread threads[THREADS];
};

/* The place of a process; a free one, or that of a process idle for a minute, where it is new; 0 when all are taken. */
static inline struct job *job_of(u32 tgid, u64 now)
{
	u32 first = (tgid * MULTIPLIER) >> 40, i;
	struct job *one, *left = 0;

#pragma unroll
	for (i = 0; i < TRIES; i++) {
		one = &SHARED->jobs[BOUND(first + i, JOBS - 1)];
		if (one->tgid == tgid)
			return one;
		if (!left && (!one->tgid || (now > one->seen_ns && now - one->seen_ns > JOB_IDLE_NS)))
			left = one;
	}
	if (!left) {
		COUNT(SHARED->refused, 1);
		return 0;
	}
	left->tgid = tgid;
	left->generation += 1;
	left->arrivals = 0;
	left->blocked_ns = 0;
	left->blocked_calls = 0;
	left->graph_launches = 0;
	left->kernel_launches = 0;
	left->seen_ns = now;
	return left;
}

static inline struct thread *thread_of(u64 id)
{
	return &PRIVATE->threads[BOUND((u32)id, THREADS - 1)];
}

/* Whether the thread was outside of all calls that wait; it is inside of one now. */
static inline u32 enter(u64 *ctx, u64 id, u64 now, u64 leads)
{
	struct thread *thread = thread_of(id);
	u64 stack = FIELD(u64, ctx, STACK);

	if (thread->id != id) {
		thread->id = id;
		thread->leads = (u32)id == id >> 32;
	} else if (thread->start_ns && stack < thread->stack) {
		return 0;
	}
	thread->leads |= leads;
	thread->start_ns = now;
	thread->stack = stack;
	return 1;
}

static inline int arrive(u64 *ctx, u32 op, u64 count, u64 comm)
{
	u64 id = bpf_get_current_pid_tgid(), now = bpf_ktime_get_ns(), number;
	struct arrival *arrival;
	struct job *job;

	if (!enter(ctx, id, now, 1))
		return 0;
	job = job_of(id >> 32, now);
	if (!job)
		return 0;
	number = job->arrivals + 1;
	arrival = &job->ring[BOUND(number, RING - 1)];
	arrival->number = 0;
	arrival->ns = now;
	arrival->count = count;
	arrival->blocked_ns = job->blocked_ns;
	arrival->op = op;
	arrival->comm = (comm * MULTIPLIER) >> 32;
	arrival->number = number;
	job->arrivals = number;
	job->seen_ns = now;
	return 0;
}

int all_reduce(u64 *ctx)
{
	return arrive(ctx, 1, FIELD(u64, ctx, ARG3), FIELD(u64, ctx, ARG6));
}

int all_gather(u64 *ctx)
{
	return arrive(ctx, 2, FIELD(u64, ctx, ARG3), FIELD(u64, ctx, ARG5));
}

int reduce_scatter(u64 *ctx)
{
	return arrive(ctx, 3, FIELD(u64, ctx, ARG3), FIELD(u64, ctx, ARG6));
}

int broadcast(u64 *ctx)
{
	return arrive(ctx, 4, FIELD(u64, ctx, ARG3), FIELD(u64, ctx, ARG6));
}

/* Its communicator is the seventh argument, on the stack: left out. */
int reduce(u64 *ctx)
{
	return arrive(ctx, 5, FIELD(u64, ctx, ARG3), 0);
}

int send(u64 *ctx)
{
	return arrive(ctx, 6, FIELD(u64, ctx, ARG2), FIELD(u64, ctx, ARG5));
}

int recv(u64 *ctx)
{
	return arrive(ctx, 7, FIELD(u64, ctx, ARG2), FIELD(u64, ctx, ARG5));
}

int wait_entry(u64 *ctx)
{
	enter(ctx, bpf_get_current_pid_tgid(), bpf_ktime_get_ns(), 0);
	return 0;
}

int wait_return(u64 *ctx)
{
	u64 id = bpf_get_current_pid_tgid(), now = bpf_ktime_get_ns(), start;
	struct thread *thread = thread_of(id);
	struct job *job;

	if (thread->id != id || !thread->start_ns || FIELD(u64, ctx, STACK) < thread->stack + RETURN_BYTES)
		return 0;
	start = thread->start_ns;
	thread->start_ns = 0;
	if (!thread->leads)
		return 0;
	job = job_of(id >> 32, now);
	if (!job)
		return 0;
	COUNT(job->blocked_ns, now - start);
	COUNT(job->blocked_calls, 1);
	job->seen_ns = now;
	return 0;
}

int graph_launch(u64 *ctx)
{
	struct job *job = job_of(bpf_get_current_pid_tgid() >> 32, bpf_ktime_get_ns());

	if (job)
		COUNT(job->graph_launches, 1);
	return 0;
}

int kernel_launch(u64 *ctx)
{
	struct job *job = job_of(bpf_get_current_pid_tgid() >> 32, bpf_ktime_get_ns());

	if (job)
		COUNT(job->kernel_launches, 1);
	return 0;
}
