// SPDX-License-Identifier: Apache-2.0
/* The data path of TURN channels over UDP (RFC 8656 sections 11.6, 11.7 and 12), in XDP and in tc.
 *
 * The process decides and fills the maps of relay.h; what is here only looks up. Whatever is unusual (no leg,
 * expired, fragmented, with options, too large, with a wrong checksum) is passed on untouched: the sockets of
 * the process stay bound and take it. Nothing is written to a packet before all is decided.
 */
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/udp.h>
#include <stddef.h>

#include "helpers.h"
#include "relay.h"

#define MAP(name, map_type, key, value, entries, map_flags)                                                  \
	struct map_definition name SEC("maps") = {map_type, sizeof(key), sizeof(value), entries, map_flags}

MAP(legs, BPF_MAP_TYPE_HASH, struct leg_key, struct leg, 0, BPF_F_NO_PREALLOC);
MAP(hops, BPF_MAP_TYPE_ARRAY, __u32, struct hop, 0, 0);
MAP(counters, BPF_MAP_TYPE_PERCPU_ARRAY, __u32, struct counter, 0, 0);
MAP(totals, BPF_MAP_TYPE_PERCPU_ARRAY, __u32, struct totals, 1, 0);
MAP(buckets, BPF_MAP_TYPE_ARRAY, __u32, struct bucket, 0, BPF_F_MMAPABLE);
MAP(links, BPF_MAP_TYPE_HASH, struct link_key, struct link, 1024, 0);

#define VLAN_LEN 4
#define CHANNEL_LEN 4
#define VID_MASK 0x0fff
#define IPV4_FRAGMENT 0x3fff /* more fragments, or an offset */
#define MOST_PAYLOAD 4096
#define MOST_SWAPS 8

struct vlan_tag {
	__be16 tci;
	__be16 protocol;
};

struct channel_header {
	__be16 number;
	__be16 length;
};

/* Tells the verifier what the compiler knows already: it loses sight of a value on the stack. */
inline_always __u32 at_most(__u32 value, const __u32 mask)
{
	asm volatile("" : "+r"(value));
	return value & mask;
}

enum verdict { PASS, DROP, RELAY };

/* What a packet is, as far as relaying it depends on it. */
struct packet {
	struct leg_key key;
	__u32 vlan;
	__u32 ip_offset;
	__u32 header_len; /* up to the end of the UDP header */
	__u32 udp_payload;
	__u32 maybe_channel; /* its number if this can be ChannelData, else 0; network order */
	__u16 udp_check;
	__u8 ttl;
	__u8 tos;
};

/* What becomes of it. */
struct decision {
	const struct leg *leg; /* whose addresses it leaves with */
	const struct hop *hop;
	__u32 strip; /* bytes of ChannelData header that go */
	__u32 data_len;
	__u32 data_sum;
};

inline_always __u32 fold(__u64 sum)
{
	sum = (sum & 0xffffffff) + (sum >> 32);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return (__u32)sum;
}

/* The sum of the addresses, protocol and length that a UDP checksum covers; `addresses` are two of 16 bytes. */
inline_always __u64 pseudo_header_sum(const void *addresses, __u32 udp_len)
{
	__u32 sum = (__u32)bpf_csum_diff(0, 0, (__be32 *)addresses, 32, 0);
	return (__u64)sum + bpf_htons(IPPROTO_UDP) + bpf_htons((__u16)udp_len);
}

#define ADD_BLOCK(size)                                                                                      \
	if (len & (size)) {                                                                                  \
		if (at + (size) > end)                                                                       \
			return -1;                                                                           \
		sum = bpf_csum_diff(0, 0, (__be32 *)at, size, (__u32)sum);                                   \
		at += size;                                                                                  \
	}

/* The sum of `len` bytes, or -1 if they are not all there. In blocks of fixed sizes: the verifier follows
 * those, and kernels before 6.13 sum no more than 512 bytes at once. */
inline_always __s64 sum_of(const __u8 *at, const __u8 *end, __u32 len)
{
	__s64 sum = 0;

	if (len >= MOST_PAYLOAD)
		return -1;
	for (__u32 block = 0; block < MOST_PAYLOAD / 512 && block < (len >> 9); block++) {
		if (at + 512 > end)
			return -1;
		sum = bpf_csum_diff(0, 0, (__be32 *)at, 512, (__u32)sum);
		at += 512;
	}
	ADD_BLOCK(256)
	ADD_BLOCK(128)
	ADD_BLOCK(64)
	ADD_BLOCK(32)
	ADD_BLOCK(16)
	ADD_BLOCK(8)
	ADD_BLOCK(4)
	if (len & 2) {
		if (at + 2 > end)
			return -1;
		sum += *(const __u16 *)at;
		at += 2;
	}
	if (len & 1) {
		if (at + 1 > end)
			return -1;
		sum += bpf_htons((__u16)(*at << 8));
	}
	return sum;
}

inline_always void copy_ipv4(__u8 *to, const __be32 *from)
{
	__builtin_memset(to, 0, 16);
	__builtin_memcpy(to, from, 4);
}

/* Reads the headers; PASS if the packet is none of ours to move. */
inline_always enum verdict read_ip(const __u8 *data, const __u8 *end, struct packet *packet, __be16 protocol)
{
	const __u8 *at = data + packet->ip_offset;
	const struct udphdr *udp;
	__u32 udp_len;

	if (protocol == bpf_htons(ETH_P_IP)) {
		const struct iphdr *ip = (const void *)at;

		if ((const __u8 *)(ip + 1) > end || *at != 0x45 || ip->protocol != IPPROTO_UDP)
			return PASS;
		if (ip->frag_off & bpf_htons(IPV4_FRAGMENT) || ip->ttl <= 1)
			return PASS;
		if (fold((__u32)bpf_csum_diff(0, 0, (__be32 *)ip, sizeof(*ip), 0)) != 0xffff)
			return PASS;
		copy_ipv4(packet->key.remote, &ip->saddr);
		copy_ipv4(packet->key.local, &ip->daddr);
		packet->key.family = 4;
		packet->ttl = ip->ttl;
		packet->tos = ip->tos;
		udp_len = bpf_ntohs(ip->tot_len) - sizeof(*ip);
		at += sizeof(*ip);
		packet->header_len = packet->ip_offset + sizeof(*ip) + sizeof(*udp);
	} else if (protocol == bpf_htons(ETH_P_IPV6)) {
		const struct ipv6hdr *ip = (const void *)at;

		if ((const __u8 *)(ip + 1) > end || ip->version != 6 || ip->nexthdr != IPPROTO_UDP ||
		    ip->hop_limit <= 1)
			return PASS;
		__builtin_memcpy(packet->key.remote, &ip->saddr, 16);
		__builtin_memcpy(packet->key.local, &ip->daddr, 16);
		packet->key.family = 6;
		packet->ttl = ip->hop_limit;
		packet->tos = (__u8)(ip->priority << 4 | ip->flow_lbl[0] >> 4);
		udp_len = bpf_ntohs(ip->payload_len);
		at += sizeof(*ip);
		packet->header_len = packet->ip_offset + sizeof(*ip) + sizeof(*udp);
	} else {
		return PASS;
	}
	udp = (const void *)at;
	if ((const __u8 *)(udp + 1) > end || bpf_ntohs(udp->len) != udp_len || udp_len < sizeof(*udp))
		return PASS;
	packet->key.remote_port = udp->source;
	packet->key.local_port = udp->dest;
	packet->udp_check = udp->check;
	packet->udp_payload = udp_len - sizeof(*udp);
	packet->maybe_channel = 0;
	if (at + sizeof(*udp) + CHANNEL_LEN <= end && packet->udp_payload >= CHANNEL_LEN) {
		const struct channel_header *channel = (const void *)(udp + 1);

		/* Padding, or anything else behind the data, is for the process to judge. */
		if (bpf_ntohs(channel->length) == packet->udp_payload - CHANNEL_LEN &&
		    (channel->number & bpf_htons(0xc000)) == bpf_htons(0x4000))
			packet->maybe_channel = channel->number;
	}
	return RELAY;
}

inline_always enum verdict read_frame(const __u8 *data, const __u8 *end, struct packet *packet)
{
	const struct ethhdr *eth = (const void *)data;
	__be16 protocol;

	if ((const __u8 *)(eth + 1) > end)
		return PASS;
	packet->key.zero = 0;
	packet->vlan = 0;
	packet->ip_offset = sizeof(*eth);
	protocol = eth->h_proto;
	if (protocol == bpf_htons(ETH_P_8021Q)) {
		const struct vlan_tag *tag = (const void *)(eth + 1);

		if ((const __u8 *)(tag + 1) > end)
			return PASS;
		packet->vlan = bpf_ntohs(tag->tci) & VID_MASK;
		if (!packet->vlan)
			return PASS;
		protocol = tag->protocol;
		packet->ip_offset = sizeof(*eth) + VLAN_LEN;
		return read_ip(data, end, packet, protocol);
	}
	return read_ip(data, end, packet, protocol);
}

inline_always const struct leg *live_leg(const struct leg_key *key, __u64 now)
{
	const struct leg *leg = bpf_map_lookup_elem(&legs, key);

	return leg && leg->expires_ns > now ? leg : NULL;
}

/* Whether the frame is for us: the system drops what a switch floods, and so does this. */
inline_always int is_for_us(const __u8 *data, __u32 ifindex, __u32 vlan)
{
	struct link_key key = {.ifindex = ifindex, .vlan = vlan};
	const struct link *link = bpf_map_lookup_elem(&links, &key);
	const __u16 *to = (const void *)data, *mac;

	if (!link)
		return 0;
	mac = (const void *)link->mac;
	return to[0] == mac[0] && to[1] == mac[1] && to[2] == mac[2];
}

/* The way out, or NULL if the system has to be asked, by passing the packet on. */
inline_always const struct hop *way_out(const struct leg *leg, __u64 now)
{
	__u32 slot = leg->slot;
	struct hop *hop = bpf_map_lookup_elem(&hops, &slot);
	__u64 refresh_at;

	if (!hop || !hop->ifindex || hop->valid_until_ns <= now)
		return NULL;
	refresh_at = *(volatile __u64 *)&hop->refresh_at_ns;
	/* One packet goes to refresh; the others go on along the known way meanwhile. */
	if (refresh_at <= now &&
	    __sync_val_compare_and_swap(&hop->refresh_at_ns, refresh_at, now + RETRY_NS) == refresh_at)
		return NULL;
	return hop;
}

/* Takes `bytes` from a bucket if it holds them. */
inline_always int spend(__u32 index, __u32 bytes, __u64 now)
{
	struct bucket *bucket;
	__u64 paid_at, start, cost, owed = 0, spent, moved;

	if (!index)
		return 1;
	bucket = bpf_map_lookup_elem(&buckets, &index);
	if (!bucket)
		return 0;
	spent = *(volatile __u64 *)&bucket->process_ns;
	moved = *(volatile __u64 *)&bucket->process_moved_ns;
	if (spent != moved && __sync_val_compare_and_swap(&bucket->process_moved_ns, moved, spent) == moved)
		owed = spent - moved;
	cost = bytes * bucket->ns_per_mib >> 20;
	for (int attempt = 0; attempt < MOST_SWAPS; attempt++) {
		int enough;

		paid_at = *(volatile __u64 *)&bucket->paid_at_ns;
		start = (paid_at > now ? paid_at : now) + owed;
		enough = start + cost - now <= bucket->burst_ns;
		if (!enough && !owed)
			return 0;
		if (__sync_val_compare_and_swap(&bucket->paid_at_ns, paid_at, start + (enough ? cost : 0)) ==
		    paid_at)
			return enough;
	}
	return 0;
}

inline_always struct totals *all_totals(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&totals, &zero);
}

inline_always int spend_for(const struct leg *leg, __u32 bytes, __u64 now)
{
	if (spend(leg->allocation_bucket, bytes, now) && spend(leg->account_bucket, bytes, now))
		return 1;
	struct totals *total = all_totals();
	if (total)
		total->dropped_bandwidth++;
	return 0;
}

inline_always void count(const struct leg *leg, __u32 bytes)
{
	__u32 slot = leg->slot;
	struct counter *counter = bpf_map_lookup_elem(&counters, &slot);
	struct totals *total = all_totals();

	if (!counter || !total)
		return;
	counter->packets++;
	counter->bytes += bytes;
	if (slot & 1) {
		total->packets_from_peer++;
		total->bytes_from_peer += bytes;
	} else {
		total->packets_to_peer++;
		total->bytes_to_peer += bytes;
	}
}

inline_always __u32 ip_len_of(const struct leg *leg, __u32 data_len)
{
	__u32 len = (leg->family == 4 ? sizeof(struct iphdr) : sizeof(struct ipv6hdr)) + sizeof(struct udphdr);

	return len + (leg->channel ? CHANNEL_LEN : 0) + data_len;
}

/* Sums the data, and checks the checksum that the packet came with. The sum of the data is all that the new
 * checksum takes over from it: nothing is updated, so nothing is carried on that was not there.
 *
 * A sender on this very machine leaves the checksum to a device that never comes: then the field holds the sum
 * of the pseudo header alone. XDP makes a frame of the packet, which is complete with the checksum written here.
 * An skb stays marked as unfinished and would be "finished" in the wrong place: those are passed on. They are
 * also what an skb holding several datagrams looks like (GRO and GSO), which must not be taken for one. */
inline_always enum verdict sum_data(const __u8 *data, const __u8 *end, const struct packet *packet,
				    struct decision *decision, int is_frame)
{
	__u32 udp_len = packet->udp_payload + sizeof(struct udphdr);
	const __u8 *at = data + at_most(packet->header_len, 0x7f);
	__u32 channel_sum = 0;
	__s64 data_sum;
	__u64 pseudo, sum;

	if (decision->strip) {
		const __u16 *header = (const void *)at;

		if (at + CHANNEL_LEN > end)
			return PASS;
		channel_sum = (__u32)header[0] + header[1];
		at += CHANNEL_LEN;
	}
	data_sum = sum_of(at, end, decision->data_len);
	if (data_sum < 0)
		return PASS;
	decision->data_sum = fold((__u64)data_sum);
	if (!packet->udp_check)
		return packet->key.family == 4 ? RELAY : PASS;
	pseudo = pseudo_header_sum(&packet->key, udp_len);
	sum = pseudo + packet->key.remote_port + packet->key.local_port + bpf_htons((__u16)udp_len) +
	      packet->udp_check + channel_sum + decision->data_sum;
	if (fold(pseudo) == packet->udp_check)
		return is_frame ? RELAY : PASS;
	return fold(sum) == 0xffff ? RELAY : PASS;
}

/* All that is decided about a packet. */
inline_always enum verdict decide(const __u8 *data, const __u8 *end, struct packet *packet,
				  struct decision *decision, __u32 ifindex, int is_frame)
{
	const struct leg *leg = NULL, *out;
	__u64 now = bpf_ktime_get_ns();

	if (packet->maybe_channel) {
		packet->key.channel = (__be16)packet->maybe_channel;
		leg = live_leg(&packet->key, now);
	}
	decision->strip = leg ? CHANNEL_LEN : 0;
	if (!leg) {
		packet->key.channel = 0;
		leg = live_leg(&packet->key, now);
	}
	if (!leg || !is_for_us(data, ifindex, packet->vlan))
		return PASS;
	out = leg;
	if (leg->hairpin) {
		struct leg_key key;

		__builtin_memcpy(key.remote, leg->source, 16);
		__builtin_memcpy(key.local, leg->destination, 16);
		key.remote_port = leg->source_port;
		key.local_port = leg->destination_port;
		key.channel = 0;
		key.family = leg->family;
		key.zero = 0;
		out = live_leg(&key, now);
		if (!out || out->hairpin)
			return PASS;
	}
	decision->leg = out;
	decision->data_len = packet->udp_payload - decision->strip;
	decision->hop = way_out(out, now);
	if (!decision->hop || ip_len_of(out, decision->data_len) > decision->hop->mtu)
		return PASS;
	/* Some devices lose frames that are redirected to them. */
	if (is_frame && !(decision->hop->flags & HOP_TAKES_FRAMES))
		return PASS;
	if (sum_data(data, end, packet, decision, is_frame) != RELAY)
		return PASS;

	if (!spend_for(leg, decision->data_len, now))
		return DROP;
	count(leg, decision->data_len);
	if (out != leg) {
		if (!spend_for(out, decision->data_len, now))
			return DROP;
		count(out, decision->data_len);
	}
	return RELAY;
}

/* Writes the headers of the packet that leaves: `at` is where its IP header is to be. */
inline_always void write_udp(struct udphdr *udp, const struct leg *leg, __u32 data_len, __u32 data_sum)
{
	__u32 udp_len = sizeof(*udp) + (leg->channel ? CHANNEL_LEN : 0) + data_len;
	__u64 sum = pseudo_header_sum(leg->source, udp_len);
	__u16 check;

	udp->source = leg->source_port;
	udp->dest = leg->destination_port;
	udp->len = bpf_htons((__u16)udp_len);
	sum += (__u64)leg->source_port + leg->destination_port + udp->len + data_sum;
	if (leg->channel)
		sum += (__u64)leg->channel + bpf_htons((__u16)data_len);
	check = (__u16)~fold(sum);
	/* Zero would say that there is none. */
	udp->check = check ? check : 0xffff;
}

inline_always void write_ipv4(struct iphdr *ip, const struct packet *packet, const struct leg *leg, __u32 ip_len)
{
	*(__u8 *)ip = 0x45;
	ip->tos = packet->tos;
	ip->tot_len = bpf_htons((__u16)ip_len);
	/* Routers may fragment it (RFC 8656 section 14), so it needs an identification. */
	ip->id = (__be16)bpf_get_prandom_u32();
	ip->frag_off = 0;
	ip->ttl = packet->ttl - 1;
	ip->protocol = IPPROTO_UDP;
	ip->check = 0;
	__builtin_memcpy(&ip->saddr, leg->source, 4);
	__builtin_memcpy(&ip->daddr, leg->destination, 4);
	ip->check = (__u16)~fold((__u32)bpf_csum_diff(0, 0, (__be32 *)ip, sizeof(*ip), 0));
}

inline_always void write_ipv6(struct ipv6hdr *ip, const struct packet *packet, const struct leg *leg, __u32 ip_len)
{
	*(__be32 *)ip = bpf_htonl(0x60000000 | (__u32)packet->tos << 20) | leg->flow_label;
	ip->payload_len = bpf_htons((__u16)(ip_len - sizeof(*ip)));
	ip->nexthdr = IPPROTO_UDP;
	ip->hop_limit = packet->ttl - 1;
	__builtin_memcpy(&ip->saddr, leg->source, 16);
	__builtin_memcpy(&ip->daddr, leg->destination, 16);
}

inline_always void write_headers(__u8 *data, const __u32 ip_offset, const int family, const struct packet *packet,
				 const struct decision *decision)
{
	const struct leg *leg = decision->leg;
	const struct hop *hop = decision->hop;
	struct ethhdr *eth = (void *)data;
	__be16 protocol = family == 4 ? bpf_htons(ETH_P_IP) : bpf_htons(ETH_P_IPV6);
	__u32 ip_len = ip_len_of(leg, decision->data_len);
	struct udphdr *udp;

	__builtin_memcpy(eth->h_dest, hop->destination_mac, 6);
	__builtin_memcpy(eth->h_source, hop->source_mac, 6);
	if (ip_offset > sizeof(*eth)) {
		struct vlan_tag *tag = (void *)(eth + 1);

		eth->h_proto = bpf_htons(ETH_P_8021Q);
		tag->tci = bpf_htons(hop->vlan);
		tag->protocol = protocol;
	} else {
		eth->h_proto = protocol;
	}
	if (family == 4) {
		write_ipv4((void *)(data + ip_offset), packet, leg, ip_len);
		udp = (void *)(data + ip_offset + sizeof(struct iphdr));
	} else {
		write_ipv6((void *)(data + ip_offset), packet, leg, ip_len);
		udp = (void *)(data + ip_offset + sizeof(struct ipv6hdr));
	}
	write_udp(udp, leg, decision->data_len, decision->data_sum);
}

inline_always void write_channel(struct channel_header *channel, const struct decision *decision)
{
	channel->number = decision->leg->channel;
	channel->length = bpf_htons((__u16)decision->data_len);
}

inline_always __u32 new_header_len(const struct decision *decision, __u32 ip_offset)
{
	return ip_offset + ip_len_of(decision->leg, 0);
}

/* -- XDP ------------------------------------------------------------------------------------------------- */

#define WRITE_FRAME(ip_offset, family, ip_header)                                                            \
	{                                                                                                    \
		struct channel_header *channel = (void *)(data + (ip_offset) + sizeof(struct ip_header) +    \
							  sizeof(struct udphdr));                           \
		if ((__u8 *)channel > end)                                                                   \
			return XDP_ABORTED;                                                                  \
		write_headers(data, ip_offset, family, &packet, &decision);                                  \
		if (decision.leg->channel) {                                                                 \
			if ((__u8 *)(channel + 1) > end)                                                     \
				return XDP_ABORTED;                                                          \
			write_channel(channel, &decision);                                                   \
		}                                                                                            \
	}

inline_always int relay_frame(struct xdp_md *ctx, int is_frame)
{
	__u8 *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	struct packet packet;
	struct decision decision;
	__u32 ip_offset, vlan;
	int grow;

	if (read_frame(data, end, &packet) != RELAY)
		return XDP_PASS;
	switch (decide(data, end, &packet, &decision, ctx->ingress_ifindex, is_frame)) {
	case PASS:
		return XDP_PASS;
	case DROP:
		return XDP_DROP;
	case RELAY:
		break;
	}
	vlan = decision.hop->vlan;
	ip_offset = sizeof(struct ethhdr) + (vlan ? VLAN_LEN : 0);
	grow = (int)new_header_len(&decision, ip_offset) - (int)(packet.header_len + decision.strip);
	if (bpf_xdp_adjust_head(ctx, -grow))
		return XDP_ABORTED;
	data = (void *)(long)ctx->data;
	end = (void *)(long)ctx->data_end;
	if (decision.leg->family == 4) {
		if (vlan)
			WRITE_FRAME(sizeof(struct ethhdr) + VLAN_LEN, 4, iphdr)
		else
			WRITE_FRAME(sizeof(struct ethhdr), 4, iphdr)
	} else {
		if (vlan)
			WRITE_FRAME(sizeof(struct ethhdr) + VLAN_LEN, 6, ipv6hdr)
		else
			WRITE_FRAME(sizeof(struct ethhdr), 6, ipv6hdr)
	}
	/* Not XDP_TX, even to the device it came from: veth then wakes nobody but another XDP program. */
	return (int)bpf_redirect(decision.hop->ifindex, 0);
}

SEC("xdp/native")
int relay_native(struct xdp_md *ctx)
{
	return relay_frame(ctx, 1);
}

/* For drivers without XDP: the frame is an skb in truth. */
SEC("xdp/generic")
int relay_generic(struct xdp_md *ctx)
{
	return relay_frame(ctx, 0);
}

/* -- tc -------------------------------------------------------------------------------------------------- */

#define WRITE_SKB(family, ip_header)                                                                         \
	{                                                                                                    \
		write_headers(header, sizeof(struct ethhdr), family, &packet, &decision);                    \
		if (bpf_skb_store_bytes(                                                                     \
			    ctx, 0, header,                                                                  \
			    sizeof(struct ethhdr) + sizeof(struct ip_header) + sizeof(struct udphdr),        \
			    BPF_F_RECOMPUTE_CSUM))                                                           \
			return TCX_DROP;                                                                     \
		if (decision.leg->channel) {                                                                 \
			struct channel_header channel;                                                       \
			write_channel(&channel, &decision);                                                  \
			if (bpf_skb_store_bytes(ctx,                                                         \
						sizeof(struct ethhdr) + sizeof(struct ip_header) +           \
							sizeof(struct udphdr),                               \
						&channel, sizeof(channel), BPF_F_RECOMPUTE_CSUM))            \
				return TCX_DROP;                                                             \
		}                                                                                            \
	}

#ifndef TCX_NEXT
#define TCX_NEXT -1
#define TCX_DROP 2
#endif
#define PACKET_HOST 0

SEC("tcx/ingress")
int relay_skb(struct __sk_buff *ctx)
{
	/* Two bytes ahead, so that the IP header is aligned. */
	__u8 space[2 + sizeof(struct ethhdr) + sizeof(struct ipv6hdr) + sizeof(struct udphdr)]
		__attribute__((aligned(8)));
	__u8 *header = space + 2;
	__u8 *data, *end;
	struct packet packet;
	struct decision decision;
	int grow;

	/* VLAN devices have a program of their own; several datagrams in one skb are for the process. */
	if (ctx->pkt_type != PACKET_HOST || ctx->gso_size || ctx->vlan_present)
		return TCX_NEXT;
	if (ctx->protocol != bpf_htons(ETH_P_IP) && ctx->protocol != bpf_htons(ETH_P_IPV6))
		return TCX_NEXT;
	data = (void *)(long)ctx->data;
	end = (void *)(long)ctx->data_end;
	if (end - data < (long)ctx->len) {
		if (ctx->len > MOST_PAYLOAD || bpf_skb_pull_data(ctx, ctx->len))
			return TCX_NEXT;
		data = (void *)(long)ctx->data;
		end = (void *)(long)ctx->data_end;
	}
	if (read_frame(data, end, &packet) != RELAY || packet.vlan)
		return TCX_NEXT;
	switch (decide(data, end, &packet, &decision, ctx->ifindex, 0)) {
	case PASS:
		return TCX_NEXT;
	case DROP:
		return TCX_DROP;
	case RELAY:
		break;
	}
	if (decision.hop->vlan)
		return TCX_DROP; /* the process gives none where this program is attached */
	if (decision.leg->family != packet.key.family &&
	    bpf_skb_change_proto(ctx, decision.leg->family == 4 ? bpf_htons(ETH_P_IP) : bpf_htons(ETH_P_IPV6), 0))
		return TCX_DROP;
	grow = (decision.leg->channel ? CHANNEL_LEN : 0) - (int)decision.strip;
	if (grow && bpf_skb_adjust_room(ctx, grow, BPF_ADJ_ROOM_NET, 0))
		return TCX_DROP;
	if (decision.leg->family == 4)
		WRITE_SKB(4, iphdr)
	else
		WRITE_SKB(6, ipv6hdr)
	return (int)bpf_redirect(decision.hop->ifindex, 0);
}

/* Learns the next hop of a leg from the packets that the system sends for it. */
SEC("tcx/egress")
int learn(struct __sk_buff *ctx)
{
	__u8 *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	const struct ethhdr *eth = (const void *)data;
	struct link_key link_key = {.ifindex = ctx->ifindex};
	const struct link *link;
	const struct leg *leg;
	struct leg_key key;
	struct hop *hop;
	const struct udphdr *udp;
	__u32 ip_len, slot, least_mtu;
	__u64 now;

	/* What is only forwarded, by us for one, teaches nothing. */
	if (ctx->ingress_ifindex || ctx->vlan_present || data + sizeof(*eth) > end)
		return TCX_NEXT;
	if (eth->h_proto == bpf_htons(ETH_P_IP)) {
		const struct iphdr *ip = (const void *)(eth + 1);

		udp = (const void *)(ip + 1);
		if ((const __u8 *)(udp + 1) > end || *(const __u8 *)ip != 0x45 || ip->protocol != IPPROTO_UDP ||
		    ip->frag_off & bpf_htons(IPV4_FRAGMENT))
			return TCX_NEXT;
		copy_ipv4(key.remote, &ip->daddr);
		copy_ipv4(key.local, &ip->saddr);
		key.family = 4;
		ip_len = sizeof(*ip);
	} else if (eth->h_proto == bpf_htons(ETH_P_IPV6)) {
		const struct ipv6hdr *ip = (const void *)(eth + 1);

		udp = (const void *)(ip + 1);
		if ((const __u8 *)(udp + 1) > end || ip->nexthdr != IPPROTO_UDP)
			return TCX_NEXT;
		__builtin_memcpy(key.remote, &ip->daddr, 16);
		__builtin_memcpy(key.local, &ip->saddr, 16);
		key.family = 6;
		ip_len = sizeof(*ip);
	} else {
		return TCX_NEXT;
	}
	key.remote_port = udp->dest;
	key.local_port = udp->source;
	key.channel = 0;
	key.zero = 0;
	now = bpf_ktime_get_ns();
	leg = live_leg(&key, now);
	if (!leg) {
		__u32 offset = sizeof(*eth) + ip_len + sizeof(*udp);

		if (bpf_skb_load_bytes(ctx, offset, &key.channel, sizeof(key.channel)) || !key.channel)
			return TCX_NEXT;
		leg = live_leg(&key, now);
		if (!leg)
			return TCX_NEXT;
	}
	link = bpf_map_lookup_elem(&links, &link_key);
	/* The opposite leg is the one that leads here. */
	slot = leg->slot ^ 1;
	hop = bpf_map_lookup_elem(&hops, &slot);
	if (!link || !hop)
		return TCX_NEXT;
	/* IPv4 packets may be fragmented on the way. Nobody fragments IPv6: what is larger than every link has to
	 * take goes through the system, which knows the way's MTU, until it was seen to send it whole. */
	if (key.family == 4) {
		least_mtu = link->mtu;
	} else {
		least_mtu = ctx->gso_size ? ip_len + sizeof(*udp) + ctx->gso_size : ctx->len - sizeof(*eth);
		if (hop->refresh_at_ns > now && hop->mtu > least_mtu)
			least_mtu = hop->mtu;
		if (least_mtu < 1280)
			least_mtu = 1280;
		if (least_mtu > link->mtu)
			least_mtu = link->mtu;
	}
	hop->mtu = (__u16)least_mtu;
	hop->vlan = link->send_vlan;
	hop->flags = link->hop_flags;
	__builtin_memcpy(hop->destination_mac, eth->h_dest, 6);
	__builtin_memcpy(hop->source_mac, eth->h_source, 6);
	hop->ifindex = link->send_ifindex;
	hop->refresh_at_ns = now + REFRESH_NS;
	hop->valid_until_ns = now + VALID_NS;
	return TCX_NEXT;
}

char license_of_programs[] SEC("license") = "Apache-2.0";
