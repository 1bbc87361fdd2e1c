// The generator's XDP programs, written out so that a C compiler is all it takes: one that counts and reflects what
// arrives, and one that sends.
#pragma once
#include <arpa/inet.h>
#include <errno.h>
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { MAX_FLOWS = 16384, MAX_PREFIX = 64, HEADERS = 42, HEAD = 128 };
static const uint32_t MAGIC = 0x54524200;  // and a kind added
// Counted and dropped; echoed by the peer; echoed and passed up; echoed by both ends, again and again.
enum { ONEWAY, ECHO, PING, CIRCLE };

// The first bytes of a flow's packets: headers, what stands before the payload, and the payload's start.
struct head {
    uint8_t bytes[HEAD];
};

// What the sending program goes by, and its account. Times are those of CLOCK_MONOTONIC, in nanoseconds.
struct pace {
    uint64_t start, end, rate;  // packets a second
    uint64_t tick;              // packets that fall due in this time are sent together
    uint64_t flows;             // whose packets are sent in turn
    uint64_t sent, idle;        // idle: how often nothing was due
    uint64_t next;              // flow
    uint64_t due, look_at;      // packets to send before the clock is looked at again, and when that is
    uint64_t looked, longest_gap;
};
enum { SLICE = 64 };

static void fail(const char *what) {
    fprintf(stderr, "load: %s: %s\n", what, strerror(errno));
    exit(1);
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
#define JUMP_DROP(op, d, i) INSN(BPF_JMP | (op) | BPF_K, d, 0, TO_DROP, i)
#define JUMP_IDLE(op, d, s) INSN(BPF_JMP | (op) | BPF_X, d, s, TO_IDLE, 0)
#define ARITHMETIC(op, d, s) INSN(BPF_ALU64 | (op) | BPF_X, d, s, 0, 0)
// Replaced by the distance when the program is complete.
enum { TO_PASS = 0x7fff, TO_DROP = 0x7ffe, TO_IDLE = 0x7ffd };

// An array in this process' memory too.
static void *shared_map(int *map, uint32_t value_size, uint32_t entries) {
    union bpf_attr made = {.map_type = BPF_MAP_TYPE_ARRAY, .key_size = 4, .value_size = value_size};
    made.max_entries = entries;
    made.map_flags = BPF_F_MMAPABLE;
    if ((*map = bpf(BPF_MAP_CREATE, &made)) < 0) fail("BPF map");
    void *memory = mmap(NULL, (size_t)value_size * entries, PROT_READ | PROT_WRITE, MAP_SHARED, *map, 0);
    if (memory == MAP_FAILED) fail("BPF map's memory");
    return memory;
}

static int load_program(struct bpf_insn *code, int length) {
    static char log[65536];
    union bpf_attr load = {.prog_type = BPF_PROG_TYPE_XDP, .insn_cnt = length};
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

static int look_up(struct bpf_insn *code, int n, int map) {
    code[n++] = MOVE(2, 10);
    code[n++] = ADD(2, -4);
    code[n++] = INSN(BPF_LD | BPF_DW | BPF_IMM, 1, BPF_PSEUDO_MAP_FD, 0, map);
    code[n++] = INSN(0, 0, 0, 0, 0);
    code[n++] = CALL(BPF_FUNC_map_lookup_elem);
    return n;
}

// Counts a packet whose UDP payload has the magic at `offset`. An echo goes back out of the same interface with its
// addresses swapped, where `reflects`. Else it ends here, but for what circles, as long as `circling` says so (it
// counts what ends there), and a ping, which goes up to the packet socket.
static int counting_program(int map, int offset, int reflects, int circling) {
    struct bpf_insn code[96];
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
    code[n++] = JUMP_PASS(BPF_JGT, 8, CIRCLE);
    code[n++] = LOAD(BPF_W, 5, 9, HEADERS + offset + 4);
    code[n++] = STORE(BPF_W, 10, -4, 5);
    n = look_up(code, n, map);
    code[n++] = JUMP_PASS(BPF_JEQ, 0, 0);
    code[n++] = SET(1, 1);
    code[n++] = INSN(BPF_STX | BPF_DW | BPF_ATOMIC, 0, 1, 0, BPF_ADD);
    // On to the swap, over the two instructions that end it here.
    if (reflects) {
        code[n++] = INSN(BPF_JMP | BPF_JNE | BPF_K, 8, 0, 2, ONEWAY);
    } else {
        code[n++] = JUMP_PASS(BPF_JEQ, 8, PING);
        int other = n++;
        code[n++] = STORE_NUMBER(BPF_W, 10, -4, 0);
        n = look_up(code, n, circling);
        code[n++] = JUMP_PASS(BPF_JEQ, 0, 0);
        code[n++] = LOAD(BPF_DW, 1, 0, 0);
        code[n++] = INSN(BPF_JMP | BPF_JNE | BPF_K, 1, 0, 4, 0);
        code[n++] = SET(1, 1);
        code[n++] = INSN(BPF_STX | BPF_DW | BPF_ATOMIC, 0, 1, 8, BPF_ADD);
        code[other] = INSN(BPF_JMP | BPF_JNE | BPF_K, 8, 0, n - other - 1, CIRCLE);
    }
    code[n++] = SET(0, XDP_DROP);
    code[n++] = RETURN;
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
    for (int i = 0; i < n; i++)
        if (BPF_CLASS(code[i].code) == BPF_JMP && code[i].off == TO_PASS) code[i].off = n - i - 1;
    code[n++] = SET(0, XDP_PASS);
    code[n++] = RETURN;

    return load_program(code, n);
}

#define PACE(d, field) LOAD(BPF_DW, d, 8, offsetof(struct pace, field))
#define SET_PACE(field, s) STORE(BPF_DW, 8, offsetof(struct pace, field), s)

// Runs on frames that the kernel makes for it (BPF_F_TEST_XDP_LIVE_FRAMES), as a card's driver does for what it
// receives: it sends out of `interface` what is due by the pace, one packet of each flow in turn, and drops the others.
static int sending_program(int pace_map, int heads_map, int interface) {
    struct bpf_insn code[120];
    int n = 0;
    code[n++] = LOAD(BPF_W, 7, 1, offsetof(struct xdp_md, data));
    code[n++] = LOAD(BPF_W, 3, 1, offsetof(struct xdp_md, data_end));
    code[n++] = MOVE(4, 7);
    code[n++] = ADD(4, HEAD);
    code[n++] = INSN(BPF_JMP | BPF_JGT | BPF_X, 4, 3, TO_DROP, 0);
    code[n++] = STORE_NUMBER(BPF_W, 10, -4, 0);
    n = look_up(code, n, pace_map);
    code[n++] = JUMP_DROP(BPF_JEQ, 0, 0);
    code[n++] = MOVE(8, 0);
    code[n++] = PACE(1, due);
    int to_send = n++;
    code[n++] = CALL(BPF_FUNC_ktime_get_ns);
    // What keeps the generator from its core makes gaps, and bursts behind them.
    code[n++] = PACE(2, looked);
    code[n++] = SET_PACE(looked, 0);
    code[n++] = MOVE(1, 0);
    code[n++] = ARITHMETIC(BPF_SUB, 1, 2);
    code[n++] = PACE(2, longest_gap);
    code[n++] = INSN(BPF_JMP | BPF_JSLE | BPF_X, 1, 2, 1, 0);
    code[n++] = SET_PACE(longest_gap, 1);
    code[n++] = PACE(1, look_at);
    code[n++] = JUMP_IDLE(BPF_JLT, 0, 1);
    code[n++] = PACE(1, end);
    code[n++] = JUMP_IDLE(BPF_JGE, 0, 1);
    // r1: what should have been sent by now, and was not.
    code[n++] = MOVE(1, 0);
    code[n++] = PACE(2, start);
    code[n++] = ARITHMETIC(BPF_SUB, 1, 2);
    code[n++] = PACE(2, rate);
    code[n++] = ARITHMETIC(BPF_MUL, 1, 2);
    code[n++] = INSN(BPF_ALU64 | BPF_DIV | BPF_K, 1, 0, 0, 1000000000);
    code[n++] = PACE(2, sent);
    code[n++] = PACE(3, tick);
    code[n++] = ARITHMETIC(BPF_ADD, 0, 3);
    code[n++] = INSN(BPF_JMP | BPF_JGT | BPF_X, 1, 2, 2, 0);
    code[n++] = SET_PACE(look_at, 0);
    code[n++] = INSN(BPF_JMP | BPF_JA, 0, 0, TO_IDLE, 0);
    code[n++] = ARITHMETIC(BPF_SUB, 1, 2);
    // A slice at most, and then the clock is looked at at once.
    code[n++] = INSN(BPF_JMP | BPF_JLE | BPF_K, 1, 0, 2, SLICE);
    code[n++] = SET(1, SLICE);
    code[n++] = SET(0, 0);
    code[n++] = SET_PACE(look_at, 0);
    code[to_send] = INSN(BPF_JMP | BPF_JNE | BPF_K, 1, 0, n - to_send - 1, 0);
    code[n++] = ADD(1, -1);
    code[n++] = SET_PACE(due, 1);
    code[n++] = PACE(1, sent);
    code[n++] = ADD(1, 1);
    code[n++] = SET_PACE(sent, 1);
    code[n++] = PACE(1, next);
    code[n++] = STORE(BPF_W, 10, -4, 1);
    code[n++] = ADD(1, 1);
    code[n++] = PACE(2, flows);
    code[n++] = INSN(BPF_JMP | BPF_JLT | BPF_X, 1, 2, 1, 0);
    code[n++] = SET(1, 0);
    code[n++] = SET_PACE(next, 1);
    n = look_up(code, n, heads_map);
    code[n++] = JUMP_DROP(BPF_JEQ, 0, 0);
    for (int i = 0; i < HEAD; i += 8) {
        code[n++] = LOAD(BPF_DW, 1, 0, i);
        code[n++] = STORE(BPF_DW, 7, i, 1);
    }
    code[n++] = SET(1, interface);
    code[n++] = SET(2, 0);
    code[n++] = CALL(BPF_FUNC_redirect);
    code[n++] = RETURN;
    int idle = n;
    code[n++] = PACE(1, idle);
    code[n++] = ADD(1, 1);
    code[n++] = SET_PACE(idle, 1);
    int drop = n;
    code[n++] = SET(0, XDP_DROP);
    code[n++] = RETURN;
    for (int i = 0; i < n; i++) {
        if (BPF_CLASS(code[i].code) != BPF_JMP) continue;
        if (code[i].off == TO_DROP) code[i].off = drop - i - 1;
        if (code[i].off == TO_IDLE) code[i].off = idle - i - 1;
    }
    return load_program(code, n);
}

// Runs the sending program so many times, or until a signal. Each batch of frames is flushed together. To begin and to
// end takes the kernel tens of milliseconds.
static void run_sending(int program, uint8_t *frame, int size, int interface, uint32_t times) {
    struct xdp_md context = {.data_end = size, .ingress_ifindex = interface};
    union bpf_attr run = {0};
    run.test.prog_fd = program;
    run.test.data_in = (uintptr_t)frame;
    run.test.data_size_in = size;
    run.test.ctx_in = (uintptr_t)&context;
    run.test.ctx_size_in = sizeof context;
    run.test.repeat = times;
    run.test.batch_size = SLICE;
    run.test.flags = BPF_F_TEST_XDP_LIVE_FRAMES;
    if (bpf(BPF_PROG_TEST_RUN, &run) < 0 && errno != EINTR) fail("sending (Linux 5.18 is needed)");
}

static void attach(int program, int interface) {
    union bpf_attr link = {0};
    link.link_create.prog_fd = program;
    link.link_create.target_ifindex = interface;
    link.link_create.attach_type = BPF_XDP;
    link.link_create.flags = 1u << 2;  // in the driver
    if (bpf(BPF_LINK_CREATE, &link) < 0) fail("XDP");  // it ends with this process
}

