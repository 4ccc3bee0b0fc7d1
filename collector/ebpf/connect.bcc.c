/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Outgoing TCP connections: how long until they stand, which never do, to whom and who wanted them.
 *
 * connect() sets SYN_SENT in the caller's own context; the answer arrives in any. The two are paired by the address of
 * the socket in a direct-mapped table: one that loses its place there has no latency and no name, but is counted.
 * Why it failed is what the kernel wrote into sk_err before it closed the socket. A socket closed by its own program
 * has none: if that waited long enough for a SYN to be repeated, it gave up; if not, it changed its mind. And one that
 * ends within connect() itself without ever having got a local port found none that was free (EADDRNOTAVAIL).
 *
 * A connection that stood and goes from ESTABLISHED to CLOSE at once was not closed but broken off: by a reset of the
 * peer (the kernel has written so into sk_err), for want of any answer (a time-out), or, without an error, by a reset
 * of its own program, in whose context that happens.
 */
#define STARTS 8192
#define STARTS_SHIFT 51
#define IPPROTO_TCP 6
#define TCP_ESTABLISHED 1
#define TCP_SYN_SENT 2
#define TCP_CLOSE 7
#define GAVE_UP_NS 1000000000ULL /* the initial retransmission time-out, RFC 6298 */
#define TCP_CLOSE_WAIT 8
#define OUTCOME_SHIFT 24 /* above any pid */
enum { REFUSED, TIMED_OUT, UNREACHABLE, ABANDONED, OTHER, CANCELLED, NO_PORT, OUTCOMES = 8 };
enum { RESET_SENT, RESET_RECEIVED, GAVE_UP, ENDED, WAYS = 4 };
#define OPENED_HERE (1U << 31)

struct peer {
	u64 address[2]; /* IPv4 mapped into IPv6 */
};

struct shared {
	struct heavy failures[HEAVY_SLOTS];
	struct peer peers[HEAVY_SLOTS]; /* of the slot of the same number */
	u64 buckets[BUCKETS];
	u64 outcomes[OUTCOMES];
	u64 started;
	u64 established;
	u64 close_wait_begun;
	u64 close_wait_ended;
	u64 ends[WAYS]; /* of connections that stood; the last one counts them all */
	struct heavy resets[HEAVY_SLOTS];
	struct peer reset_peers[HEAVY_SLOTS];
};

struct start {
	u64 sk;
	u64 ns;
	u64 comm[2];
	u64 pid;
};

struct private {
	struct start starts[STARTS];
};

static inline struct start *start_of(u64 sk)
{
	u64 i = ((sk >> 6) * MULTIPLIER) >> STARTS_SHIFT;

	return &PRIVATE->starts[BOUND(i, STARTS - 1)];
}

static inline u32 outcome_of(u64 sk, u64 waited)
{
#ifdef SOCK_ERR
	int error = 0;

	bpf_probe_read_kernel(&error, 4, (char *)sk + SOCK_ERR);
	if (error == 111 || error == 104) /* ECONNREFUSED, ECONNRESET */
		return REFUSED;
	if (error == 110)
		return TIMED_OUT;
	if (error == 113 || error == 101 || error == 112) /* EHOSTUNREACH, ENETUNREACH, EHOSTDOWN */
		return UNREACHABLE;
	if (!error && waited)
		return waited >= GAVE_UP_NS ? ABANDONED : CANCELLED;
#endif
	return OTHER;
}

/* Keyed by peer, port and command name, so that a loop of short-lived clients is one entry, and by whatever else `apart`
 * says; aux is the last pid and what became of it, the lowest 16 bits of the key are the port.
 */
static inline void blame(struct heavy *table, struct peer *peers, u64 *ctx, u64 *comm, u64 apart, u32 port, u32 aux,
			 u64 waited, u64 now)
{
	struct peer peer = {};
	struct heavy *slot;
	u64 key, i;

	bpf_probe_read_kernel(&peer, 16, (char *)ctx + AT_inet_sock_set_state_daddr_v6);
	key = (peer.address[0] * MULTIPLIER) ^ peer.address[1] ^ ((peer.address[1] >> 29) * MULTIPLIER);
	key ^= (comm[0] * MULTIPLIER) ^ (comm[1] >> 3) ^ apart;
	key = (key * MULTIPLIER) << 16 | port;
	if (!key)
		return;
	slot = heavy_slot(table, key, 1, now);
	if (!slot)
		return;
	if (!slot->count) {
		__builtin_memcpy(slot->name, comm, 16);
		i = (key * MULTIPLIER) >> 32;
		if (&table[BOUND(i, HEAVY_SLOTS - 1)] != slot)
			i ^= 1;
		__builtin_memcpy(&peers[BOUND(i, HEAVY_SLOTS - 1)], &peer, 16);
	}
	slot->aux = aux;
	heavy_add(slot, waited, 1, now);
}

static inline void ended(u64 *ctx, u64 sk, u32 state)
{
	struct start *start = start_of(sk);
	u64 now = bpf_ktime_get_ns(), waited = 0;
	u32 outcome;

	if (start->sk == sk && start->ns < now)
		waited = now - start->ns;
	if (state == TCP_ESTABLISHED) {
		COUNT(SHARED->established, 1);
		if (waited)
			COUNT(SHARED->buckets[BOUND(bucket_of(waited), BUCKETS - 1)], 1);
	} else {
		outcome = outcome_of(sk, waited);
		if ((outcome == CANCELLED || outcome == ABANDONED) && !FIELD(u16, ctx, inet_sock_set_state_sport))
			outcome = NO_PORT;
		COUNT(SHARED->outcomes[BOUND(outcome, OUTCOMES - 1)], 1);
		if (waited && outcome != CANCELLED)
			blame(SHARED->failures, SHARED->peers, ctx, start->comm, outcome == NO_PORT,
			      FIELD(u16, ctx, inet_sock_set_state_dport), (u32)start->pid | outcome << OUTCOME_SHIFT, waited, now);
	}
}

/* Who opened it is known of connections to others; of one that came in, only its own program is, where that breaks off.
 * So the port is that of the peer, or our own.
 */
#ifdef SOCK_ERR
static inline void broken_off(u64 *ctx, u64 sk)
{
	struct start *start = start_of(sk);
	u32 ours = FIELD(u16, ctx, inet_sock_set_state_sport), theirs = FIELD(u16, ctx, inet_sock_set_state_dport);
	u32 way = GAVE_UP, pid = 0, opened = start->sk == sk;
	u64 comm[2] = {};
	int error = 0;

	asm volatile("" : "+r"(ours), "+r"(theirs)); /* the context may only be read at places known beforehand */
	bpf_probe_read_kernel(&error, 4, (char *)sk + SOCK_ERR);
	if (!error)
		way = RESET_SENT;
	else if (error == 104) /* ECONNRESET */
		way = RESET_RECEIVED;
	else if (error != 110) /* ETIMEDOUT */
		return;
	COUNT(SHARED->ends[BOUND(way, WAYS - 1)], 1);
	if (way == GAVE_UP)
		return;
	if (way == RESET_SENT) {
		pid = bpf_get_current_pid_tgid() >> 32;
		bpf_get_current_comm(comm, sizeof(comm));
	} else if (opened) {
		pid = start->pid;
		comm[0] = start->comm[0];
		comm[1] = start->comm[1];
	}
	blame(SHARED->resets, SHARED->reset_peers, ctx, comm, way << 1 | opened,
	      opened ? theirs : ours, pid | way << OUTCOME_SHIFT | (opened ? OPENED_HERE : 0), 0, bpf_ktime_get_ns());
}
#endif

int inet_sock_set_state(u64 *ctx)
{
	u32 before = FIELD(u32, ctx, inet_sock_set_state_oldstate), after = FIELD(u32, ctx, inet_sock_set_state_newstate);
	u64 sk = FIELD(u64, ctx, inet_sock_set_state_skaddr);
	struct start *start;

	if (FIELD(u16, ctx, inet_sock_set_state_protocol) != IPPROTO_TCP)
		return 0;
	if (after == TCP_CLOSE_WAIT)
		COUNT(SHARED->close_wait_begun, 1);
	else if (before == TCP_CLOSE_WAIT)
		COUNT(SHARED->close_wait_ended, 1);
	if (before == TCP_ESTABLISHED)
		COUNT(SHARED->ends[ENDED], 1);
	if (after == TCP_SYN_SENT) {
		COUNT(SHARED->started, 1);
		start = start_of(sk);
		start->ns = bpf_ktime_get_ns();
		start->pid = bpf_get_current_pid_tgid() >> 32;
		bpf_get_current_comm(start->comm, sizeof(start->comm));
		start->sk = sk;
	} else if (before == TCP_SYN_SENT && (after == TCP_ESTABLISHED || after == TCP_CLOSE)) {
		ended(ctx, sk, after);
	}
	if (after == TCP_CLOSE) {
#ifdef SOCK_ERR
		if (before == TCP_ESTABLISHED)
			broken_off(ctx, sk);
#endif
		start = start_of(sk);
		if (start->sk == sk) /* its memory may become another socket's */
			start->sk = 0;
	}
	return 0;
}
