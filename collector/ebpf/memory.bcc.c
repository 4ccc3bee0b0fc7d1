/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Tasks held back for writing faster than the disk takes it, compaction, the reclaim daemon, pages moved. All rare. */
#define STARTS 1024
#define STARTS_SHIFT 54
#define NODES 64
#define REASONS 16
#define KCOMPACT 0x746361706d6f636bULL /* how the names of the kernel's own compaction threads begin */

struct total {
	u64 count;
	u64 ns;
};

struct daemon {
	u64 wakes;
	u64 active_ns;
	u64 since; /* 0 while it sleeps */
	u64 unused;
};

struct moved {
	u64 succeeded;
	u64 failed;
};

struct shared {
	struct heavy writers[HEAVY_SLOTS];
	struct heavy groups[HEAVY_SLOTS];
	struct heavy compactors[HEAVY_SLOTS];
	struct total throttled, compacted, compacted_by_kernel;
	u64 unused[2];
	struct daemon daemons[NODES];
	struct moved moved[REASONS];
};

struct start {
	u64 key;
	u64 ns;
};

struct private {
	struct start starts[STARTS];
};

static inline void add(struct total *total, u64 ns)
{
	COUNT(total->count, 1);
	COUNT(total->ns, ns);
}

static inline void blame(struct heavy *table, u64 ns, u64 now)
{
	struct heavy *slot = heavy_slot(table, bpf_get_current_pid_tgid() >> 32, ns, now);

	if (!slot)
		return;
	bpf_get_current_comm(slot->name, sizeof(slot->name));
	heavy_add(slot, ns, ns, now);
}

#ifdef HAVE_balance_dirty_pages
/* Comes before the task sleeps, `pause` being milliseconds; not above 0 where it need not sleep. */
int balance_dirty_pages(u64 *ctx)
{
	s64 pause = FIELD(s64, ctx, balance_dirty_pages_pause);
	u64 ns = (u64)pause * 1000000, now = bpf_ktime_get_ns();

	if (pause <= 0)
		return 0;
	add(&SHARED->throttled, ns);
	blame(SHARED->writers, ns, now);
#ifdef CSET_MEMORY
	group_add(SHARED->groups, ns, now);
#endif
	return 0;
}
#endif

#if defined(HAVE_mm_compaction_begin) && defined(HAVE_mm_compaction_end)
static inline struct start *start_of(u64 key)
{
	u64 i = (key * MULTIPLIER) >> STARTS_SHIFT;

	return &PRIVATE->starts[BOUND(i, STARTS - 1)];
}

int mm_compaction_begin(u64 *ctx)
{
	u64 key = bpf_get_current_pid_tgid() & 0xffffffff;
	struct start *start = start_of(key);

	start->key = key;
	start->ns = bpf_ktime_get_ns();
	return 0;
}

int mm_compaction_end(u64 *ctx)
{
	u64 key = bpf_get_current_pid_tgid() & 0xffffffff, now = bpf_ktime_get_ns();
	struct start *start = start_of(key);
	u64 comm[2] = {};

	if (start->key != key || start->ns > now)
		return 0;
	start->key = 0;
	bpf_get_current_comm(comm, sizeof(comm));
	if (comm[0] == KCOMPACT) {
		add(&SHARED->compacted_by_kernel, now - start->ns);
	} else {
		add(&SHARED->compacted, now - start->ns);
		blame(SHARED->compactors, now - start->ns, now);
	}
	return 0;
}
#endif

#if defined(HAVE_mm_vmscan_kswapd_wake) && defined(HAVE_mm_vmscan_kswapd_sleep)
/* Once for each run: one that is woken again before it slept goes on. */
int mm_vmscan_kswapd_wake(u64 *ctx)
{
	struct daemon *daemon = &SHARED->daemons[BOUND(FIELD(u32, ctx, mm_vmscan_kswapd_wake_nid), NODES - 1)];

	daemon->wakes += 1;
	if (!daemon->since)
		daemon->since = bpf_ktime_get_ns();
	return 0;
}

int mm_vmscan_kswapd_sleep(u64 *ctx)
{
	struct daemon *daemon = &SHARED->daemons[BOUND(FIELD(u32, ctx, mm_vmscan_kswapd_sleep_nid), NODES - 1)];
	u64 now = bpf_ktime_get_ns(), since = daemon->since;

	daemon->since = 0;
	if (since && now > since)
		daemon->active_ns += now - since;
	return 0;
}
#endif

#ifdef HAVE_mm_migrate_pages
int mm_migrate_pages(u64 *ctx)
{
	u32 reason = FIELD(u32, ctx, mm_migrate_pages_reason);
	struct moved *moved = &SHARED->moved[BOUND(reason < REASONS ? reason : REASONS - 1, REASONS - 1)];

	COUNT(moved->succeeded, FIELD(u64, ctx, mm_migrate_pages_succeeded));
	COUNT(moved->failed, FIELD(u64, ctx, mm_migrate_pages_failed));
	return 0;
}
#endif
