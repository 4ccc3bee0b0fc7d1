"""What the kernel's own names mean to a person: reasons for which it drops packets and resets connections."""

from collections.abc import Mapping

_MEANINGS: Mapping[str, str] = {
    # include/net/dropreason-core.h
    "NETFILTER_DROP": "a rule of nftables or iptables",
    "SOCKET_RCVBUFF": "the receive buffer of a socket is full",
    "SOCKET_BACKLOG": "a socket gets more than its program can take",
    "QDISC_DROP": "a queueing discipline of an interface",
    "QDISC_OVERLIMIT": "the queue of an interface is full",
    "CPU_BACKLOG": "the backlog queue of a core is full",
    "PROTO_MEM": "the memory of all sockets of the protocol is used up",
    "NOMEM": "no memory for the packet",
    "TCP_LISTEN_OVERFLOW": "the accept queue of a listener is full",
    "IP_RPFILTER": "reverse path filtering, rp_filter",
    "IP_OUTNOROUTES": "no route to send it",
    "IP_INNOROUTES": "no route to pass it on",
    "NEIGH_FAILED": "no neighbour answers for the address: ARP, neighbour discovery",
    "NEIGH_QUEUEFULL": "too much waits for a neighbour to answer: ARP, neighbour discovery",
    "NEIGH_CREATEFAIL": "the table of neighbours is full",
    "XDP": "a program at the interface",
    "TC_INGRESS": "a filter of tc at the interface",
    "TC_EGRESS": "a filter of tc at the interface",
    "BPF_CGROUP_EGRESS": "a BPF program of the control group",
    "SECURITY_HOOK": "a security module",
    "PKT_TOO_BIG": "larger than the next link takes, MTU",
    "FULL_RING": "the ring of the interface is full",
    # include/net/rstreason.h
    "TCP_ABORT_ON_CLOSE": "closed by its program with data unread",
    "TCP_DISCONNECT_WITH_DATA": "broken off by its program with data unsent",
    "TCP_ABORT_ON_LINGER": "closed by its program, and the peer did not finish in time",
    "TCP_ABORT_ON_MEMORY": "too many closed sockets that still send, or no memory for them",
    "TCP_ABORT_ON_DATA": "data came in after its program had closed it",
    "TCP_STATE": "broken off by its program on purpose, as close does with SO_LINGER 0",
    "TCP_KEEPALIVE_TIMEOUT": "the peer answered no keep-alive",
}


def meaning(name: str) -> str:
    """What a name of the kernel means, in brackets after a blank; "" where it needs no word.

    >>> meaning("NETFILTER_DROP"), meaning("sda")
    (' (a rule of nftables or iptables)', '')
    """
    words = _MEANINGS.get(name)
    return f" ({words})" if words else ""
