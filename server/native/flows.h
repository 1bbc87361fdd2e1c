// Flows: what Python granted, found by where its packets come from. A flat table with open addressing.
#pragma once
#include <math.h>
#include <netinet/in.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

enum { MOST_BUCKETS = 2 };

// An address as the socket calls take and give it. IPv4 and IPv6 are told apart by the family in front.
union address {
    struct sockaddr any;
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
};

// Where a packet comes from: the socket it was read from, its source, and its channel if that is a listening socket.
// What is no channel has one of these numbers in that place.
enum {
    FROM_PEER = 0,   // of a channel
    PERMISSION = 1,  // by the host of a peer, its port left out
    ADMITTED = 2,    // a peer with its port that a client sends to, from a listening socket
    FIRST_CHANNEL = 0x4000,
    LAST_CHANNEL = 0x7FFF,
};

struct key {
    uint8_t host[16];
    uint32_t scope;
    uint16_t port;
    uint16_t channel;
    uint32_t socket;
    uint32_t client;  // of an admitted peer, which has no scope: both are a hash of the client's address
};
_Static_assert(sizeof(struct key) == 32, "hashed as four words");

// A token bucket of Python's (turnrelay.core.token_bucket): its state is an array of doubles, spent from by both.
struct bucket {
    double rate, burst, level, updated_at;
};

struct traffic {
    uint64_t packets_to_peer, bytes_to_peer, packets_from_peer, bytes_from_peer;
};

// A channel has two keys: its packets are found from both sides. A permission has one, and so has each peer that was
// admitted by it; those pay from its buckets and end with it.
struct flow {
    struct endpoint *relay, *listener;
    struct flow *next, **link;  // in the list of the relay, or of the permission
    struct flow *admitted;      // by a permission
    struct key keys[2];
    int key_count;
    uint16_t channel;
    union address client, peer;
    double expires_at;
    uint32_t segment_limits[2];  // to the peer and to the client: packets as large as this cannot be sent in segments
    int bucket_count;
    struct bucket *buckets[MOST_BUCKETS];
    void *leases[MOST_BUCKETS];  // what keeps the buckets where they are; NULL where that is the permission's
};

struct slot {
    struct key key;
    struct flow *flow;  // NULL in a free slot
};

struct table {
    struct slot *slots;
    size_t size, used;  // the size is a power of two, at least twice what is used
    uint64_t seed[4];   // strangers choose what is looked up
};

static inline socklen_t address_size(const union address *address) {
    return address->any.sa_family == AF_INET6 ? sizeof address->v6 : sizeof address->v4;
}

static inline struct key key_of(uint32_t socket, const union address *source, uint16_t channel) {
    struct key key = {.socket = socket, .channel = channel};
    if (source->any.sa_family == AF_INET6) {
        memcpy(key.host, &source->v6.sin6_addr, 16);
        key.scope = source->v6.sin6_scope_id;
        key.port = source->v6.sin6_port;
    } else {
        memcpy(key.host, &source->v4.sin_addr, 4);
        key.port = source->v4.sin_port;
    }
    return key;
}

static inline uint64_t mix(uint64_t left, uint64_t right) {
    __uint128_t product = (__uint128_t)left * right;
    return (uint64_t)product ^ (uint64_t)(product >> 64);
}

static inline uint64_t hash_of(const struct table *table, const struct key *key) {
    uint64_t words[4];
    memcpy(words, key, sizeof words);
    return mix(mix(words[0] ^ table->seed[0], words[1] ^ table->seed[1]),
               mix(words[2] ^ table->seed[2], words[3] ^ table->seed[3]));
}

static inline size_t place_of(const struct table *table, const struct key *key) {
    return hash_of(table, key) & (table->size - 1);
}

static inline int is_same(const union address *left, const union address *right) {
    struct key keys[] = {key_of(0, left, 0), key_of(0, right, 0)};
    return left->any.sa_family == right->any.sa_family && !memcmp(&keys[0], &keys[1], sizeof keys[0]);
}

// One look-up finds client and peer; as a hash is no address, whoever finds a flow asks whether the client is the same.
static inline struct key admitted_key(const struct table *table, uint32_t listener, const union address *client,
                                      const union address *peer) {
    struct key key = key_of(listener, peer, ADMITTED), from = key_of(listener, client, ADMITTED);
    uint64_t hash = hash_of(table, &from);
    key.scope = hash;
    key.client = hash >> 32;
    return key;
}

static inline struct slot *find_slot(const struct table *table, const struct key *key) {
    size_t place = place_of(table, key);
    while (table->slots[place].flow && memcmp(&table->slots[place].key, key, sizeof *key))
        place = (place + 1) & (table->size - 1);
    return &table->slots[place];
}

static inline struct flow *find_flow(const struct table *table, const struct key *key) {
    return find_slot(table, key)->flow;
}

// Makes room for `more` entries; -1 where there is no memory.
static int reserve(struct table *table, size_t more) {
    size_t size = table->size ? table->size : 64;
    while (size < 2 * (table->used + more)) size *= 2;
    if (size == table->size) return 0;
    struct table larger = *table;
    larger.size = size;
    larger.slots = calloc(size, sizeof *larger.slots);
    if (!larger.slots) return -1;
    for (size_t i = 0; i < table->size; i++)
        if (table->slots[i].flow) *find_slot(&larger, &table->slots[i].key) = table->slots[i];
    free(table->slots);
    *table = larger;
    return 0;
}

static void put(struct table *table, const struct key *key, struct flow *flow) {
    struct slot *slot = find_slot(table, key);
    table->used += !slot->flow;
    *slot = (struct slot){*key, flow};
}

static void take_out(struct table *table, const struct key *key) {
    struct slot *slot = find_slot(table, key);
    if (!slot->flow) return;
    size_t mask = table->size - 1, hole = slot - table->slots;
    table->used--;
    // Those behind the hole that belong in front of it move up, so that no search ends too early.
    for (size_t next = (hole + 1) & mask; table->slots[next].flow; next = (next + 1) & mask) {
        size_t home = place_of(table, &table->slots[next].key);
        if (((next - home) & mask) < ((next - hole) & mask)) continue;
        table->slots[hole] = table->slots[next];
        hole = next;
    }
    table->slots[hole].flow = NULL;
}

// What Python's TokenBucket.take does, to the bit.
static int take(struct bucket *bucket, double amount, double now) {
    double level = bucket->level + (now - bucket->updated_at) * bucket->rate;
    if (level > bucket->burst) level = bucket->burst;
    bucket->updated_at = now;
    bucket->level = level;
    if (level < amount) return 0;
    bucket->level = level - amount;
    return 1;
}

static int spend(struct flow *flow, double amount, double now) {
    for (int i = 0; i < flow->bucket_count; i++) {
        if (take(flow->buckets[i], amount, now)) continue;
        while (i--) flow->buckets[i]->level += amount;
        return 0;
    }
    return 1;
}
