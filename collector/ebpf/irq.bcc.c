/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Time in soft interrupts by vector and in interrupt handlers by line, on each core; time ksoftirqd had to work.
 *
 * Neither nests in itself on a core, so one start per core is enough. A handler that interrupts a soft interrupt is
 * counted as handler and taken off the soft interrupt's time. With BTF (TYPED) these are raw tracepoints, which spare the
 * kernel the making of a record; the first argument of both exits is the number that is wanted.
 */
#define VECTORS 16
#define LINES 1024

#ifdef TYPED
#define VECTOR ((u32)ctx[0])
#define LINE ((u32)ctx[0])
#else
#define VECTOR FIELD(u32, ctx, softirq_exit_vec)
#define LINE FIELD(u32, ctx, irq_handler_exit_irq)
#endif

struct cpu {
	u64 soft_ns[VECTORS];
	u64 soft_runs[VECTORS];
	u64 hard_ns;
	u64 hard_runs;
	u64 ksoftirqd_ns;
	u64 soft_start;
	u64 hard_start;
	u64 hard_before;
	u64 unused[2];
};

struct shared {
	u64 lines_ns[LINES];
	struct cpu cpus[CPUS];
};

struct private {
	u64 unused;
};

static inline struct cpu *this_cpu(void)
{
	return &SHARED->cpus[BOUND(bpf_get_smp_processor_id(), CPUS - 1)];
}

int softirq_entry(u64 *ctx)
{
	struct cpu *cpu = this_cpu();

	cpu->hard_before = cpu->hard_ns;
	cpu->soft_start = bpf_ktime_get_ns();
	return 0;
}

int softirq_exit(u64 *ctx)
{
	struct cpu *cpu = this_cpu();
	u64 start = cpu->soft_start, now = bpf_ktime_get_ns(), spent;
	u32 vector = VECTOR & (VECTORS - 1);
	char comm[16] = {};

	if (!start || now < start)
		return 0;
	cpu->soft_start = 0;
	spent = now - start;
	start = cpu->hard_ns - cpu->hard_before;
	spent = spent > start ? spent - start : 0;
	cpu->soft_ns[BOUND(vector, VECTORS - 1)] += spent;
	cpu->soft_runs[BOUND(vector, VECTORS - 1)] += 1;
	bpf_get_current_comm(comm, sizeof(comm));
	if (comm[0] == 'k' && comm[1] == 's' && comm[2] == 'o' && comm[3] == 'f' && comm[4] == 't' && comm[8] == 'd')
		cpu->ksoftirqd_ns += spent;
	return 0;
}

int irq_handler_entry(u64 *ctx)
{
	this_cpu()->hard_start = bpf_ktime_get_ns();
	return 0;
}

/* A line has several handlers where devices share it: each is a pair of its own. */
int irq_handler_exit(u64 *ctx)
{
	struct cpu *cpu = this_cpu();
	u64 start = cpu->hard_start, now = bpf_ktime_get_ns();
	u32 line = LINE;

	if (!start || now < start)
		return 0;
	cpu->hard_start = 0;
	cpu->hard_ns += now - start;
	cpu->hard_runs += 1;
	if (line < LINES)
		COUNT(SHARED->lines_ns[BOUND(line, LINES - 1)], now - start);
	return 0;
}
