/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Time that tasks spend reclaiming memory themselves: for the host (direct) or for their control group (memcg). */
#define STARTS 4096
#define STARTS_SHIFT 52

struct total {
	u64 stalls;
	u64 ns;
};

struct shared {
	struct heavy tasks[HEAVY_SLOTS];
	struct total totals[2]; /* direct, memcg */
	u64 unused[4];
	struct heavy groups[HEAVY_SLOTS];
};

struct start {
	u64 key;
	u64 ns;
};

struct private {
	struct start starts[STARTS];
};

static inline struct start *start_of(u64 key)
{
	u64 i = (key * MULTIPLIER) >> STARTS_SHIFT;

	return &PRIVATE->starts[BOUND(i, STARTS - 1)];
}

static inline void begin(u32 kind)
{
	u64 key = ((bpf_get_current_pid_tgid() & 0xffffffff) << 1) | kind;
	struct start *start = start_of(key);

	start->key = key;
	start->ns = bpf_ktime_get_ns();
}

static inline void end(u32 kind)
{
	u64 pid_tgid = bpf_get_current_pid_tgid(), now = bpf_ktime_get_ns(), ns;
	u64 key = ((pid_tgid & 0xffffffff) << 1) | kind;
	struct start *start = start_of(key);
	struct heavy *slot;

	if (start->key != key || start->ns > now)
		return;
	start->key = 0;
	ns = now - start->ns;
	COUNT(SHARED->totals[kind].stalls, 1);
	COUNT(SHARED->totals[kind].ns, ns);
#ifdef CSET_MEMORY
	group_add(SHARED->groups, ns, now);
#endif
	slot = heavy_slot(SHARED->tasks, pid_tgid >> 32, ns, now);
	if (!slot)
		return;
	bpf_get_current_comm(slot->name, sizeof(slot->name));
	heavy_add(slot, ns, ns, now);
}

int mm_vmscan_direct_reclaim_begin(u64 *ctx)
{
	begin(0);
	return 0;
}

int mm_vmscan_direct_reclaim_end(u64 *ctx)
{
	end(0);
	return 0;
}

int mm_vmscan_memcg_reclaim_begin(u64 *ctx)
{
	begin(1);
	return 0;
}

int mm_vmscan_memcg_reclaim_end(u64 *ctx)
{
	end(1);
	return 0;
}
