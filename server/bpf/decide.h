/* SPDX-License-Identifier: Apache-2.0 */
/* Deciding what becomes of a packet: the maps that the process fills, and what is looked up in them. */
#pragma once
#include "packet.h"

#define MAP(name, map_type, key, value, entries, map_flags)                                                  \
	struct map_definition name SEC("maps") = {map_type, sizeof(key), sizeof(value), entries, map_flags}

MAP(legs, BPF_MAP_TYPE_HASH, struct leg_key, struct leg, 0, BPF_F_NO_PREALLOC);
MAP(hops, BPF_MAP_TYPE_ARRAY, __u32, struct hop, 0, 0);
MAP(counters, BPF_MAP_TYPE_PERCPU_ARRAY, __u32, struct counter, 0, 0);
MAP(totals, BPF_MAP_TYPE_PERCPU_ARRAY, __u32, struct totals, 1, 0);
MAP(buckets, BPF_MAP_TYPE_ARRAY, __u32, struct bucket, 0, BPF_F_MMAPABLE);
MAP(links, BPF_MAP_TYPE_HASH, struct link_key, struct link, 4096, 0);
MAP(watched, BPF_MAP_TYPE_ARRAY, __u32, struct watch, 1, 0);
MAP(redirections, BPF_MAP_TYPE_PERCPU_ARRAY, __u32, struct redirection, 1, 0);

/* What becomes of it. */
struct decision {
	const struct leg *leg; /* whose addresses it leaves with */
	const struct hop *hop;
	__u32 strip; /* bytes of ChannelData header that go */
	__u32 data_len;
	__u32 data_sum;
};

inline_always const struct leg *live_leg(const struct leg_key *key, __u64 now)
{
	const struct leg *leg = bpf_map_lookup_elem(&legs, key);

	return leg && leg->expires_ns > now ? leg : NULL;
}

/* Whether the frame is for us: the system drops what a switch floods, and so does this. It has to come in where
 * its address is, or where the system sends to who sent it; anything else is the system's to judge (rp_filter). */
inline_always int is_for_us(const __u8 *data, __u32 ifindex, const struct packet *packet, const struct leg *leg)
{
	struct link_key key = {.ifindex = ifindex, .vlan = (__u16)packet->vlan, .family = packet->key.family};
	const struct link *link;
	const __u16 *to = (const void *)data, *mac;

	__builtin_memcpy(key.address, packet->key.local, 16);
	link = bpf_map_lookup_elem(&links, &key);
	if (!link) {
		__u32 slot = leg->slot ^ 1;
		const struct hop *back = bpf_map_lookup_elem(&hops, &slot);

		key.family = 0;
		__builtin_memset(key.address, 0, 16);
		link = bpf_map_lookup_elem(&links, &key);
		if (!link || !back || back->ifindex != link->send_ifindex || back->vlan != link->send_vlan)
			return 0;
	}
	mac = (const void *)link->mac;
	return to[0] == mac[0] && to[1] == mac[1] && to[2] == mac[2];
}

inline_always struct watch *watch(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&watched, &zero);
}

inline_always struct redirection *last_redirection(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&redirections, &zero);
}

/* Whether XDP cannot trust its eyes (`watch_tags`) or its hands (`notice_refusal`). Notes that it sees the tags that
 * this frame has. */
inline_always int may_be_unfit(const __u8 *data, const __u8 *end, __u32 ifindex)
{
	const struct ethhdr *eth = (const void *)data;
	const struct vlan_tag *tag = (const void *)(eth + 1);
	const struct watch *seen = watch();

	if (!seen || seen->blind_ifindex || seen->refusing_ifindex)
		return 1;
	if ((const __u8 *)(tag + 1) <= end && is_tag(eth->h_proto)) {
		struct link_key key = {.ifindex = ifindex};
		struct link *link = bpf_map_lookup_elem(&links, &key);
		__u8 tags = is_tag(tag->protocol) ? 2 : 1;

		if (link && !(link->tags_seen & tags))
			link->tags_seen |= tags;
	}
	return 0;
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

inline_always struct bucket *bucket(__u32 index)
{
	return bpf_map_lookup_elem(&buckets, &index);
}

/* Takes from a bucket, if it holds so much, what it earns in `cost` nanoseconds. */
inline_always int spend(struct bucket *from, __u64 cost, __u64 now)
{
	for (int attempt = 0; attempt < MOST_SWAPS; attempt++) {
		__u64 paid_at = *(volatile __u64 *)&from->paid_at_ns;
		__u64 start = paid_at > now ? paid_at : now;

		if (start + cost - now > from->burst_ns)
			return 0;
		if (__sync_val_compare_and_swap(&from->paid_at_ns, paid_at, start + cost) == paid_at)
			return 1;
	}
	return 0;
}

inline_always __u64 cost(const struct bucket *of, __u32 bytes)
{
	return bytes * of->ns_per_mib >> 20;
}

inline_always struct totals *all_totals(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&totals, &zero);
}

inline_always int spend_for(const struct leg *leg, __u32 bytes, __u64 now)
{
	struct bucket *allocation = NULL, *account;
	struct totals *total;

	if (leg->allocation_bucket) {
		allocation = bucket(leg->allocation_bucket);
		if (!allocation || !spend(allocation, cost(allocation, bytes), now))
			goto dropped;
	}
	if (!leg->account_bucket)
		return 1;
	account = bucket(leg->account_bucket);
	if (account && spend(account, cost(account, bytes), now))
		return 1;
	if (allocation)
		__sync_fetch_and_add(&allocation->paid_at_ns, -cost(allocation, bytes));
dropped:
	total = all_totals();
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
	if (!leg || !is_for_us(data, ifindex, packet, leg))
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
