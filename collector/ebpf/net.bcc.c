/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* TCP retransmits and resets by peer, connections that others asked for in vain by our port, dropped packets by the
 * kernel's reason, packets that a queue of this host dropped by device and by who was running then: in most cases who
 * sent them. All network namespaces.
 */
#define REASONS 512
#define RESET_REASONS 64
#define TURNED_AWAY (1 << 16) /* in aux, above the port, which is ours then */

struct device {
	char name[16];
	u64 netns; /* inode of its network namespace */
};

struct shared {
	struct heavy retransmits[HEAVY_SLOTS];
	struct heavy resets[HEAVY_SLOTS];
	u64 reasons[REASONS];
	u64 retransmitted;
	u64 reset_sent;
	u64 reset_received;
	u64 turned_away;
	u64 unused[4];
	u64 reset_reasons[RESET_REASONS];
	struct heavy queue_drops[HEAVY_SLOTS];
	struct device devices[HEAVY_SLOTS]; /* of the slot of the same number */
};

struct private {
	u64 unused;
};

/* address: 16 bytes, IPv4 mapped into IPv6. aux is the port. */
static inline void blame(struct heavy *table, u64 *address, u32 port)
{
	u64 now = bpf_ktime_get_ns();
	u64 key = (address[0] * MULTIPLIER) ^ address[1] ^ ((u64)port << 17) ^ ((address[1] >> 29) * MULTIPLIER);
	struct heavy *slot = heavy_slot(table, key | 1, 1, now);

	if (!slot)
		return;
	if (!slot->count) {
		__builtin_memcpy(slot->name, address, 16);
		slot->aux = port;
	}
	heavy_add(slot, 0, 1, now);
}

/* Whether this is a segment that asks for a connection: SYN without ACK. */
#ifdef SKB_TRANSPORT
static inline int asks(u64 skb)
{
	u16 header = 0;
	u8 flags = 0;

	bpf_probe_read_kernel(&header, 2, (void *)(skb + SKB_TRANSPORT));
	bpf_probe_read_kernel(&flags, 1, (void *)(read_u64(skb + SKB_HEAD) + header + 13));
	return (flags & 0x12) == 2;
}
#endif

static inline void blame_at(struct heavy *table, void *where, u32 port)
{
	u64 address[2] = {};

	bpf_probe_read_kernel(address, 16, where);
	blame(table, address, port);
}

#ifdef HAVE_tcp_retransmit_skb
int tcp_retransmit_skb(u64 *ctx)
{
	COUNT(SHARED->retransmitted, 1);
	blame_at(SHARED->retransmits, (char *)ctx + AT_tcp_retransmit_skb_daddr_v6,
		 FIELD(u16, ctx, tcp_retransmit_skb_dport));
	return 0;
}
#endif

#ifdef HAVE_tcp_receive_reset
int tcp_receive_reset(u64 *ctx)
{
	COUNT(SHARED->reset_received, 1);
	blame_at(SHARED->resets, (char *)ctx + AT_tcp_receive_reset_daddr_v6,
		 FIELD(u16, ctx, tcp_receive_reset_dport));
	return 0;
}
#endif

#ifdef HAVE_tcp_send_reset
#define SOCKADDR(which, type, offset) FIELD(type, ctx, tcp_send_reset_##which + (offset))
int tcp_send_reset(u64 *ctx)
{
	COUNT(SHARED->reset_sent, 1);
#ifdef AT_tcp_send_reset_reason /* since Linux 6.10 */
	{
		u32 reason = FIELD(u32, ctx, tcp_send_reset_reason);

		COUNT(SHARED->reset_reasons[BOUND(reason < RESET_REASONS ? reason : 0, RESET_REASONS - 1)], 1);
	}
#endif
#ifdef AT_tcp_send_reset_daddr_v6
	blame_at(SHARED->resets, (char *)ctx + AT_tcp_send_reset_daddr_v6, FIELD(u16, ctx, tcp_send_reset_dport));
#elif SIZE_tcp_send_reset_daddr == 28
	{	/* socket addresses: family, port, then 4 bytes of IPv4 or, 4 later, 16 of IPv6 */
		u32 port = __builtin_bswap16(SOCKADDR(daddr, u16, 2));
		u64 peer[2] = {}, own[2] = {};

		if (SOCKADDR(daddr, u16, 0) == 2) {
			peer[1] = ((u64)SOCKADDR(daddr, u32, 4) << 32) | 0xffff0000;
			own[1] = ((u64)SOCKADDR(saddr, u32, 4) << 32) | 0xffff0000;
		} else {
			bpf_probe_read_kernel(peer, 16, (char *)ctx + AT_tcp_send_reset_daddr + 8);
			bpf_probe_read_kernel(own, 16, (char *)ctx + AT_tcp_send_reset_saddr + 8);
		}
#if defined(AT_tcp_send_reset_reason) && defined(SKB_TRANSPORT)
		/* Who asks from the same address is on this host, and known by name (connect.bcc.c). */
		if (FIELD(u32, ctx, tcp_send_reset_reason) == NOBODY_LISTENS && (peer[0] != own[0] || peer[1] != own[1]) &&
		    asks(FIELD(u64, ctx, tcp_send_reset_skbaddr))) {
			COUNT(SHARED->turned_away, 1);
			port = __builtin_bswap16(SOCKADDR(saddr, u16, 2)) | TURNED_AWAY;
		}
#endif
		blame(SHARED->resets, peer, port);
	}
#endif
	return 0;
}
#endif

#ifdef HAVE_kfree_skb
#ifdef QUEUE_REASON
static inline void queue_dropped(u64 skb)
{
	u64 now = bpf_ktime_get_ns(), where = read_u64(skb + SKB_DEV);
	u32 pid = bpf_get_current_pid_tgid() >> 32;
	u64 key = (where * MULTIPLIER) ^ pid, i = (key * MULTIPLIER) >> 32;
	struct heavy *slot = heavy_slot(SHARED->queue_drops, key, 1, now);
	struct device device = {};

	if (!slot || !where)
		return;
	if (!slot->count) {
		bpf_get_current_comm(slot->name, sizeof(slot->name));
		bpf_probe_read_kernel(device.name, sizeof(device.name), (void *)(where + DEV_NAME));
		bpf_probe_read_kernel(&device.netns, 4, (void *)(read_u64(where + DEV_NET) + NET_INODE));
		if (&SHARED->queue_drops[BOUND(i, HEAVY_SLOTS - 1)] != slot)
			i ^= 1;
		__builtin_memcpy(&SHARED->devices[BOUND(i, HEAVY_SLOTS - 1)], &device, sizeof(device));
	}
	slot->aux = pid;
	heavy_add(slot, 0, 1, now);
}
#endif

int kfree_skb(u64 *ctx)
{
	u32 reason = FIELD(u32, ctx, kfree_skb_reason);

	if (reason >= REASONS)
		reason = 0;
	COUNT(SHARED->reasons[BOUND(reason, REASONS - 1)], 1);
#ifdef QUEUE_REASON
	if (QUEUE_REASON(reason))
		queue_dropped(FIELD(u64, ctx, kfree_skb_skbaddr));
#endif
	return 0;
}
#endif
