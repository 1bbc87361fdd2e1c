/* SPDX-License-Identifier: Apache-2.0 */
/* Writing the headers of a packet that leaves, once all is decided. */
#pragma once
#include "decide.h"

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
