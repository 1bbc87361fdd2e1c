// The load generator of the benchmark: sends prepared frames at a rate, and counts what comes through a relay.
//
// It sends by AF_PACKET past the queueing disciplines, whole slices of prepared frames in one sendmmsg call, and
// it counts with an XDP program on each end, so that neither side of it is what is being measured. The program is
// a dozen BPF instructions written out below, so that a C compiler is all it takes. Run by bench/generator.py,
// which says what to do on standard input, a line each, and reads one line of JSON for each on standard output:
//
//   flows FILE            the frames' addresses and what stands before the payload (see read_flows)
//   run KIND BYTES RATE SECONDS    send; KIND is oneway or echo, RATE packets a second, 0 for all it can
//   ping BYTES COUNT      one packet in flight, echoed; round trips in nanoseconds
//   count                 what has come to the peer and to the client so far, whoever sent it
//
// A payload starts with a magic number that says what the receiver does with it, and the number of its flow.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { MAX_FLOWS = 16384, MAX_PREFIX = 64, HEADERS = 42, LEAST_FRAMES = 64, SLICE = 64, MOST_PINGS = 100000 };
static const uint32_t MAGIC = 0x54524200;  // and 0 to 2 added: counted and dropped, echoed, echoed and passed up
enum { ONEWAY, ECHO, PING };

struct flow {
    uint16_t source_port, destination_port, prefix_length;
    uint8_t prefix[MAX_PREFIX];
};

static struct flow flows[MAX_FLOWS];
static int flow_count;
static uint8_t route_macs[12];  // destination, source
static uint32_t source_ip, destination_ip;

static int sender = -1, client_map = -1, peer_map = -1;
static int client_interface;

static uint8_t *frames;
static struct iovec *vectors;
static struct mmsghdr *messages;
static int frame_count, frame_size_most;

static void fail(const char *what) {
    fprintf(stderr, "load: %s: %s\n", what, strerror(errno));
    exit(1);
}

static uint64_t nanoseconds(clockid_t clock) {
    struct timespec at;
    clock_gettime(clock, &at);
    return (uint64_t)at.tv_sec * 1000000000u + at.tv_nsec;
}

static long bpf(int command, union bpf_attr *attributes) {
    return syscall(SYS_bpf, command, attributes, sizeof *attributes);
}

// -- counting ---------------------------------------------------------------------------------------------------

#define INSN(c, d, s, o, i) ((struct bpf_insn){.code = (c), .dst_reg = (d), .src_reg = (s), .off = (o), .imm = (i)})
#define LOAD(size, d, s, o) INSN(BPF_LDX | (size) | BPF_MEM, d, s, o, 0)
#define STORE(size, d, o, s) INSN(BPF_STX | (size) | BPF_MEM, d, s, o, 0)
#define STORE_NUMBER(size, d, o, i) INSN(BPF_ST | (size) | BPF_MEM, d, 0, o, i)
#define MOVE(d, s) INSN(BPF_ALU64 | BPF_MOV | BPF_X, d, s, 0, 0)
#define SET(d, i) INSN(BPF_ALU64 | BPF_MOV | BPF_K, d, 0, 0, i)
#define ADD(d, i) INSN(BPF_ALU64 | BPF_ADD | BPF_K, d, 0, 0, i)
#define CALL(f) INSN(BPF_JMP | BPF_CALL, 0, 0, 0, f)
#define RETURN INSN(BPF_JMP | BPF_EXIT, 0, 0, 0, 0)
#define JUMP_PASS(op, d, i) INSN(BPF_JMP | (op) | BPF_K, d, 0, TO_PASS, i)
#define TO_PASS 0x7fff  // replaced by the distance when the program is complete

static int counter_map(void) {
    union bpf_attr map = {.map_type = BPF_MAP_TYPE_ARRAY, .key_size = 4, .value_size = 8, .max_entries = MAX_FLOWS};
    map.map_flags = BPF_F_MMAPABLE;
    int made = bpf(BPF_MAP_CREATE, &map);
    if (made < 0) fail("BPF map");
    return made;
}

// Counts a packet whose UDP payload has the magic at `offset`. An echo goes back out of the same interface with its
// addresses swapped, where `reflects`. Else it ends here, and a ping goes up to the packet socket.
static int counting_program(int map, int offset, int reflects) {
    struct bpf_insn code[80];
    int n = 0;
    code[n++] = MOVE(6, 1);
    code[n++] = LOAD(BPF_W, 9, 6, offsetof(struct xdp_md, data));
    code[n++] = LOAD(BPF_W, 3, 6, offsetof(struct xdp_md, data_end));
    code[n++] = MOVE(4, 9);
    code[n++] = ADD(4, HEADERS + offset + 8);
    code[n++] = INSN(BPF_JMP | BPF_JGT | BPF_X, 4, 3, TO_PASS, 0);
    code[n++] = LOAD(BPF_H, 5, 9, 12);
    code[n++] = JUMP_PASS(BPF_JNE, 5, htons(ETH_P_IP));
    code[n++] = LOAD(BPF_B, 5, 9, 14);
    code[n++] = JUMP_PASS(BPF_JNE, 5, 0x45);
    code[n++] = LOAD(BPF_B, 5, 9, 23);
    code[n++] = JUMP_PASS(BPF_JNE, 5, IPPROTO_UDP);
    code[n++] = LOAD(BPF_W, 8, 9, HEADERS + offset);
    code[n++] = ADD(8, -(int)MAGIC);
    code[n++] = JUMP_PASS(BPF_JGT, 8, PING);
    code[n++] = LOAD(BPF_W, 5, 9, HEADERS + offset + 4);
    code[n++] = STORE(BPF_W, 10, -4, 5);
    code[n++] = MOVE(2, 10);
    code[n++] = ADD(2, -4);
    code[n++] = INSN(BPF_LD | BPF_DW | BPF_IMM, 1, BPF_PSEUDO_MAP_FD, 0, map);
    code[n++] = INSN(0, 0, 0, 0, 0);
    code[n++] = CALL(BPF_FUNC_map_lookup_elem);
    code[n++] = JUMP_PASS(BPF_JEQ, 0, 0);
    code[n++] = SET(1, 1);
    code[n++] = INSN(BPF_STX | BPF_DW | BPF_ATOMIC, 0, 1, 0, BPF_ADD);
    if (!reflects) {
        code[n++] = JUMP_PASS(BPF_JEQ, 8, PING);
    } else {
        // On to the swap unless it ends here.
        code[n++] = INSN(BPF_JMP | BPF_JNE | BPF_K, 8, 0, 2, ONEWAY);
    }
    code[n++] = SET(0, XDP_DROP);
    code[n++] = RETURN;
    if (reflects) {
        static const struct { int size, left, right; } swaps[] = {
            {BPF_W, 0, 6}, {BPF_H, 4, 10}, {BPF_W, 26, 30}, {BPF_H, 34, 36}};
        for (int i = 0; i < 4; i++) {
            code[n++] = LOAD(swaps[i].size, 1, 9, swaps[i].left);
            code[n++] = LOAD(swaps[i].size, 2, 9, swaps[i].right);
            code[n++] = STORE(swaps[i].size, 9, swaps[i].left, 2);
            code[n++] = STORE(swaps[i].size, 9, swaps[i].right, 1);
        }
        // A sender on a veth leaves the UDP checksum to the device, and it would stay undone: none is right too.
        code[n++] = STORE_NUMBER(BPF_H, 9, 40, 0);
        // veth wakes nobody up for XDP_TX unless a program is at the other end; a redirect does.
        code[n++] = LOAD(BPF_W, 1, 6, offsetof(struct xdp_md, ingress_ifindex));
        code[n++] = SET(2, 0);
        code[n++] = CALL(BPF_FUNC_redirect);
        code[n++] = RETURN;
    }
    for (int i = 0; i < n; i++)
        if (BPF_CLASS(code[i].code) == BPF_JMP && code[i].off == TO_PASS) code[i].off = n - i - 1;
    code[n++] = SET(0, XDP_PASS);
    code[n++] = RETURN;

    static char log[65536];
    union bpf_attr load = {.prog_type = BPF_PROG_TYPE_XDP, .insn_cnt = n};
    load.insns = (uintptr_t)code;
    load.license = (uintptr_t) "GPL";
    load.log_buf = (uintptr_t)log;
    load.log_size = sizeof log;
    load.log_level = 1;
    int loaded = bpf(BPF_PROG_LOAD, &load);
    if (loaded < 0) {
        fprintf(stderr, "%s", log);
        fail("BPF program");
    }
    return loaded;
}

static void attach(int program, int interface) {
    union bpf_attr link = {0};
    link.link_create.prog_fd = program;
    link.link_create.target_ifindex = interface;
    link.link_create.attach_type = BPF_XDP;
    link.link_create.flags = 1u << 2;  // in the driver
    if (bpf(BPF_LINK_CREATE, &link) < 0) fail("XDP");  // it ends with this process
}

// The packets counted, and in how many flows of those that are in use.
static uint64_t counted(int map, uint64_t *per_flow) {
    uint64_t sum = 0;
    for (uint32_t i = 0; i < (uint32_t)flow_count; i++) {
        uint64_t value = 0;
        union bpf_attr look = {.map_fd = map};
        look.key = (uintptr_t)&i;
        look.value = (uintptr_t)&value;
        bpf(BPF_MAP_LOOKUP_ELEM, &look);
        if (per_flow) per_flow[i] = value;
        sum += value;
    }
    return sum;
}

// -- sending ----------------------------------------------------------------------------------------------------

static void enter(const char *path) {
    int namespace = open(path, O_RDONLY | O_CLOEXEC);
    if (namespace < 0 || setns(namespace, CLONE_NEWNET) < 0) fail(path);
    close(namespace);
}

static int packet_socket(int protocol, int interface) {
    int made = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, htons(protocol));
    struct sockaddr_ll address = {.sll_family = AF_PACKET, .sll_protocol = htons(protocol), .sll_ifindex = interface};
    if (made < 0 || bind(made, (struct sockaddr *)&address, sizeof address) < 0) fail("packet socket");
    return made;
}

static void read_mac(const char *text, uint8_t *mac) {
    if (sscanf(text, "%hhx:%hhx:%hhx:%hhx:%hhx:%hhx", mac, mac + 1, mac + 2, mac + 3, mac + 4, mac + 5) != 6)
        fail("MAC address");
}

// First line: destination MAC, source MAC, source address, destination address. Then a line for each flow: source
// port, destination port, and in hexadecimal what stands before the payload ("-" for nothing).
static void read_flows(const char *path) {
    char to[32], from[32], source[32], destination[32], prefix[2 * MAX_PREFIX + 2];
    FILE *file = fopen(path, "r");
    if (!file || fscanf(file, "%31s %31s %31s %31s", to, from, source, destination) != 4) fail(path);
    read_mac(to, route_macs);
    read_mac(from, route_macs + 6);
    source_ip = inet_addr(source);
    destination_ip = inet_addr(destination);
    struct flow *flow = flows;
    while (flow < flows + MAX_FLOWS &&
           fscanf(file, "%hu %hu %129s", &flow->source_port, &flow->destination_port, prefix) == 3) {
        flow->prefix_length = prefix[0] == '-' ? 0 : strlen(prefix) / 2;
        for (int i = 0; i < flow->prefix_length; i++) sscanf(prefix + 2 * i, "%2hhx", &flow->prefix[i]);
        flow++;
    }
    flow_count = flow - flows;
    fclose(file);
    if (!flow_count) fail("no flows");
    printf("{\"flows\": %d}\n", flow_count);
}

static uint16_t ip_checksum(const uint8_t *header) {
    uint32_t sum = 0;
    for (int i = 0; i < 20; i += 2) sum += header[i] << 8 | header[i + 1];
    while (sum >> 16) sum = (sum & 0xffff) + (sum >> 16);
    return ~sum;
}

static void put16(uint8_t *at, uint16_t value) {
    at[0] = value >> 8;
    at[1] = value;
}

static void make_frame(uint8_t *frame, const struct flow *flow, uint32_t number, int kind, int payload) {
    int datagram = 8 + flow->prefix_length + payload;
    memcpy(frame, route_macs, 12);
    put16(frame + 12, ETH_P_IP);
    uint8_t *ip = frame + 14;
    ip[0] = 0x45;
    put16(ip + 2, 20 + datagram);
    put16(ip + 6, 0x4000);
    ip[8] = 64;
    ip[9] = IPPROTO_UDP;
    memcpy(ip + 12, &source_ip, 4);
    memcpy(ip + 16, &destination_ip, 4);
    put16(ip + 10, ip_checksum(ip));
    put16(frame + 34, flow->source_port);
    put16(frame + 36, flow->destination_port);
    put16(frame + 38, datagram);  // and no checksum, as if the card had verified it
    memcpy(frame + HEADERS, flow->prefix, flow->prefix_length);
    uint32_t magic = MAGIC + kind;
    memcpy(frame + HEADERS + flow->prefix_length, &magic, 4);
    memcpy(frame + HEADERS + flow->prefix_length + 4, &number, 4);
}

// One frame of every flow, in turn: consecutive packets are of different flows. A few flows are repeated.
static void make_frames(int kind, int payload) {
    frame_count = flow_count;
    while (frame_count < LEAST_FRAMES) frame_count += flow_count;
    frame_size_most = HEADERS + MAX_PREFIX + payload;
    free(frames);
    free(vectors);
    free(messages);
    frames = calloc(frame_count, frame_size_most);
    vectors = calloc(frame_count, sizeof *vectors);
    messages = calloc(frame_count, sizeof *messages);
    if (!frames || !vectors || !messages) fail("memory");
    for (int i = 0; i < frame_count; i++) {
        const struct flow *flow = &flows[i % flow_count];
        uint8_t *frame = frames + (size_t)i * frame_size_most;
        make_frame(frame, flow, i % flow_count, kind, payload);
        vectors[i] = (struct iovec){frame, HEADERS + flow->prefix_length + payload};
        messages[i].msg_hdr.msg_iov = &vectors[i];
        messages[i].msg_hdr.msg_iovlen = 1;
    }
}

static uint64_t before_client[MAX_FLOWS], before_peer[MAX_FLOWS], after[MAX_FLOWS];

static void run(int kind, int payload, double rate, double seconds) {
    make_frames(kind, payload);
    uint64_t client_at_start = counted(client_map, before_client), peer_at_start = counted(peer_map, before_peer);
    uint64_t sent = 0, refused = 0, longest_gap = 0;
    uint64_t start = nanoseconds(CLOCK_MONOTONIC), end = start + (uint64_t)(seconds * 1e9), now = start, last = start;
    uint64_t cpu = nanoseconds(CLOCK_PROCESS_CPUTIME_ID);
    int next = 0;
    while (now < end) {
        // What is due, a slice at most; at a rate, the packets of 100 microseconds.
        int64_t due = rate > 0 ? (int64_t)((now - start) * rate / 1e9) - (int64_t)(sent + refused) : SLICE;
        if (due <= 0) {
            struct timespec pause = {0, 100000};
            nanosleep(&pause, NULL);
        } else {
            int slice = due < SLICE ? due : SLICE;
            if (slice > frame_count - next) slice = frame_count - next;
            int done = sendmmsg(sender, messages + next, slice, MSG_DONTWAIT);
            if (done <= 0) {
                // The device's ring is full: what was due is lost on the way in, as on a wire.
                done = 1;
                refused++;
            } else {
                sent += done;
            }
            next = (next + done) % frame_count;
        }
        now = nanoseconds(CLOCK_MONOTONIC);
        if (now - last > longest_gap) longest_gap = now - last;
        last = now;
    }
    uint64_t took = now - start;
    cpu = nanoseconds(CLOCK_PROCESS_CPUTIME_ID) - cpu;
    // What a relay has still to do was carried, but not in this time.
    struct timespec grace = {0, 10000000}, pause = {0, 30000000};
    nanosleep(&grace, NULL);
    uint64_t peer_in_time = counted(peer_map, NULL) - peer_at_start;
    uint64_t client_in_time = counted(client_map, NULL) - client_at_start, seen = 0, all;
    for (int tries = 0; tries < 100; tries++, seen = all) {
        nanosleep(&pause, NULL);
        all = counted(peer_map, NULL) + counted(client_map, NULL);
        if (tries && all == seen) break;
    }
    uint64_t at_peer = counted(peer_map, after) - peer_at_start;
    int reached = 0;
    for (int i = 0; i < flow_count; i++) reached += after[i] > before_peer[i];
    uint64_t at_client = counted(client_map, NULL) - client_at_start;
    printf("{\"offered\": %llu, \"refused\": %llu, \"at_peer\": %llu, \"at_client\": %llu, "
           "\"peer_in_time\": %llu, \"client_in_time\": %llu, \"flows_reached\": %d, "
           "\"seconds\": %.6f, \"generator_cpu\": %.6f, \"longest_gap\": %.6f}\n",
           (unsigned long long)(sent + refused), (unsigned long long)refused, (unsigned long long)at_peer,
           (unsigned long long)at_client,
           (unsigned long long)peer_in_time, (unsigned long long)client_in_time, reached, took / 1e9, cpu / 1e9, longest_gap / 1e9);
}

static void ping(int payload, int count) {
    static uint8_t reply[2048];
    static uint64_t trips[MOST_PINGS];
    make_frames(PING, payload);
    int receiver = packet_socket(ETH_P_IP, client_interface), lost = 0, done = 0;
    struct timeval patience = {0, 200000};
    setsockopt(receiver, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    if (count > MOST_PINGS) count = MOST_PINGS;
    for (int i = 0; i < count && lost < 20; i++) {
        uint64_t start = nanoseconds(CLOCK_MONOTONIC);
        if (sendmmsg(sender, messages + i % frame_count, 1, 0) != 1) {
            lost++;
            continue;
        }
        for (;;) {
            struct sockaddr_ll from;
            socklen_t length = sizeof from;
            ssize_t size = recvfrom(receiver, reply, sizeof reply, 0, (struct sockaddr *)&from, &length);
            uint32_t magic = 0;
            if (size >= HEADERS + 8) memcpy(&magic, reply + HEADERS + 4, 4);
            if (size < 0) {
                lost++;
                break;
            }
            if (from.sll_pkttype != PACKET_OUTGOING && magic == MAGIC + PING) {
                trips[done++] = nanoseconds(CLOCK_MONOTONIC) - start;
                break;
            }
        }
    }
    close(receiver);
    printf("{\"lost\": %d, \"trips\": [", lost);
    for (int i = 0; i < done; i++) printf(i ? ",%llu" : "%llu", (unsigned long long)trips[i]);
    printf("]}\n");
}

// load CLIENT_NAMESPACE INTERFACE PEER_NAMESPACE INTERFACE
int main(int argc, char **argv) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    prctl(PR_SET_TIMERSLACK, 1000ul);
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (argc != 5) {
        fprintf(stderr, "usage: load CLIENT_NAMESPACE INTERFACE PEER_NAMESPACE INTERFACE\n");
        return 2;
    }
    client_map = counter_map();
    peer_map = counter_map();
    enter(argv[3]);
    int peer_interface = if_nametoindex(argv[4]);
    attach(counting_program(peer_map, 0, 1), peer_interface);
    enter(argv[1]);
    client_interface = if_nametoindex(argv[2]);
    attach(counting_program(client_map, 4, 0), client_interface);
    sender = packet_socket(0, client_interface);
    int on = 1, room = 64 << 20;
    setsockopt(sender, SOL_SOCKET, SO_SNDBUFFORCE, &room, sizeof room);  // the veth's ring is the limit
    if (setsockopt(sender, SOL_PACKET, PACKET_QDISC_BYPASS, &on, sizeof on) < 0) fail("PACKET_QDISC_BYPASS");

    char line[1024], text[512], kind[16];
    int payload, count;
    double rate, seconds;
    printf("{\"ready\": true}\n");
    while (fgets(line, sizeof line, stdin)) {
        if (sscanf(line, "flows %511s", text) == 1)
            read_flows(text);
        else if (sscanf(line, "run %15s %d %lf %lf", kind, &payload, &rate, &seconds) == 4 && payload >= 8 &&
                 payload <= 1400 && flow_count)
            run(strcmp(kind, "echo") ? ONEWAY : ECHO, payload, rate, seconds);
        else if (sscanf(line, "ping %d %d", &payload, &count) == 2 && payload >= 8 && payload <= 1400 && flow_count)
            ping(payload, count);
        else if (!strcmp(line, "count\n") && flow_count)
            printf("{\"at_peer\": %llu, \"at_client\": %llu}\n", (unsigned long long)counted(peer_map, NULL),
                   (unsigned long long)counted(client_map, NULL));
        else {
            fprintf(stderr, "load: not understood: %s", line);
            return 2;
        }
    }
    return 0;
}
