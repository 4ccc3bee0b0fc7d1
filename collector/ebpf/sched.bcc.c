/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Run-queue latency: from wake-up, or from being preempted, until the task runs.
 *
 * With BTF (TYPED) these are BTF-typed raw tracepoints whose task_struct offsets the loader took from the running
 * kernel; without, classic tracepoints whose fields tracefs describes.
 * A stamp is one u64 by pid: time in steps of 32 ns, bits 1-4 the pid's high bits, bit 0 "was preempted".
 */
#define STAMPS 262144
#define STAMP_BITS 18
#define HEAVY_MIN_NS 50000

struct cpu {
	u64 switches;
	u64 wakeups;
	u64 wait_ns;
	u64 samples;
	u64 unused[4];
	u64 buckets[BUCKETS];
};

struct shared {
	struct heavy delays[HEAVY_SLOTS];
	struct cpu cpus[CPUS];
};

struct private {
	u64 stamps[STAMPS];
};

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

static inline void waited(struct cpu *cpu, u64 wait)
{
	cpu->wait_ns += wait;
	if (!(wait & 1)) {
		cpu->samples += 1;
		cpu->buckets[BOUND(bucket_of(wait), BUCKETS - 1)] += 1;
	}
}

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
#define PREV_RUNNABLE (!(FIELD(u64, ctx, sched_switch_prev_state) & 0xff))
#define HEAVY_KEY NEXT_PID
#define HEAVY_NAME(to) bpf_probe_read_kernel(to, 16, (char *)ctx + AT_sched_switch_next_comm)

#else

#define AT(type, base, offset) ({ type v_; \
	asm volatile("%0 = *(" #type " *)(%1 + %2)" : "=r"(v_) : "r"(base), "i"(offset)); v_; })

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
#define PREV_RUNNABLE ((ctx[0] & 1) || !PREV_STATE)
#define HEAVY_KEY AT(u32, ctx[2], TASK_TGID)
#define HEAVY_NAME(to) bpf_probe_read_kernel(to, 16, (char *)AT(u64, ctx[2], TASK_LEADER) + TASK_COMM)

#endif

int sched_switch(u64 *ctx)
{
	u64 now = bpf_ktime_get_ns();
	struct cpu *cpu = this_cpu();
	u32 prev = PREV_PID, next = NEXT_PID;
	struct heavy *slot;
	u64 wait;

	cpu->switches += 1;
	if (prev)
		mark(prev, PREV_RUNNABLE ? (now & ~31ULL) | tag_of(prev) | 1 : 0);
	if (!next)
		return 0;
	wait = take(next, now);
	if (!wait)
		return 0;
	waited(cpu, wait);
	if (wait < HEAVY_MIN_NS)
		return 0;
	slot = heavy_slot(SHARED->delays, HEAVY_KEY, wait, now);
	if (!slot)
		return 0;
	if (!(slot->count & 15)) /* a name changes seldom */
		HEAVY_NAME(slot->name);
	slot->aux = next;
	heavy_add(slot, wait, wait, now);
	return 0;
}
