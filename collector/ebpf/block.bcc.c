/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Block I/O latency from issue to completion, per device and direction, and who issued the bytes.
 *
 * A request is paired by (device, first sector) in a direct-mapped table: one that loses its place there is counted
 * but has no latency. Discards and bare flushes are left out.
 * Who did it is asked where a bio is queued: that is the submitter's own context, while a busy device has its requests
 * issued by whoever happens to run (kblockd, an interrupt).
 */
#define STARTS 16384
#define STARTS_SHIFT 50
#define DEVICES 64
#define PROBES 4
#define READ 0
#define WRITE 1
#define NEITHER 2

struct direction {
	u64 requests;
	u64 bytes;
	u64 errors;
	u64 samples;
	u64 latency_ns;
	u64 unused;
	u64 buckets[BUCKETS];
};

struct device {
	u32 dev;
	u32 unused[3];
	struct direction directions[2];
};

struct shared {
	struct heavy issuers[HEAVY_SLOTS];
	struct device devices[DEVICES];
	u64 unplaced;
	u64 unused[7];
};

struct start {
	u64 key;
	u64 ns;
};

struct private {
	struct start starts[STARTS];
};

static inline u32 direction_of(char first, char second)
{
	if (first == 'F')
		first = second;
	if (first == 'R')
		return READ;
	return first == 'W' ? WRITE : NEITHER;
}

static inline u64 key_of(u32 dev, u64 sector)
{
	return ((u64)dev << 40) ^ ((u64)dev >> 24) ^ (sector + 1);
}

static inline struct start *start_of(u64 key)
{
	u64 i = (key * MULTIPLIER) >> STARTS_SHIFT;

	return &PRIVATE->starts[BOUND(i, STARTS - 1)];
}

static inline struct device *device_of(u32 dev)
{
	u32 first = (dev * 0x9E3779B1U) >> 26;
	u32 i;

#pragma unroll
	for (i = 0; i < PROBES; i++) {
		struct device *device = &SHARED->devices[BOUND(first + i, DEVICES - 1)];

		if (!device->dev)
			device->dev = dev;
		if (device->dev == dev)
			return device;
	}
	return 0;
}

int block_bio_queue(u64 *ctx)
{
	u32 dev = FIELD(u32, ctx, block_bio_queue_dev);
	u64 bytes = (u64)FIELD(u32, ctx, block_bio_queue_nr_sector) << 9;
	u64 now, pid = bpf_get_current_pid_tgid() >> 32;
	struct heavy *slot;

	if (!bytes || direction_of(FIELD(char, ctx, block_bio_queue_rwbs),
				   FIELD(char, ctx, block_bio_queue_rwbs + 1)) == NEITHER)
		return 0;
	now = bpf_ktime_get_ns();
	slot = heavy_slot(SHARED->issuers, ((u64)dev << 32 | pid) + 1, bytes, now);
	if (!slot)
		return 0;
	bpf_get_current_comm(slot->name, sizeof(slot->name));
	slot->aux = dev;
	heavy_add(slot, bytes, bytes, now);
	return 0;
}

int block_rq_issue(u64 *ctx)
{
	u64 key = key_of(FIELD(u32, ctx, block_rq_issue_dev), FIELD(u64, ctx, block_rq_issue_sector));
	struct start *start = start_of(key);

	if (direction_of(FIELD(char, ctx, block_rq_issue_rwbs), FIELD(char, ctx, block_rq_issue_rwbs + 1)) == NEITHER)
		return 0;
	start->key = key;
	start->ns = bpf_ktime_get_ns();
	return 0;
}

static inline void latency(struct direction *direction, u64 key)
{
	struct start *start = start_of(key);
	u64 now = bpf_ktime_get_ns(), ns;

	if (start->key != key || start->ns > now)
		return;
	start->key = 0;
	ns = now - start->ns;
	COUNT(direction->samples, 1);
	COUNT(direction->latency_ns, ns);
	COUNT(direction->buckets[BOUND(bucket_of(ns), BUCKETS - 1)], 1);
}

int block_rq_complete(u64 *ctx)
{
	u32 dev = FIELD(u32, ctx, block_rq_complete_dev);
	u32 way = direction_of(FIELD(char, ctx, block_rq_complete_rwbs), FIELD(char, ctx, block_rq_complete_rwbs + 1));
	struct direction *direction;
	struct device *device;

	if (way == NEITHER || !dev)
		return 0;
	device = device_of(dev);
	if (!device) {
		COUNT(SHARED->unplaced, 1);
		return 0;
	}
	direction = &device->directions[BOUND(way, 1)];
	COUNT(direction->requests, 1);
	COUNT(direction->bytes, (u64)FIELD(u32, ctx, block_rq_complete_nr_sector) << 9);
	if (FIELD(int, ctx, block_rq_complete_error))
		COUNT(direction->errors, 1);
	latency(direction, key_of(dev, FIELD(u64, ctx, block_rq_complete_sector)));
	return 0;
}
