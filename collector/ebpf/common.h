/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Prepended by the loader to every family. Needs no kernel header: no kernel struct is read by a compiled-in offset.
 *
 * A family keeps all it counts in one array map of one element, reached directly through SHARED (no look-up), and what
 * only its programs need in a second one, PRIVATE. The daemon maps the first read-only; the loader checks its size.
 */
#define SHARED ((struct shared *)bpf_pseudo_fd(2, SHARED_FD))
#define PRIVATE ((struct private *)bpf_pseudo_fd(2, PRIVATE_FD))
#define FIELD(type, ctx, field) (*(type *)((char *)(ctx) + AT_##field))
#define COUNT(counter, n) __sync_fetch_and_add(&(counter), (n))

/* An index masked where the verifier can see it: the compiler may not use what it knows to leave the mask out. */
#define BOUND(index, mask) ({ u64 i_ = (index); asm volatile("" : "+r"(i_)); i_ & (mask); })

#define BUCKETS 256
#define HEAVY_SLOTS 512
#define HEAVY_IDLE_NS 10000000000LL
#define MULTIPLIER 0x9E3779B97F4A7C15ULL /* 2^64 over the golden ratio: Fibonacci hashing */

/* One heavy hitter, its latest name (a process renames itself by exec); 64 bytes, one cache line. `generation` grows when another key takes the slot over. */
struct heavy {
	u64 key;
	char name[16];
	u64 count;
	u64 amount;
	u64 credit;
	u64 seen_ns;
	u32 generation;
	u32 aux;
};

/* Follows a pointer in kernel memory; 0 where it cannot be read. */
static inline u64 read_u64(u64 where)
{
	u64 value = 0;

	bpf_probe_read_kernel(&value, 8, (void *)where);
	return value;
}

/* Id of the control group a task is in; `place` is CSET_CPU or CSET_MEMORY. Only for what happens seldom. */
#ifdef CSET_MEMORY
static inline u64 cgroup_of(u64 task, u64 place)
{
	u64 group = read_u64(read_u64(task + TASK_CGROUPS) + place);

#ifdef CSS_CGROUP
	group = read_u64(group + CSS_CGROUP);
#endif
	return read_u64(read_u64(group + CGROUP_NODE) + NODE_ID);
}
#endif

static inline u32 log2_of(u64 v)
{
	u32 r = 0;

	if (v >> 32) { r += 32; v >>= 32; }
	if (v >> 16) { r += 16; v >>= 16; }
	if (v >> 8) { r += 8; v >>= 8; }
	if (v >> 4) { r += 4; v >>= 4; }
	if (v >> 2) { r += 2; v >>= 2; }
	return r + (v >> 1);
}

/* Log2 histogram with 8 sub-buckets per octave over units of 64 ns: relative error at most 1/8, 0 .. 1099 s. */
static inline u32 bucket_of(u64 ns)
{
	u64 v = ns >> 6;
	u32 e;

	if (v < 8)
		return v;
	if (v >> 34)
		return BUCKETS - 1;
	e = log2_of(v);
	return ((e - 2) << 3) + ((v >> (e - 3)) & 7);
}

/* The slot of `key`, taken over from a lighter or idle key if need be; 0 when its two slots hold heavier ones, whose
 * credit the attempt then lowers (Misra & Gries' decrement).
 */
static inline struct heavy *heavy_slot(struct heavy *table, u64 key, u64 weight, u64 now)
{
	u32 i = (key * MULTIPLIER) >> 32;
	struct heavy *one = &table[BOUND(i, HEAVY_SLOTS - 1)];
	struct heavy *two = &table[BOUND(i ^ 1, HEAVY_SLOTS - 1)];

	if (one->key == key)
		return one;
	if (two->key == key)
		return two;
	if (two->credit < one->credit)
		one = two;
	if (one->credit > weight && (s64)(now - one->seen_ns) < HEAVY_IDLE_NS) {
		one->credit -= weight;
		return 0;
	}
	one->key = key;
	one->count = 0;
	one->amount = 0;
	one->credit = 0;
	one->generation += 1;
	return one;
}

static inline void heavy_add(struct heavy *slot, u64 amount, u64 weight, u64 now)
{
	COUNT(slot->count, 1);
	if (amount) /* clang 11 makes "atomic or 0" of a constant 0, and aborts for want of an instruction for that */
		COUNT(slot->amount, amount);
	slot->credit += weight;
	slot->seen_ns = now;
}

/* Adds to the memory group of the current task; aux is a process of it, by which the daemon finds its name. */
#ifdef CSET_MEMORY
static inline void group_add(struct heavy *table, u64 amount, u64 now)
{
	u64 id = cgroup_of(bpf_get_current_task(), CSET_MEMORY);
	struct heavy *slot = id ? heavy_slot(table, id, amount, now) : 0;

	if (!slot)
		return;
	slot->aux = bpf_get_current_pid_tgid() >> 32;
	heavy_add(slot, amount, amount, now);
}
#endif
