/* SPDX-License-Identifier: Apache-2.0 */
/* The maps through which the relay process and relay.bpf.c talk: the whole of their agreement.
 *
 * turnrelay/relay/kernel/layouts.py says the same in Python; tests/planes/test_layouts.py holds them together.
 * "Network order" is the order on the wire; all else is in the machine's.
 */
#pragma once
#include <linux/types.h>

/* A flow is two legs, one for each direction. A leg is found by what its packets look like when they come in. */
struct leg_key {
	__u8 remote[16]; /* who sent the packet; IPv4 addresses fill the first four bytes, zeros follow */
	__u8 local[16];	 /* our address that it was sent to */
	__be16 remote_port;
	__be16 local_port;
	__be16 channel; /* of ChannelData from a client; 0 for what comes from a peer */
	__u8 family;	/* 4 or 6 */
	__u8 zero;
};

/* How the leg's packets go out. */
struct leg {
	__u64 expires_ns;    /* CLOCK_MONOTONIC; after it nothing passes here, whether the process lives or not */
	__u8 source[16];     /* written like the addresses of a key */
	__u8 destination[16];
	__be16 source_port;
	__be16 destination_port;
	__be16 channel; /* to put in front of data for a client; 0 towards a peer */
	__u8 family;
	__u8 hairpin;	 /* the peer is a relayed address of ours: source and destination make the key of its leg */
	__be32 flow_label; /* of IPv6 packets */
	__u32 slot;	   /* in `hops` and `counters`; even towards the peer, odd (the next one) towards the client */
	__u32 allocation_bucket; /* in `buckets`; 0 for none */
	__u32 account_bucket;
};

/* The way to the next hop, by slot. Learned from what the system itself sends for the leg, so it follows every
 * route, rule and neighbour; a packet in REFRESH_NS goes through the process to learn it anew. */
struct hop {
	__u64 valid_until_ns;
	__u64 refresh_at_ns;
	__u32 ifindex; /* 0: not known */
	__u16 mtu;     /* the largest IP packet that the way is known to take */
	__u16 vlan;    /* 0: no tag */
	__u8 destination_mac[6];
	__u8 source_mac[6];
	__u32 flags;
	__u32 device; /* what the system sent through: there an skb goes, while frames go to `ifindex` with `vlan` */
};

#define HOP_TAKES_FRAMES 1 /* the device sends frames that XDP redirects to it */

#define REFRESH_NS 10000000000ULL
#define RETRY_NS 1000000000ULL /* between attempts to refresh */
#define VALID_NS 30000000000ULL

/* Application data relayed by a leg, by slot, for each CPU. */
struct counter {
	__u64 packets;
	__u64 bytes;
};

/* All legs together since the start, for each CPU. */
struct totals {
	__u64 packets_to_peer;
	__u64 bytes_to_peer;
	__u64 packets_from_peer;
	__u64 bytes_from_peer;
	__u64 dropped_bandwidth; /* packets */
};

/* A rate with a burst, kept as the time at which all that was admitted is paid for: one word to swap. */
struct bucket {
	__u64 paid_at_ns;
	__u64 ns_per_mib;
	__u64 burst_ns;
	__u64 zero[5]; /* up to a cache line */
};

/* What the process asks to spend. */
struct spending {
	__u64 now_ns;
	__u64 cost_ns;
	__u32 bucket;
	__u32 zero;
};

/* Networks in which the relay has addresses, told by the device and, of frames with a tag, the VLAN: an entry for
 * each of its addresses there, and one without an address. */
struct link_key {
	__u32 ifindex;
	__u16 vlan;
	__u8 family; /* 4 or 6; 0 without an address */
	__u8 zero;
	__u8 address[16]; /* written like those of a leg's key */
};

struct link {
	__u32 send_ifindex; /* what to send through: the device below, if it is a VLAN that XDP tags itself */
	__u16 send_vlan;
	__u16 mtu;
	__u8 mac[6];
	__u8 tags_seen; /* by XDP: 1 for frames with one VLAN tag, 2 for frames with more */
	__u8 zero;
	__u32 hop_flags;
};

/* While XDP cannot do its work it passes everything on, until the process has looked around. Device numbers, 0: none. */
struct watch {
	__u32 blind_ifindex;	/* takes VLAN tags off before XDP sees the frame */
	__u32 refusing_ifindex; /* did not take a frame that was redirected to it */
};

/* The last redirection by an XDP program, for each CPU: the system does it right after the program, on its CPU. */
struct redirection {
	__u64 decided_ns;
	__u64 ifindex;
	__u64 refused; /* how many were, on this CPU; they are among the relayed */
};

#define REDIRECTED_WITHIN_NS 100000ULL

/* A map, as the loader reads it from section "maps" of the object. */
struct map_definition {
	__u32 type;
	__u32 key_size;
	__u32 value_size;
	__u32 max_entries; /* 0: as many as the process asks for */
	__u32 flags;
};
