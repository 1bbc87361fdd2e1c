// Endpoints: the sockets that are read, and batches of packets out of them.
#pragma once
#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030B0000
#include <Python.h>
#include <errno.h>
#include <netinet/udp.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "indications.h"

enum {
    HEADROOM = 64,                 // in front of a payload, for the headers of what a client is sent
    ROOM = HEADROOM + 65536 + 448, // not a multiple of a page: all packets would fall into the same lines of the cache
    BUFFERS = 128,
    MOST_PACKETS = 512,  // that wait to be sent
    EVENTS = 64,
    RELAY_BATCH = 32,     // packets read from one socket before the others have their turn
    LISTENER_BATCH = 64,  // it carries all clients of an address
    MOST_SEGMENTS = 64,
    MOST_SEGMENTED = 65535 - 40 - 8,  // bytes that go in one UDP_SEGMENT, with the headers of IPv6 and UDP
    MOST_PIECES = 3,  // of a packet: headers, data, padding
    MOST_TRIES = 8,   // to send what meets errors
};
static const uint8_t PADDING[4];
static const double BURST_SECONDS = 0.0002;  // what is read again after so little time probably has more

enum drop { BANDWIDTH, CLIENT_CONGESTED, CLIENT_UNREACHABLE, PEER_CONGESTED, DROPS };
static const char *const DROP_NAMES[] = {"bandwidth", "client_congested", "client_unreachable", "peer_congested"};

// Headers and padding are part of the body where they lie around the data. Within a train its neighbors lie there.
struct packet {
    struct flow *flow;
    struct packet *next;
    struct iovec head, body;
    uint32_t padding;  // zeros behind the body
    uint32_t size;     // of all these
    uint32_t payload;  // what is counted
};

// What Python's ssl module has of one connection: two MemoryBIOs, `write` of the first, SSLObject.read, SSLWantReadError.
struct records {
    PyObject *owner, *incoming, *outgoing, *write, *read, *want_more;
};

struct endpoint {
    int fd;
    int is_listener, is_removed;
    int takes_trains;      // UDP_GRO is on
    int seen, successive;  // before that: datagrams, and those of them that a train would have joined to others
    int train;             // datagrams to an arrival when it was read last
    int is_stream;         // a listener's part for one client; Python reads it, and writes to it
    union address client;  // of a stream
    uint8_t *tail;         // of a stream: the beginning of a frame that is yet to be completed
    uint32_t tail_size;
    struct records *records;  // of a stream in TLS whose records are decrypted here
    double completed_at;      // of a stream: when a frame was complete
    uint32_t number;
    PyObject *owner;
    double read_at;
    struct flow *flows;  // of a relay
    struct traffic traffic;
    struct packet *first, *last;  // to be sent from this socket
    struct endpoint *next_sending;
    struct endpoint *next_removed;
};

// A packet that could not be sent, for Python to decide about.
struct failure {
    PyObject *owner, *data;
    union address peer;
    int error;
};

struct mover {
    PyObject_HEAD
    PyObject *clock;
    int poll;
    struct table table;
    struct endpoint **endpoints;
    uint32_t endpoint_count, free_from;
    struct endpoint *removed;  // freed when nobody holds a pointer any more
    struct endpoint *sending;
    int is_running, has_segments, may_take_trains;
    int used;  // buffers
    uint8_t lots[256 * TRANSACTION_ID];  // random bytes for transaction IDs, asked for by the hundred
    uint32_t lots_left;
    uint64_t drops[DROPS];
    struct packet packets[MOST_PACKETS];
    int packet_count;
    uint8_t heads[MOST_PACKETS][MOST_HEADERS];  // of those within trains
    struct failure failures[MOST_PACKETS];
    int failure_count;
    uint8_t *buffers;
    PyObject *pending, *record_size, *room;  // for records.h: a name, a number, and the first of the buffers
    union address sources[BUFFERS];
    struct iovec payloads[BUFFERS];
    struct mmsghdr arrivals[BUFFERS];  // one for each buffer, set up once
    char marks[BUFFERS][CMSG_SPACE(sizeof(int))];
    uint32_t strides[BUFFERS];  // from one datagram of an arrival to the next
    struct iovec vectors[MOST_PACKETS * MOST_PIECES];
    struct mmsghdr messages[MOST_PACKETS];
    char controls[MOST_PACKETS][CMSG_SPACE(sizeof(uint16_t))];
    int spans[MOST_PACKETS];  // packets that a message carries
};

// -- sending ----------------------------------------------------------------------------------------------------

static struct packet *enqueue(struct mover *mover, struct flow *flow, struct endpoint *from, const uint8_t *data,
                              uint32_t size, uint32_t payload) {
    struct packet *packet = &mover->packets[mover->packet_count++];
    *packet = (struct packet){.flow = flow, .body = {(uint8_t *)data, size}, .size = size, .payload = payload};
    if (from->first) {
        from->last->next = packet;
    } else {
        from->first = packet;
        from->next_sending = mover->sending;
        mover->sending = from;
    }
    from->last = packet;
    return packet;
}

static void sent(struct endpoint *from, const struct packet *packet) {
    struct traffic *traffic = &packet->flow->relay->traffic;
    if (from->is_listener) {
        traffic->packets_from_peer++;
        traffic->bytes_from_peer += packet->payload;
    } else {
        traffic->packets_to_peer++;
        traffic->bytes_to_peer += packet->payload;
    }
}

static void not_sent(struct mover *mover, struct endpoint *from, const struct packet *packet, int error) {
    int is_congested = error == EAGAIN || error == EWOULDBLOCK;
    if (from->is_listener) {
        mover->drops[is_congested ? CLIENT_CONGESTED : CLIENT_UNREACHABLE]++;
    } else if (is_congested) {
        mover->drops[PEER_CONGESTED]++;
    } else {
        PyObject *data = PyBytes_FromStringAndSize(packet->body.iov_base, packet->body.iov_len);
        if (!data) {
            PyErr_Clear();
            return;
        }
        Py_INCREF(from->owner);
        mover->failures[mover->failure_count++] = (struct failure){from->owner, data, packet->flow->peer, error};
    }
}

static inline uint32_t *segment_limit(const struct endpoint *from, const struct packet *packet) {
    return &packet->flow->segment_limits[from->is_listener];
}

// How many packets from here on can leave in one call as segments of one: of one flow, of one size, the last may be
// shorter.
static int segments(const struct endpoint *from, const struct packet *first) {
    if (!first->size || first->size >= *segment_limit(from, first)) return 1;
    int count = 1;
    uint32_t total = first->size;
    for (const struct packet *next = first->next; next && count < MOST_SEGMENTS; next = next->next) {
        total += next->size;
        if (next->flow != first->flow || next->size > first->size || !next->size || total > MOST_SEGMENTED) break;
        count++;
        if (next->size < first->size) break;
    }
    return count;
}

static int put_pieces(struct iovec *at, const struct packet *packet) {
    int count = 0;
    if (packet->head.iov_len) at[count++] = packet->head;
    at[count++] = packet->body;
    if (packet->padding) at[count++] = (struct iovec){(uint8_t *)PADDING, packet->padding};
    return count;
}

static struct packet *prepare(struct mover *mover, struct endpoint *from, struct packet *packet, int *count) {
    int vector = 0;
    *count = 0;
    while (packet) {
        int number = *count, span = segments(from, packet);
        struct msghdr *message = &mover->messages[number].msg_hdr;
        union address *to = from->is_listener ? &packet->flow->client : &packet->flow->peer;
        *message = (struct msghdr){.msg_name = to, .msg_namelen = address_size(to)};
        message->msg_iov = &mover->vectors[vector];
        if (span > 1) {
            message->msg_control = mover->controls[number];
            message->msg_controllen = sizeof mover->controls[number];
            struct cmsghdr *control = CMSG_FIRSTHDR(message);
            control->cmsg_level = SOL_UDP;
            control->cmsg_type = UDP_SEGMENT;
            control->cmsg_len = CMSG_LEN(sizeof(uint16_t));
            uint16_t size = packet->size;
            memcpy(CMSG_DATA(control), &size, sizeof size);
        }
        mover->spans[number] = span;
        for (int i = 0; i < span; i++, packet = packet->next) vector += put_pieces(&mover->vectors[vector], packet);
        message->msg_iovlen = &mover->vectors[vector] - message->msg_iov;
        ++*count;
    }
    return packet;
}

// A relay's socket reports the ICMP error of an earlier packet, perhaps to another peer, to whatever is sent next, and
// that once: the packet is not to blame, and goes at the next try unless a further error has come meanwhile. Sent at
// once it keeps its place. The error itself stays in the error queue, which wakes the loop.
static int may_be_stale(const struct endpoint *from, int error) {
    return !from->is_listener && error != EAGAIN && error != EWOULDBLOCK;
}

static ssize_t try_to_send(const struct endpoint *from, const struct msghdr *message) {
    // Most are of one piece, and the plain call is the cheaper one.
    if (message->msg_iovlen > 1) return sendmsg(from->fd, message, MSG_DONTWAIT);
    return sendto(from->fd, message->msg_iov->iov_base, message->msg_iov->iov_len, MSG_DONTWAIT, message->msg_name,
                  message->msg_namelen);
}

static void send_one(struct mover *mover, struct endpoint *from, struct packet *packet) {
    union address *to = from->is_listener ? &packet->flow->client : &packet->flow->peer;
    struct iovec pieces[MOST_PIECES];
    int count = put_pieces(pieces, packet);
    struct msghdr message = {to, address_size(to), pieces, count, NULL, 0, 0};
    int left = MOST_TRIES;
    ssize_t size;
    do
        size = try_to_send(from, &message);
    while (size < 0 && --left && may_be_stale(from, errno));
    if (size < 0)
        not_sent(mover, from, packet, errno);
    else
        sent(from, packet);
}

// Sends what is queued on one socket, in order.
static void send_queue(struct mover *mover, struct endpoint *from) {
    struct packet *packet = from->first;
    from->first = from->last = NULL;
    if (!packet->next) {
        send_one(mover, from, packet);
        return;
    }
    int count, done = 0, left = MOST_TRIES;
    prepare(mover, from, packet, &count);
    while (done < count) {
        int now = sendmmsg(from->fd, mover->messages + done, count - done, MSG_DONTWAIT);
        for (int i = 0; i < now; i++, done++)
            for (int span = mover->spans[done]; span; span--, packet = packet->next) sent(from, packet);
        if (now > 0) {
            left = MOST_TRIES;
            continue;
        }
        int error = errno;
        if (--left && may_be_stale(from, error)) continue;
        left = MOST_TRIES;
        int span = mover->spans[done++];
        if (span == 1) {
            not_sent(mover, from, packet, error);
            packet = packet->next;
            continue;
        }
        // Larger than the way's MTU, or a device without checksums: each may still go by itself.
        if (error == EMSGSIZE || error == EINVAL || error == EIO) *segment_limit(from, packet) = packet->size;
        for (; span; span--, packet = packet->next) send_one(mover, from, packet);
    }
}

static void flush(struct mover *mover) {
    for (struct endpoint *from; (from = mover->sending);) {
        mover->sending = from->next_sending;
        send_queue(mover, from);
    }
    mover->packet_count = 0;
}
