/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Run-queue latency: from wake-up, or from being preempted, until the task runs; time on the CPU until the task gives it
 * up or loses it; moves to another core. Who waited, who had the core meanwhile, who lost it, who moved.
 *
 * With BTF (TYPED) these are BTF-typed raw tracepoints whose task_struct offsets the loader took from the running
 * kernel; without, classic tracepoints whose fields tracefs describes.
 * A stamp is one u64 by pid: time in steps of 32 ns, bits 1-4 the pid's high bits, bit 0 "was preempted".
 */
#define STAMPS 262144
#define STAMP_BITS 18
/* Waits are attributed in proportion to their length: one as long as the quantum or longer always, a shorter one as often
 * as its length is part of the quantum, and then as one of that length. The sums stay right whatever the quantum, which
 * doubles on a CPU where attributions follow each other faster than CROWDED_NS and halves where they are rarer.
 */
#define QUANTUM_BITS 20
#define MOST_QUANTUM_BITS 30
#define CROWDED_NS 2000000
/* Lost CPUs are attributed at most this often on each CPU, those in between along with the next. */
#define ATTRIBUTE_NS 1000000
/* Of the times on the CPU, those whose end has none of these bits go into the histogram: one in eight. */
#define SLICE_BITS 0xe0
/* One move in so many is attributed, as so many. */
#define MOVE_BITS 3

/* How a task left the CPU: made so that no branch is needed, for what a switch costs is mostly branches not foreseen. */
enum { BLOCKED, PREEMPTED, FROM_IDLE = 3, MANNERS };

/* The first 64 bytes are what a switch touches. */
struct cpu {
	u64 switches[MANNERS];
	u64 wait_ns;
	u64 since; /* the last switch on this CPU */
	u64 told_ns; /* the last wait that was attributed */
	u64 doublings; /* of the quantum */
	u64 wakeups;
	u64 migrations;
	u64 node_migrations;
	u64 lost, lost_ns; /* not yet attributed, and when that was done last */
	u64 unused[3];
	u64 waits[BUCKETS];
	u64 slices[BUCKETS];
};

struct shared {
	struct heavy delays[HEAVY_SLOTS]; /* by process: waited */
	struct heavy holders[HEAVY_SLOTS]; /* by process: ran while others waited */
	struct heavy losers[HEAVY_SLOTS]; /* by process: lost the CPU while it wanted to go on */
	struct heavy movers[HEAVY_SLOTS]; /* by process: moved between cores; amount: between NUMA nodes */
	struct heavy groups[HEAVY_SLOTS]; /* by control group: waited */
	struct cpu cpus[CPUS];
};

struct private {
	u64 stamps[STAMPS];
};

#ifdef NODES_FD
struct nodes {
	u8 of[CPUS];
};
#define NODES ((struct nodes *)bpf_pseudo_fd(2, NODES_FD))
#endif

/* 1 for 0, else 0, for numbers of 32 bits, without a branch. */
static inline u64 is_zero(u32 number)
{
	return ((u64)number - 1) >> 63;
}

static inline u64 tag_of(u32 pid)
{
	return ((pid >> STAMP_BITS) & 15) << 1;
}

static inline void mark(u32 pid, u64 stamp)
{
	PRIVATE->stamps[BOUND(pid, STAMPS - 1)] = stamp;
}

static inline struct cpu *this_cpu(void)
{
	return &SHARED->cpus[BOUND(bpf_get_smp_processor_id(), CPUS - 1)];
}

static inline void woken(u32 pid)
{
	if (!pid)
		return;
	mark(pid, (bpf_ktime_get_ns() & ~31ULL) | tag_of(pid));
	this_cpu()->wakeups += 1;
}

/* Nanoseconds since the stamp of `pid`, bit 0 kept; 0 without a stamp of its own or with one from the future. */
static inline u64 take(u32 pid, u64 now)
{
	u64 *place = &PRIVATE->stamps[BOUND(pid, STAMPS - 1)];
	u64 stamp = *place;

	if (!stamp || (stamp & 30) != tag_of(pid))
		return 0;
	*place = 0;
	if ((stamp & ~31ULL) > now)
		return 0;
	return (((now - (stamp & ~31ULL)) & ~1ULL) + 2) | (stamp & 1);
}

#ifdef NODES
static inline u64 node_of(u32 cpu)
{
	return NODES->of[BOUND(cpu, CPUS - 1)];
}
#endif

#ifndef TYPED

int sched_wakeup(u64 *ctx)
{
	woken(FIELD(u32, ctx, sched_wakeup_pid));
	return 0;
}

int sched_wakeup_new(u64 *ctx)
{
	woken(FIELD(u32, ctx, sched_wakeup_new_pid));
	return 0;
}

#define PREV_PID FIELD(u32, ctx, sched_switch_prev_pid)
#define NEXT_PID FIELD(u32, ctx, sched_switch_next_pid)
/* The kernel's TASK_REPORT_MAX, above every reported state, stands for "preempted while runnable". */
#define PREV_RUNNABLE is_zero(FIELD(u64, ctx, sched_switch_prev_state) & 0xff)
#define PREV_KEY PREV_PID
#define NEXT_KEY NEXT_PID
#define PREV_NAME(to) bpf_probe_read_kernel(to, 16, (char *)ctx + AT_sched_switch_prev_comm)
#define NEXT_NAME(to) bpf_probe_read_kernel(to, 16, (char *)ctx + AT_sched_switch_next_comm)
#define MOVED_KEY FIELD(u32, ctx, sched_migrate_task_pid)
#define MOVED_FROM FIELD(u32, ctx, sched_migrate_task_orig_cpu)
#define MOVED_TO FIELD(u32, ctx, sched_migrate_task_dest_cpu)
#if SIZE_sched_migrate_task_comm == 16
#define MOVED_NAME(to) bpf_probe_read_kernel(to, 16, (char *)ctx + AT_sched_migrate_task_comm)
#else
#define MOVED_NAME(to) bpf_probe_read_kernel_str(to, 16, \
	(char *)ctx + (FIELD(u32, ctx, sched_migrate_task_comm) & 0xffff))
#endif

#else

#define AT(type, base, offset) ({ type v_; \
	asm volatile("%0 = *(" #type " *)(%1 + %2)" : "=r"(v_) : "r"(base), "i"(offset)); v_; })
#define NAME_OF(task, to) bpf_probe_read_kernel(to, 16, (char *)AT(u64, task, TASK_LEADER) + TASK_COMM)

int sched_wakeup(u64 *ctx)
{
	woken(AT(u32, ctx[0], TASK_PID));
	return 0;
}

int sched_wakeup_new(u64 *ctx)
{
	woken(AT(u32, ctx[0], TASK_PID));
	return 0;
}

#define PREV_PID AT(u32, ctx[1], TASK_PID)
#define NEXT_PID AT(u32, ctx[2], TASK_PID)
#ifdef SWITCH_HAS_STATE
#define PREV_STATE ((u32)ctx[3])
#else
#define PREV_STATE AT(u32, ctx[1], TASK_STATE)
#endif
#define PREV_RUNNABLE (is_zero(PREV_STATE) | (ctx[0] & 1))
#define PREV_KEY AT(u32, ctx[1], TASK_TGID)
#define NEXT_KEY AT(u32, ctx[2], TASK_TGID)
#define PREV_NAME(to) NAME_OF(ctx[1], to)
#define NEXT_NAME(to) NAME_OF(ctx[2], to)
#ifdef CSET_CPU
#define NEXT_GROUP cgroup_of(ctx[2], CSET_CPU)
#endif
#define MOVED_KEY AT(u32, ctx[0], TASK_TGID)
#define MOVED_TO ((u32)ctx[1])
#ifdef TASK_CPU
#define MOVED_FROM AT(u32, ctx[0], TASK_CPU)
#else
#define MOVED_FROM MOVED_TO
#endif
#define MOVED_NAME(to) NAME_OF(ctx[0], to)

#endif

/* Adds to the slot of `key`, whose name is looked at now and then: it changes seldom. Yields the slot, or 0.
 * Not atomic: what two CPUs add to one slot in the same few nanoseconds is not worth the price.
 */
#define ADD(table, key, count_, amount_, weight, now, NAME) ({ \
	struct heavy *slot_ = heavy_slot(table, key, weight, now); \
	if (slot_) { \
		if (!(slot_->count & 15)) \
			NAME(slot_->name); \
		slot_->count += count_; \
		slot_->amount += amount_; \
		slot_->credit += weight; \
		slot_->seen_ns = now; \
	} \
	slot_; })
#define NO_NAME(to) (to[0] = 0)

#define RARE(condition) __builtin_expect(!!(condition), 0)

static inline void lost(u64 *ctx, struct cpu *cpu, u32 prev, u64 now)
{
	u64 many = cpu->lost + 1;

	mark(prev, (now & ~31ULL) | tag_of(prev) | 1);
	cpu->lost = many;
	if (now - cpu->lost_ns <= ATTRIBUTE_NS)
		return;
	cpu->lost = 0;
	cpu->lost_ns = now;
	ADD(SHARED->losers, PREV_KEY, many, 0, many, now, PREV_NAME);
}

int sched_switch(u64 *ctx)
{
	u64 now = bpf_ktime_get_ns(), slice, wait, many, manner;
	struct cpu *cpu = this_cpu();
	u32 prev = PREV_PID, next = NEXT_PID;
	struct heavy *slot;

	slice = now - cpu->since;
	cpu->since = now;
	manner = is_zero(prev) << 1 | PREV_RUNNABLE;
	cpu->switches[BOUND(manner, MANNERS - 1)] += 1;
	if (RARE(!((now & SLICE_BITS) | (manner & 2))))
		cpu->slices[BOUND(bucket_of(slice), BUCKETS - 1)] += 1;
	if (RARE(manner == PREEMPTED))
		lost(ctx, cpu, prev, now);
	if (!next)
		return 0;
	wait = take(next, now);
	if (!wait)
		return 0;
	cpu->wait_ns += wait;
	if (!(wait & 1))
		cpu->waits[BOUND(bucket_of(wait), BUCKETS - 1)] += 1;
	many = QUANTUM_BITS + (cpu->doublings & 15);
	if (!RARE(wait >= (now * MULTIPLIER) >> (64 - many)))
		return 0;
	if (wait >> many == 0)
		wait = 1ULL << many;
	if (now - cpu->told_ns > CROWDED_NS)
		cpu->doublings -= !!cpu->doublings;
	else
		cpu->doublings += cpu->doublings < MOST_QUANTUM_BITS - QUANTUM_BITS;
	cpu->told_ns = now;
	slot = ADD(SHARED->delays, NEXT_KEY, 1, wait, wait, now, NEXT_NAME);
	if (slot)
		slot->aux = next;
#ifdef NEXT_GROUP
	{
		u64 group = NEXT_GROUP;

		slot = group ? ADD(SHARED->groups, group, 1, wait, wait, now, NO_NAME) : 0;
		if (slot)
			slot->aux = NEXT_KEY;
	}
#endif
	if (!prev)
		return 0;
	if (slice < wait)
		wait = slice;
	ADD(SHARED->holders, PREV_KEY, 1, wait, wait, now, PREV_NAME);
	return 0;
}

int sched_migrate_task(u64 *ctx)
{
	struct cpu *cpu = this_cpu();
	u64 far = 0, now;

#ifdef NODES
	far = node_of(MOVED_FROM) != node_of(MOVED_TO);
	cpu->node_migrations += far;
#endif
	cpu->migrations += 1;
	/* The golden ratio spreads the chosen evenly over any pattern of moves. */
	if (!RARE((cpu->migrations * MULTIPLIER) >> (64 - MOVE_BITS) == 0))
		return 0;
	now = bpf_ktime_get_ns();
	ADD(SHARED->movers, MOVED_KEY, 1 << MOVE_BITS, far << MOVE_BITS, 1 << MOVE_BITS, now, MOVED_NAME);
	return 0;
}
