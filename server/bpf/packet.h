/* SPDX-License-Identifier: Apache-2.0 */
/* Reading a packet: what it is, as far as relaying it depends on it. */
#pragma once
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/udp.h>
#include <stddef.h>

#include "helpers.h"
#include "relay.h"

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

inline_always int is_tag(__be16 protocol)
{
	return protocol == bpf_htons(ETH_P_8021Q) || protocol == bpf_htons(ETH_P_8021AD);
}

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
