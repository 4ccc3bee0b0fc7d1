/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Block I/O: time in the scheduler's queue (insert to issue) and at the device (issue to completion), per device and
 * direction, requeues, and who issued the bytes.
 *
 * A request is paired by (device, direction, first sector) in a direct-mapped table: one that loses its place there is
 * counted but has no latency. One that went to the device without being queued has waited 0.
 * Who did it is asked where a bio is queued: that is the submitter's own context, while a busy device has its requests
 * issued by whoever happens to run (kblockd, an interrupt).
 */
#define STARTS 16384
#define STARTS_SHIFT 50
#define INSERTS 4096
#define INSERTS_SHIFT 52
#define DEVICES 64
#define PROBES 4
#define READ 0
#define WRITE 1
#define FLUSH 2
#define DISCARD 3
#define DIRECTIONS 4
#define NEITHER 4

struct direction {
	u64 requests;
	u64 bytes;
	u64 errors;
	u64 samples;
	u64 latency_ns;
	u64 queue_ns;
	u64 requeues;
	u64 unused;
	u64 buckets[BUCKETS];
};

struct device {
	u32 dev;
	u32 unused[3];
	struct direction directions[DIRECTIONS];
	u64 queues[2][BUCKETS];
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
	u64 queue_ns;
};

/* Queued and not yet issued. `queued` is one page that says whether a place is taken: most requests are never queued,
 * and a look at the places themselves would miss the cache each time.
 */
struct insert {
	u64 key;
	u64 ns;
};

struct private {
	struct start starts[STARTS];
	struct insert inserts[INSERTS];
	u8 queued[INSERTS];
};

/* "F" first says "flush before"; then comes what it is. A flush that carries nothing travels as "FF", while the empty
 * write that asked for it ("FW") is no request to the device.
 */
static inline u32 direction_of(char first, char second)
{
	if (first == 'F') {
		if (second == 'F')
			return FLUSH;
		first = second;
	}
	if (first == 'R')
		return READ;
	if (first == 'D')
		return DISCARD;
	return first == 'W' ? WRITE : NEITHER;
}

/* A flush has no sector, and the events disagree on how to say so. */
static inline u64 key_of(u32 dev, u32 way, u64 sector)
{
	if (way == FLUSH)
		sector = 0;
	return ((u64)dev << 40) ^ ((u64)dev >> 24) ^ ((u64)way << 38) ^ (sector + 1);
}

#define WAY(event) direction_of(FIELD(char, ctx, event##_rwbs), FIELD(char, ctx, event##_rwbs + 1))
#define KEY(event) key_of(FIELD(u32, ctx, event##_dev), WAY(event), FIELD(u64, ctx, event##_sector))

static inline struct start *start_of(u64 key)
{
	u64 i = (key * MULTIPLIER) >> STARTS_SHIFT;

	return &PRIVATE->starts[BOUND(i, STARTS - 1)];
}

static inline u32 insert_of(u64 key)
{
	return (key * MULTIPLIER) >> INSERTS_SHIFT;
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

	if (!bytes || WAY(block_bio_queue) > WRITE)
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

#ifdef HAVE_block_rq_insert
int block_rq_insert(u64 *ctx)
{
	u64 key = KEY(block_rq_insert);
	u32 place = insert_of(key);
	struct insert *insert = &PRIVATE->inserts[BOUND(place, INSERTS - 1)];

	insert->key = key;
	insert->ns = bpf_ktime_get_ns();
	PRIVATE->queued[BOUND(place, INSERTS - 1)] = 1;
	return 0;
}
#endif

int block_rq_issue(u64 *ctx)
{
	u64 key = KEY(block_rq_issue), now = bpf_ktime_get_ns(), queued = 0;
	struct start *start = start_of(key);
	u32 place = insert_of(key);
	u8 *taken = &PRIVATE->queued[BOUND(place, INSERTS - 1)];

	if (*taken) {
		struct insert *insert = &PRIVATE->inserts[BOUND(place, INSERTS - 1)];

		if (insert->key == key) {
			*taken = 0;
			queued = now > insert->ns ? now - insert->ns : 0;
		}
	}
	start->key = key;
	start->ns = now;
	start->queue_ns = queued;
	return 0;
}

static inline void latency(struct device *device, struct direction *direction, u32 way, u64 key)
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
	if (way > WRITE)
		return;
	ns = start->queue_ns;
	COUNT(direction->queue_ns, ns);
	COUNT(device->queues[BOUND(way, 1)][BOUND(bucket_of(ns), BUCKETS - 1)], 1);
}

int block_rq_complete(u64 *ctx)
{
	u32 dev = FIELD(u32, ctx, block_rq_complete_dev);
	u32 way = WAY(block_rq_complete);
	u64 bytes = (u64)FIELD(u32, ctx, block_rq_complete_nr_sector) << 9;
	struct direction *direction;
	struct device *device;

	if (way == NEITHER || !dev || (way == WRITE && !bytes))
		return 0;
	device = device_of(dev);
	if (!device) {
		COUNT(SHARED->unplaced, 1);
		return 0;
	}
	direction = &device->directions[BOUND(way, DIRECTIONS - 1)];
	COUNT(direction->requests, 1);
	COUNT(direction->bytes, bytes);
	if (FIELD(int, ctx, block_rq_complete_error))
		COUNT(direction->errors, 1);
	latency(device, direction, way, KEY(block_rq_complete));
	return 0;
}

#ifdef HAVE_block_rq_requeue
int block_rq_requeue(u64 *ctx)
{
	u32 way = WAY(block_rq_requeue);
	struct device *device = device_of(FIELD(u32, ctx, block_rq_requeue_dev));

	if (device && way != NEITHER)
		COUNT(device->directions[BOUND(way, DIRECTIONS - 1)].requeues, 1);
	return 0;
}
#endif
