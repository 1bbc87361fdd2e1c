// Packets: each to the flow that it belongs to, or up to Python.
#pragma once
#include "arrivals.h"

#include <sys/random.h>

enum { CHANNEL_HEADER = 4 };

// -- addresses --------------------------------------------------------------------------------------------------

// The tuples of Python's socket module; IPv6 addresses have four items there.
static int to_address(PyObject *tuple, union address *address) {
    const char *host;
    unsigned int port, flow_label = 0, scope = 0;
    memset(address, 0, sizeof *address);
    if (!PyArg_ParseTuple(tuple, "sI|II:address", &host, &port, &flow_label, &scope)) return -1;
    int is_v6 = PyTuple_Size(tuple) == 4;
    address->any.sa_family = is_v6 ? AF_INET6 : AF_INET;
    void *packed = is_v6 ? (void *)&address->v6.sin6_addr : (void *)&address->v4.sin_addr;
    if (port > 65535 || inet_pton(address->any.sa_family, host, packed) != 1) {
        PyErr_Format(PyExc_ValueError, "no address of a socket: %R", tuple);
        return -1;
    }
    if (is_v6) {
        address->v6.sin6_port = htons(port);
        address->v6.sin6_scope_id = scope;
    } else {
        address->v4.sin_port = htons(port);
    }
    return 0;
}

static PyObject *from_address(const union address *address) {
    char host[INET6_ADDRSTRLEN];
    if (address->any.sa_family != AF_INET6) {
        inet_ntop(AF_INET, &address->v4.sin_addr, host, sizeof host);
        return Py_BuildValue("(si)", host, ntohs(address->v4.sin_port));
    }
    inet_ntop(AF_INET6, &address->v6.sin6_addr, host, sizeof host);
    return Py_BuildValue("(siII)", host, ntohs(address->v6.sin6_port), ntohl(address->v6.sin6_flowinfo),
                         address->v6.sin6_scope_id);
}

// -- up to Python -----------------------------------------------------------------------------------------------

// Python may grant, revoke and remove whatever it likes now: nothing that is queued may point there.
static void call(PyObject *owner, const char *method, PyObject *arguments) {
    PyObject *function = arguments ? PyObject_GetAttrString(owner, method) : NULL;
    PyObject *result = function ? PyObject_CallObject(function, arguments) : NULL;
    if (!result) PyErr_WriteUnraisable(owner);
    Py_XDECREF(result);
    Py_XDECREF(function);
    Py_XDECREF(arguments);
}

static void flush_and_report(struct mover *mover) {
    flush(mover);
    for (int i = 0; i < mover->failure_count; i++) {
        struct failure failure = mover->failures[i];
        call(failure.owner, "not_sent",
             Py_BuildValue("(iON)", failure.error, failure.data, from_address(&failure.peer)));
        Py_DECREF(failure.data);
        Py_DECREF(failure.owner);
    }
    mover->failure_count = 0;
}

// For one packet more.
static void make_room(struct mover *mover) {
    if (mover->packet_count == MOST_PACKETS) flush_and_report(mover);
}

static void hand_up(struct mover *mover, struct endpoint *from, const uint8_t *data, uint32_t size,
                    const union address *source) {
    flush_and_report(mover);
    if (!from->is_removed)
        call(from->owner, "receive", Py_BuildValue("(y#N)", data, (Py_ssize_t)size, from_address(source)));
}

// -- packets ----------------------------------------------------------------------------------------------------

static int pay(struct mover *mover, struct flow *flow, uint32_t size, double now) {
    if (spend(flow, size, now)) return 1;
    mover->drops[BANDWIDTH]++;
    return 0;
}

// NULL where the system has no random bytes to give.
static const uint8_t *new_transaction_id(struct mover *mover) {
    if (!mover->lots_left) {
        if (getrandom(mover->lots, sizeof mover->lots, 0) != sizeof mover->lots) return NULL;
        mover->lots_left = sizeof mover->lots;
    }
    mover->lots_left -= TRANSACTION_ID;
    return mover->lots + mover->lots_left;
}

// Where the headers of the next packet end: in front of its data, or elsewhere where others of its train lie there.
static uint8_t *end_of_headers(struct mover *mover, const struct datagram *datagram) {
    return datagram->is_first ? datagram->data : mover->heads[mover->packet_count] + MOST_HEADERS;
}

// With headers from `head` on up to where they end, and padding, which lies behind the last datagram already.
static void enqueue_to_client(struct mover *mover, struct flow *flow, const struct datagram *datagram, uint8_t *head,
                              uint32_t padding) {
    uint8_t *data = datagram->data;
    uint32_t size = datagram->size, head_size = end_of_headers(mover, datagram) - head;
    struct packet *packet = enqueue(mover, flow, flow->listener, data, size, size);
    packet->size += head_size + padding;
    if (datagram->is_first)
        packet->body = (struct iovec){head, head_size + size};
    else
        packet->head = (struct iovec){head, head_size};
    if (datagram->is_last)
        packet->body.iov_len += padding;
    else
        packet->padding = padding;
}

// Peer to client: ChannelData (RFC 8656 section 12.4), or by permission a Data indication (section 11.3). Whether it
// was moved.
static int move_to_client(struct mover *mover, struct endpoint *relay, const struct datagram *datagram, double now) {
    const union address *source = datagram->source;
    uint32_t size = datagram->size;
    uint8_t *end = end_of_headers(mover, datagram);
    struct key key = key_of(relay->number, source, FROM_PEER);
    struct flow *flow = find_flow(&mover->table, &key);
    if (flow && flow->expires_at > now) {
        if (flow->listener->is_stream) return 0;  // what is written to streams, Python writes
        if (!pay(mover, flow, size, now)) return 1;
        put16(put16(end - CHANNEL_HEADER, flow->channel), size);
        enqueue_to_client(mover, flow, datagram, end - CHANNEL_HEADER, 0);
        return 1;
    }
    key.port = 0;
    key.channel = PERMISSION;
    flow = find_flow(&mover->table, &key);
    if (!flow || flow->expires_at <= now || size > MOST_DATA || flow->listener->is_stream) return 0;
    const uint8_t *transaction_id = new_transaction_id(mover);
    if (!transaction_id) return 0;
    if (!pay(mover, flow, size, now)) return 1;
    uint32_t padding = padded(size) - size;
    if (datagram->is_last) memset(datagram->data + size, 0, padding);
    enqueue_to_client(mover, flow, datagram, write_data_headers(end, size, source, transaction_id), padding);
    return 1;
}

// Client to peer by a Send indication (RFC 8656 section 11.2): where that peer was admitted and is still permitted.
static int move_send(struct mover *mover, struct endpoint *listener, const uint8_t *data, uint32_t size,
                     const union address *source, double now) {
    struct sending sending;
    if (!read_send(data, size, &sending)) return 0;
    struct key key = admitted_key(&mover->table, listener->number, source, &sending.peer);
    struct flow *flow = find_flow(&mover->table, &key);
    if (!flow || flow->expires_at <= now || !is_same(&flow->client, source)) return 0;
    if (pay(mover, flow, sending.size, now))
        enqueue(mover, flow, flow->relay, sending.data, sending.size, sending.size);
    return 1;
}

// Client to peer: what the length says, and padding behind it is left out.
static int move_to_peer(struct mover *mover, struct endpoint *listener, uint8_t *data, uint32_t size,
                        const union address *source, double now) {
    if (size < CHANNEL_HEADER) return 0;
    uint32_t channel = get16(data), length = get16(data + 2);
    if (channel == SEND_INDICATION) return move_send(mover, listener, data, size, source, now);
    if (channel < FIRST_CHANNEL || channel > LAST_CHANNEL || length > size - CHANNEL_HEADER) return 0;
    struct key key = key_of(listener->number, source, channel);
    struct flow *flow = find_flow(&mover->table, &key);
    if (!flow || flow->expires_at <= now) return 0;
    if (pay(mover, flow, length, now))
        enqueue(mover, flow, flow->relay, data + CHANNEL_HEADER, length, length);
    return 1;
}
