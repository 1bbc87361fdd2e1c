// The load generator of the benchmark: sends prepared frames at a rate, and counts what comes through a relay.
//
// It sends and counts in XDP programs (programs.h), so that neither side of it is what is being measured: packets reach
// the relay as a card's driver hands them over, as pages, of which nothing was made yet. Run by bench/generator.py,
// which says what to do on standard input, a line each, and reads one line of JSON for each on standard output:
//
//   flows FILE            the frames' addresses and what stands before the payload (see read_flows)
//   run KIND BYTES RATE SECONDS    send; KIND is oneway or echo, RATE packets a second, 0 for all it can
//   ping BYTES COUNT      one packet in flight, echoed; round trips in nanoseconds
//   circle BYTES COUNT    so many packets go round, client, peer and back, until `rest`; for as many of the flows
//   rest                  how many packets were still going round
//   count                 what has come to the peer and to the client so far, whoever sent it
//
// A payload starts with a magic number that says what the receiver does with it, and the number of its flow.
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>

#include "programs.h"

enum { MOST_PINGS = 100000, CALIBRATION_RUNS = 200000, LEAD_NS = 60000000, BURST = 32, MODERATION_NS = 150000 };

struct flow {
    uint16_t source_port, destination_port, prefix_length;
    uint8_t prefix[MAX_PREFIX];
};

static struct flow flows[MAX_FLOWS];
static int flow_count;
static uint8_t route_macs[12];  // destination, source
static uint32_t source_ip, destination_ip;

static int sender = -1;
static int client_interface;

static struct head *heads;
static struct pace *pace;
static int sending;
static double idle_ns;  // what a run costs in which nothing is due
static volatile uint64_t *client_counts, *peer_counts, *circling;

static uint64_t nanoseconds(clockid_t clock) {
    struct timespec at;
    clock_gettime(clock, &at);
    return (uint64_t)at.tv_sec * 1000000000u + at.tv_nsec;
}

static uint64_t counted(volatile uint64_t *counts, uint64_t *per_flow) {
    uint64_t sum = 0;
    for (int i = 0; i < flow_count; i++) {
        uint64_t value = counts[i];
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

static void make_head(uint8_t *frame, const struct flow *flow, uint32_t number, int kind, int payload) {
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

// The start of every flow's packets; returns their size, which is one for all.
static int make_heads(int kind, int payload) {
    int size = HEADERS + flows[0].prefix_length + payload;
    for (int i = 0; i < flow_count; i++) {
        memset(&heads[i], 0, sizeof heads[i]);
        make_head(heads[i].bytes, &flows[i], i, kind, payload);
    }
    return size;
}

static const uint64_t EVERYTHING = 100000000;  // packets a second
static uint64_t before_client[MAX_FLOWS], before_peer[MAX_FLOWS], after[MAX_FLOWS];

static void run(int kind, int payload, double rate, double seconds) {
    static uint8_t frame[2048];
    int size = make_heads(kind, payload);
    uint64_t client_at_start = counted(client_counts, before_client);
    uint64_t peer_at_start = counted(peer_counts, before_peer);
    uint64_t cpu = nanoseconds(CLOCK_PROCESS_CPUTIME_ID), start = nanoseconds(CLOCK_MONOTONIC) + LEAD_NS;
    *pace = (struct pace){.start = start, .end = start + (uint64_t)(seconds * 1e9), .flows = flow_count};
    pace->look_at = pace->looked = start;
    pace->rate = rate > 0 ? rate : EVERYTHING;
    // As a card's interrupt moderation brings them; but a veth has 256 places.
    pace->tick = BURST * 1e9 / pace->rate < MODERATION_NS ? BURST * 1e9 / pace->rate : MODERATION_NS;
    double until = LEAD_NS / 1e9 + seconds + 0.001;
    struct itimerval alarm = {.it_value = {until, (until - (long)until) * 1e6}};
    setitimer(ITIMER_REAL, &alarm, NULL);
    run_sending(sending, frame, size, client_interface, UINT32_MAX);
    uint64_t took = pace->end - start, sent = pace->sent;
    cpu = nanoseconds(CLOCK_PROCESS_CPUTIME_ID) - cpu;
    double busy = cpu - pace->idle * idle_ns;
    if (busy < 0) busy = 0;
    // What a relay has still to do was carried, but not in this time.
    struct timespec grace = {0, 10000000}, pause = {0, 30000000};
    nanosleep(&grace, NULL);
    uint64_t peer_in_time = counted(peer_counts, NULL) - peer_at_start;
    uint64_t client_in_time = counted(client_counts, NULL) - client_at_start, seen = 0, all;
    for (int tries = 0; tries < 100; tries++, seen = all) {
        nanosleep(&pause, NULL);
        all = counted(peer_counts, NULL) + counted(client_counts, NULL);
        if (tries && all == seen) break;
    }
    uint64_t at_peer = counted(peer_counts, after) - peer_at_start;
    int reached = 0;
    for (int i = 0; i < flow_count; i++) reached += after[i] > before_peer[i];
    uint64_t at_client = counted(client_counts, NULL) - client_at_start;
    printf("{\"offered\": %llu, \"at_peer\": %llu, \"at_client\": %llu, \"peer_in_time\": %llu, "
           "\"client_in_time\": %llu, \"flows_reached\": %d, \"seconds\": %.6f, \"generator_cpu\": %.6f, "
           "\"longest_gap\": %.6f}\n",
           (unsigned long long)sent, (unsigned long long)at_peer, (unsigned long long)at_client,
           (unsigned long long)peer_in_time, (unsigned long long)client_in_time, reached, took / 1e9, busy / 1e9,
           pace->longest_gap / 1e9);
}

// What it costs to find that nothing is due: a paced run does little else, and could send instead.
static void calibrate(void) {
    static uint8_t frame[HEAD];
    *pace = (struct pace){.end = 0, .look_at = UINT64_MAX, .flows = 1};
    uint64_t cpu = nanoseconds(CLOCK_PROCESS_CPUTIME_ID);
    run_sending(sending, frame, sizeof frame, client_interface, CALIBRATION_RUNS);
    idle_ns = (double)(nanoseconds(CLOCK_PROCESS_CPUTIME_ID) - cpu) / CALIBRATION_RUNS;
}

static void ping(int payload, int count) {
    static uint8_t frame[2048], reply[2048];
    static uint64_t trips[MOST_PINGS];
    int size = make_heads(PING, payload);
    int receiver = packet_socket(ETH_P_IP, client_interface), lost = 0, done = 0;
    struct timeval patience = {0, 200000};
    setsockopt(receiver, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    if (count > MOST_PINGS) count = MOST_PINGS;
    for (int i = 0; i < count && lost < 20; i++) {
        uint64_t start = nanoseconds(CLOCK_MONOTONIC);
        memcpy(frame, &heads[i % flow_count], HEAD);
        if (send(sender, frame, size, 0) != size) {
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

static void circle(int payload, int count) {
    static uint8_t frame[2048];
    int size = make_heads(CIRCLE, payload), sent = 0;
    circling[1] = 0;
    circling[0] = 1;
    for (int i = 0; i < count; i++) {
        memcpy(frame, &heads[i % flow_count], HEAD);
        sent += send(sender, frame, size, 0) == size;
    }
    printf("{\"sent\": %d}\n", sent);
}

static void rest(void) {
    struct timespec pause = {0, 50000000};
    circling[0] = 0;
    nanosleep(&pause, NULL);
    printf("{\"left\": %llu}\n", (unsigned long long)circling[1]);
}

// A signal ends the sending, which is one long call.
static void ignore(int number) { (void)number; }

// load CLIENT_NAMESPACE INTERFACE PEER_NAMESPACE INTERFACE
int main(int argc, char **argv) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    signal(SIGALRM, ignore);
    prctl(PR_SET_TIMERSLACK, 1000ul);
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (argc != 5) {
        fprintf(stderr, "usage: load CLIENT_NAMESPACE INTERFACE PEER_NAMESPACE INTERFACE\n");
        return 2;
    }
    int client_map, peer_map, pace_map, heads_map, circling_map;
    client_counts = shared_map(&client_map, sizeof *client_counts, MAX_FLOWS);
    peer_counts = shared_map(&peer_map, sizeof *peer_counts, MAX_FLOWS);
    circling = shared_map(&circling_map, 2 * sizeof *circling, 1); // whether packets go round, and how many have ended
    heads = shared_map(&heads_map, sizeof *heads, MAX_FLOWS);
    pace = shared_map(&pace_map, sizeof *pace, 1);
    enter(argv[3]);
    int peer_interface = if_nametoindex(argv[4]);
    attach(counting_program(peer_map, 0, 1, circling_map), peer_interface);
    enter(argv[1]);
    client_interface = if_nametoindex(argv[2]);
    attach(counting_program(client_map, 4, 0, circling_map), client_interface);
    sending = sending_program(pace_map, heads_map, client_interface);
    calibrate();
    sender = packet_socket(0, client_interface);
    int on = 1;
    if (setsockopt(sender, SOL_PACKET, PACKET_QDISC_BYPASS, &on, sizeof on) < 0) fail("PACKET_QDISC_BYPASS");

    char line[1024], text[512], kind[16];
    int payload, count;
    double rate, seconds;
    printf("{\"ready\": true}\n");
    while (fgets(line, sizeof line, stdin)) {
        if (sscanf(line, "flows %511s", text) == 1)
            read_flows(text);
        else if (sscanf(line, "run %15s %d %lf %lf", kind, &payload, &rate, &seconds) == 4 && payload >= HEAD - HEADERS &&
                 payload <= 1400 && flow_count)
            run(strcmp(kind, "echo") ? ONEWAY : ECHO, payload, rate, seconds);
        else if (sscanf(line, "ping %d %d", &payload, &count) == 2 && payload >= HEAD - HEADERS && payload <= 1400 && flow_count)
            ping(payload, count);
        else if (sscanf(line, "circle %d %d", &payload, &count) == 2 && payload >= HEAD - HEADERS && payload <= 1400 && flow_count)
            circle(payload, count);
        else if (!strcmp(line, "rest\n"))
            rest();
        else if (!strcmp(line, "count\n") && flow_count)
            printf("{\"at_peer\": %llu, \"at_client\": %llu}\n", (unsigned long long)counted(peer_counts, NULL),
                   (unsigned long long)counted(client_counts, NULL));
        else {
            fprintf(stderr, "load: not understood: %s", line);
            return 2;
        }
    }
    return 0;
}
