/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Waits for locks inside the kernel, by kind of lock and by process. Off by default: a storm of spinning makes millions.
 *
 * Every wait is counted, one in EVERY on each CPU is timed and blamed, and then stands for EVERY.
 * A mutex is announced twice: first as one that spins, then, if that was in vain, as one that sleeps.
 */
#define EVERY 8
#define KINDS 64 /* every set of the six flags */
#define SLEEPING_MUTEX 32
#define STARTS 4096
#define STARTS_SHIFT 52

struct cpu {
	u64 turn;
	u64 unused[7];
	u64 waits[KINDS];
	u64 wait_ns[KINDS];
};

struct shared {
	struct heavy waiters[HEAVY_SLOTS];
	struct cpu cpus[CPUS];
};

struct start {
	u64 key;
	u64 ns;
	u64 kind;
};

struct private {
	struct start starts[STARTS];
};

static inline struct cpu *this_cpu(void)
{
	return &SHARED->cpus[BOUND(bpf_get_smp_processor_id(), CPUS - 1)];
}

/* One task waits for a lock once; idle tasks all have number 0, but do not change their CPU. */
static inline u64 key_of(u64 lock)
{
	u32 task = bpf_get_current_pid_tgid();

	if (!task)
		task = bpf_get_smp_processor_id() | 1U << 31;
	return (lock ^ ((u64)task << 32)) | 1;
}

static inline struct start *start_of(u64 key)
{
	u64 i = (key * MULTIPLIER) >> STARTS_SHIFT;

	return &PRIVATE->starts[BOUND(i, STARTS - 1)];
}

int contention_begin(u64 *ctx)
{
	u32 kind = FIELD(u32, ctx, contention_begin_flags) & (KINDS - 1);
	struct cpu *cpu = this_cpu();
	struct start *start;
	u64 key;

	if (kind == SLEEPING_MUTEX)
		return 0;
	cpu->waits[BOUND(kind, KINDS - 1)] += 1;
	if (cpu->turn++ & (EVERY - 1))
		return 0;
	key = key_of(FIELD(u64, ctx, contention_begin_lock_addr));
	start = start_of(key);
	start->key = key;
	start->ns = bpf_ktime_get_ns();
	start->kind = kind;
	return 0;
}

int contention_end(u64 *ctx)
{
	u64 key = key_of(FIELD(u64, ctx, contention_end_lock_addr)), now, ns, kind;
	struct start *start = start_of(key);
	struct heavy *slot;

	if (start->key != key)
		return 0;
	start->key = 0;
	now = bpf_ktime_get_ns();
	if (start->ns > now)
		return 0;
	ns = (now - start->ns) * EVERY;
	kind = start->kind;
	this_cpu()->wait_ns[BOUND(kind, KINDS - 1)] += ns;
	slot = heavy_slot(SHARED->waiters, (bpf_get_current_pid_tgid() >> 32 << 6 | kind) + 1, ns, now);
	if (!slot)
		return 0;
	if (!(slot->count & 15))
		bpf_get_current_comm(slot->name, sizeof(slot->name));
	COUNT(slot->count, EVERY);
	COUNT(slot->amount, ns);
	slot->credit += ns;
	slot->seen_ns = now;
	return 0;
}
