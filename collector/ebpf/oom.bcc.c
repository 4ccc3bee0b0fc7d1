/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Victims of the OOM killer in a small ring; the kernel calls this under its oom_lock, so plain increments do. */
#define VICTIMS 64
#define ABSENT 0xffffffffffffffffULL

struct victim {
	u64 number; /* from 1 on; written last */
	u64 ns;
	u32 pid;
	u32 uid;
	u32 has_uid;
	u32 unused;
	char comm[16];
	u64 total_vm_kib;
	u64 anon_rss_kib;
	u64 file_rss_kib;
	u64 shmem_rss_kib;
	u64 unused2[2];
};

struct shared {
	struct victim ring[VICTIMS];
	u64 count;
	u64 unused[7];
};

struct private {
	u64 unused;
};

int mark_victim(u64 *ctx)
{
	u64 number = SHARED->count + 1;
	struct victim *victim = &SHARED->ring[BOUND(number, VICTIMS - 1)];

	victim->number = 0;
	victim->ns = bpf_ktime_get_ns();
	victim->pid = FIELD(u32, ctx, mark_victim_pid);
	victim->total_vm_kib = victim->anon_rss_kib = victim->file_rss_kib = victim->shmem_rss_kib = ABSENT;
	victim->has_uid = 0;
	victim->comm[0] = 0;
#ifdef AT_mark_victim_comm
	{
		u32 place = FIELD(u32, ctx, mark_victim_comm) & 0xffff;

		bpf_probe_read_kernel_str(victim->comm, sizeof(victim->comm), (char *)ctx + place);
	}
#endif
#ifdef AT_mark_victim_total_vm
	victim->total_vm_kib = FIELD(u64, ctx, mark_victim_total_vm);
#endif
#ifdef AT_mark_victim_anon_rss
	victim->anon_rss_kib = FIELD(u64, ctx, mark_victim_anon_rss);
#endif
#ifdef AT_mark_victim_file_rss
	victim->file_rss_kib = FIELD(u64, ctx, mark_victim_file_rss);
#endif
#ifdef AT_mark_victim_shmem_rss
	victim->shmem_rss_kib = FIELD(u64, ctx, mark_victim_shmem_rss);
#endif
#ifdef AT_mark_victim_uid
	victim->uid = FIELD(u32, ctx, mark_victim_uid);
	victim->has_uid = 1;
#endif
	victim->number = number;
	SHARED->count = number;
	return 0;
}
