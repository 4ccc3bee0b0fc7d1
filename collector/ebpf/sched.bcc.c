/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Run-queue latency: from wake-up, or from being preempted, until the task runs; time on the CPU until the task gives it
 * up or loses it; moves to another core. Who waited, who had the core meanwhile, who lost it, who moved.
 *
 * With BTF (TYPED) these are BTF-typed raw tracepoints whose task_struct offsets the loader took from the running
 * kernel; without, classic tracepoints whose fields tracefs describes.
 *
 * With BTF, and where the kernel itself keeps since when a task waits (QUEUED: `sched_info`), a switch is all that has to
 * be followed: no program runs at a wake-up. The kernel's times are those of the run queue's clock, which is at hand for
 * nothing, but stands still where a wake-up leads to a switch at once, so that the shortest waits look like none. The end
 * of a short wait is therefore read from the clock itself (exact_after()), on a CPU that switches often for one in eight,
 * as eight. Elsewhere wake-ups are followed too, and all is timed with the clock itself.
 *
 * A stamp is one u64 by pid: bits 2-5 the pid's high bits, bits 0-1 marks, the rest in steps of 64 ns. QUEUED: the time
 * that the task had waited in its life when it came to run last; what the kernel has added since are waits that ended on
 * another run queue, from which it was moved. Else: since when it waits.
 */
#define STAMPS 262144
#define STAMP_BITS 18
#define STEP 63ULL
#define TAG 60ULL
enum { LOST = 1, SEEN = 2 }; /* marks: it lost the CPU; never 0 */
#define NO_WAIT (~0ULL)
#define EIGHT_BITS 3
#define LONG_BITS 20 /* 1 ms */
/* A CPU switches often where two switches are so much apart, smoothed over 64 of them: more than 3,800 in a second. */
#define OFTEN_BITS 18
/* Waits are attributed in proportion to their length: one as long as the quantum or longer always, a shorter one as often
 * as its length is part of the quantum, and then as one of that length. The sums stay right whatever the quantum, which
 * doubles on a CPU where attributions follow each other faster than CROWDED_NS and halves where they are rarer.
 */
#define QUANTUM_BITS 20
#define CROWDED_NS 2000000
#define MOST_DOUBLINGS 10 /* lost CPUs: attributed is one in 1, 2, 4 .. 1024, and stands for as many */
/* Times on the CPU that go into the histogram: of those that begin when the clock has none of these bits, one in eight;
 * where the CPU switches often, one in 32, as four.
 */
#define SLICE_BITS 0xe0
#define SLICE_BITS_OFTEN 0x3e0
#define MOVE_BITS 5 /* one move in 32 is attributed, as 32 */

/* How a task left the CPU: made so that no branch is needed, for what a switch costs is mostly branches not foreseen. */
enum { BLOCKED, PREEMPTED, FROM_IDLE, MANNERS };

/* The first 64 bytes are what a switch touches. */
struct cpu {
	u64 switches[MANNERS];
	u64 wait_ns;
	u64 since; /* the last switch on this CPU */
	u64 pace; /* time between switches, smoothed */
	u64 slice; /* begin of the time on the CPU that is measured, in steps of 64 ns, plus for how many it stands; or 0 */
	u64 arrivals; /* tasks that came to run after they were woken */
	u64 told; /* sampler of waits, see crowd() */
	u64 lost; /* sampler of lost CPUs */
	u64 migrations;
	u64 node_migrations;
	u64 anchor; /* these four: see exact_after() */
	u64 ahead;
	s64 drift;
	s64 residue;
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
#define NODE_OF(cpu) ((struct nodes *)bpf_pseudo_fd(2, NODES_FD))->of[BOUND(cpu, CPUS - 1)]
#endif

/* 1 for 0, else 0, for numbers of 32 bits, without a branch. */
static inline u64 is_zero(u32 number)
{
	return ((u64)number - 1) >> 63;
}

static inline u64 tag_of(u32 pid)
{
	return ((pid >> STAMP_BITS) & 15) << 2;
}

static inline void mark(u32 pid, u64 stamp, u64 lost)
{
	PRIVATE->stamps[BOUND(pid, STAMPS - 1)] = (stamp & ~STEP) | tag_of(pid) | SEEN | lost;
}

static inline struct cpu *this_cpu(void)
{
	return &SHARED->cpus[BOUND(bpf_get_smp_processor_id(), CPUS - 1)];
}

#define RARE(condition) __builtin_expect(!!(condition), 0)

/* A field of a kernel struct, which the verifier knows by its type. */
#define AT(type, base, offset) ({ type v_; \
	asm volatile("%0 = *(" #type " *)(%1 + %2)" : "=r"(v_) : "r"(base), "i"(offset)); v_; })

#ifdef QUEUED

#define NOW(task) AT(u64, AT(u64, AT(u64, task, TASK_CFS_RQ), CFS_RQ_RQ), RQ_CLOCK)
#define OFTEN(cpu) is_zero((cpu)->pace >> OFTEN_BITS)
#define SECOND_BITS 30
#define REST_BITS 40 /* 18 min: what was learned before is of no use */
#define JUMP_BITS 33 /* 9 s: no CPU is that late, so one of the clocks was set */
#define MOST_DRIFT_BITS 17 /* 122 us in a second */
#define MOST_OVER 4096
#define RAISE_BITS 5
#define TURN_BITS 3

/* By how much the clock itself is past `now`, which the run queue's clock says: 0 where that was just moved on (`fresh`).
 *
 * The two differ by a constant and drift apart, where ktime is disciplined, by some millionths. `ahead` + `drift` *
 * (now - `anchor`) is the line that ktime lies on where the run queue's clock is not late, as far as is known. What falls
 * below lowers it at once; the fresh ones above raise it, each by a 32nd of the distance, of 4 us at most (on a core that
 * was idle they are late themselves). `residue` is what this came to since the anchor, which turns the line a little
 * about each second.
 */
static inline u64 exact_after(struct cpu *cpu, u64 now, u64 fresh)
{
	u64 age = now - cpu->anchor, found = bpf_ktime_get_ns() - now;
	s64 line = cpu->ahead + ((s64)age * cpu->drift >> SECOND_BITS), over = found - line, step = over;

	if (RARE(age >> REST_BITS || over >> JUMP_BITS > 0)) {
		cpu->anchor = now;
		cpu->ahead = found;
		cpu->residue = 0;
		return 0;
	}
	if (over > 0)
		step = fresh ? (over < MOST_OVER ? over : MOST_OVER) >> RAISE_BITS : 0;
	cpu->ahead += step;
	cpu->residue += step;
	if (RARE(age >> SECOND_BITS)) {
		if ((u64)(cpu->residue + (1LL << MOST_DRIFT_BITS)) >> (MOST_DRIFT_BITS + 1) == 0)
			cpu->drift += cpu->residue >> (log2_of(age) - SECOND_BITS + TURN_BITS);
		cpu->anchor = now;
		cpu->ahead = line + step;
		cpu->residue = 0;
	}
	return over > 0 ? over : 0;
}

/* What is stamped on a task that loses the CPU. */
#define STAMP_OF(task, now) AT(u64, task, TASK_RUN_DELAY)

/* How long the task that comes has waited by `now`, or NO_WAIT; LOST or 0 in `mark`. */
static inline u64 wait_of(u64 *ctx, u32 pid, u64 now, u64 *mark)
{
	u64 *place = &PRIVATE->stamps[BOUND(pid, STAMPS - 1)];
	u64 queued = AT(u64, ctx[2], TASK_QUEUED), total = AT(u64, ctx[2], TASK_RUN_DELAY);
	u64 wait = queued ? now - queued : NO_WAIT, stamp = *place, moved = (total & ~STEP) - (stamp & ~STEP);

	*place = ((queued ? total + wait : total) & ~STEP) | tag_of(pid) | SEEN;
	if (!stamp || (stamp & TAG) != tag_of(pid))
		return wait;
	*mark = stamp & LOST;
	return queued && !(moved >> 63) ? wait + moved : wait;
}

#else

#define NOW(task) bpf_ktime_get_ns()
#define OFTEN(cpu) 0
#define exact_after(cpu, now, fresh) 0
#define STAMP_OF(task, now) (now)

static inline void woken(u32 pid)
{
	if (pid)
		mark(pid, bpf_ktime_get_ns(), 0);
}

static inline u64 wait_of(u64 *ctx, u32 pid, u64 now, u64 *mark)
{
	u64 *place = &PRIVATE->stamps[BOUND(pid, STAMPS - 1)], stamp = *place;

	if (!stamp || (stamp & TAG) != tag_of(pid))
		return NO_WAIT;
	*place = 0;
	*mark = stamp & LOST;
	stamp = now - (stamp & ~STEP);
	return stamp >> 63 ? NO_WAIT : stamp;
}

#endif

#ifndef TYPED

#define WOKEN_PID FIELD(u32, ctx, sched_wakeup_pid)
#define NEW_PID FIELD(u32, ctx, sched_wakeup_new_pid)
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

#define NAME_OF(task, to) bpf_probe_read_kernel(to, 16, (char *)AT(u64, task, TASK_LEADER) + TASK_COMM)

#define WOKEN_PID AT(u32, ctx[0], TASK_PID)
#define NEW_PID WOKEN_PID
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

#ifndef QUEUED

int sched_wakeup(u64 *ctx)
{
	woken(WOKEN_PID);
	return 0;
}

int sched_wakeup_new(u64 *ctx)
{
	woken(NEW_PID);
	return 0;
}

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

/* The next state of a sampler: the time of what it chose last and, in the low 4 bits, how often its odds halved. */
static inline u64 crowd(u64 state, u64 now)
{
	u64 doublings = state & 15;

	if (now - state > CROWDED_NS)
		doublings -= !!doublings;
	else
		doublings += doublings < MOST_DOUBLINGS;
	return (now & ~15ULL) | doublings;
}

static inline void lost(u64 *ctx, struct cpu *cpu, u32 prev, u64 now)
{
	u64 doublings = cpu->lost & 15, many = 1ULL << doublings;

	mark(prev, STAMP_OF(ctx[1], now), LOST);
	if (((now * MULTIPLIER) >> 1) >> (63 - doublings))
		return;
	cpu->lost = crowd(cpu->lost, now);
	ADD(SHARED->losers, PREV_KEY, many, 0, many, now, PREV_NAME);
}

/* Ends the measured time on the CPU, if any, and begins another one that stands for `many`, if any. */
static inline void sliced(struct cpu *cpu, u64 exact, u64 many)
{
	u64 slice = exact - (cpu->slice & ~STEP);

	if (cpu->slice && slice >> 63 == 0)
		cpu->slices[BOUND(bucket_of(slice), BUCKETS - 1)] += cpu->slice & STEP;
	cpu->slice = many ? (exact & ~STEP) | many : 0;
}

static inline void blame(u64 *ctx, struct cpu *cpu, u64 wait, u64 now, u64 slice)
{
	u64 quantum_bits = QUANTUM_BITS + (cpu->told & 15), group;
	u32 prev = PREV_PID, next = NEXT_PID;
	struct heavy *slot;

	if (!RARE(wait >= (now * MULTIPLIER) >> (64 - quantum_bits)))
		return;
	if (wait >> quantum_bits == 0)
		wait = 1ULL << quantum_bits;
	cpu->told = crowd(cpu->told, now);
	slot = ADD(SHARED->delays, NEXT_KEY, 1, wait, wait, now, NEXT_NAME);
	if (slot)
		slot->aux = next;
#ifdef NEXT_GROUP
	group = NEXT_GROUP;
	slot = group ? ADD(SHARED->groups, group, 1, wait, wait, now, NO_NAME) : 0;
	if (slot)
		slot->aux = NEXT_KEY;
#endif
	if (!prev)
		return;
	if (slice < wait)
		wait = slice;
	ADD(SHARED->holders, PREV_KEY, 1, wait, wait, now, PREV_NAME);
}

/* Whether the wait that ends is short and to be timed exactly; then, or if it is long, for how many it stands, else 0.
 * The golden ratio spreads the chosen evenly over any pattern of switches.
 */
static inline u64 stands_for(struct cpu *cpu, u64 wait, u64 often, u64 *exactly)
{
	if (wait == NO_WAIT)
		return 0;
	if (wait >> LONG_BITS)
		return 1;
	if (often && (cpu->arrivals * MULTIPLIER) >> (64 - EIGHT_BITS))
		return 0;
	*exactly = 1;
	return often ? 1 << EIGHT_BITS : 1;
}

int sched_switch(u64 *ctx)
{
	struct cpu *cpu = this_cpu();
	u64 now = NOW(ctx[1]), often = OFTEN(cpu), slice = now - cpu->since, wait = NO_WAIT, many = 0;
	u32 prev = PREV_PID, next = NEXT_PID;
	u64 idle = is_zero(prev), manner = idle << 1 | (PREV_RUNNABLE & ~idle), begins = 0, exactly = 0, late = 0, mark = 0;

	cpu->since = now;
	cpu->pace += (slice >> 6) - (cpu->pace >> 6);
	cpu->switches[BOUND(manner, MANNERS)] += 1;
	if (RARE(manner == PREEMPTED))
		lost(ctx, cpu, prev, now);
	if (next) {
		wait = wait_of(ctx, next, now, &mark);
		cpu->arrivals += !mark;
		many = stands_for(cpu, wait, often, &exactly);
		begins = often ? !(now & SLICE_BITS_OFTEN) << 2 : !(now & SLICE_BITS);
	}
	if (begins | cpu->slice | exactly) {
		late = exact_after(cpu, now, manner == BLOCKED);
		if (begins | cpu->slice)
			sliced(cpu, now + late, begins);
	}
	if (!many)
		return 0;
	wait += exactly ? late : 0;
	if (!mark)
		cpu->waits[BOUND(bucket_of(wait), BUCKETS - 1)] += many;
	cpu->wait_ns += wait * many;
	blame(ctx, cpu, wait * many, now, slice);
	return 0;
}

int sched_migrate_task(u64 *ctx)
{
	struct cpu *cpu = this_cpu();
	u64 far = 0, now;

#ifdef NODE_OF
	far = NODE_OF(MOVED_FROM) != NODE_OF(MOVED_TO);
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
