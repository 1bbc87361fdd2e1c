// SPDX-License-Identifier: Apache-2.0
/* The data path of TURN channels over UDP (RFC 8656 sections 11.6, 11.7 and 12), in XDP and in tc.
 *
 * The process decides and fills the maps of relay.h; what is here only looks up. Whatever is unusual (no leg,
 * expired, fragmented, with options, too large, with a wrong checksum) is passed on untouched: the sockets of
 * the process stay bound and take it. Nothing is written to a packet before all is decided.
 */
#include "rewrite.h"

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
	struct redirection *redirection;
	__u32 ip_offset, vlan;
	int grow;

	if (may_be_unfit(data, end, ctx->ingress_ifindex) || read_frame(data, end, &packet) != RELAY)
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
	redirection = last_redirection();
	if (redirection) {
		redirection->decided_ns = bpf_ktime_get_ns();
		redirection->ifindex = decision.hop->ifindex;
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
	/* A VLAN device puts its tag on. */
	return (int)bpf_redirect(decision.hop->device, 0);
}

/* Where an XDP program is: a tag that it was to see and did not. The device has taken it off into its descriptor,
 * or a veth was handed it beside the packet, and XDP takes a frame of that VLAN for one without. */
SEC("tcx/watch")
int watch_tags(struct __sk_buff *ctx)
{
	struct link_key key = {.ifindex = ctx->ifindex};
	const struct link *link;
	struct watch *seen;

	if (!ctx->vlan_present)
		return TCX_NEXT;
	link = bpf_map_lookup_elem(&links, &key);
	seen = watch();
	if (link && seen && !(link->tags_seen & (is_tag((__be16)ctx->protocol) ? 2 : 1)))
		seen->blind_ifindex = ctx->ifindex;
	return TCX_NEXT;
}

/* The system could not redirect a frame, and dropped it: the device is gone, down, has a smaller MTU, or no longer
 * takes frames, as a veth whose other end lost GRO. Its arguments are those of the tracepoint xdp_redirect_err; it
 * tells of every XDP program of the machine, in all network namespaces. */
SEC("trace/refusals")
int notice_refusal(struct bpf_raw_tracepoint_args *ctx)
{
	const __u32 by_number = ctx->args[4] == BPF_MAP_TYPE_UNSPEC;
	const __u64 ifindex = (__u32)ctx->args[6];
	struct redirection *last = last_redirection();
	struct watch *seen = watch();

	if (!by_number || !last || last->ifindex != ifindex ||
	    bpf_ktime_get_ns() - last->decided_ns > REDIRECTED_WITHIN_NS)
		return 0;
	last->ifindex = 0;
	last->refused++;
	if (seen)
		seen->refusing_ifindex = (__u32)ifindex;
	return 0;
}

/* The process spends by this, run by bpf(2): so nothing that anybody spends at the same time is lost. */
SEC("syscall/spend")
int spend_of_process(struct spending *asked)
{
	struct bucket *from = bucket(asked->bucket);

	return from && spend(from, asked->cost_ns, asked->now_ns);
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
	hop->device = ctx->ifindex;
	hop->refresh_at_ns = now + REFRESH_NS;
	hop->valid_until_ns = now + VALID_NS;
	return TCX_NEXT;
}

char license_of_programs[] SEC("license") = "Apache-2.0";
