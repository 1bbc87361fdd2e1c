// The mover: packets of granted channels from socket to socket, for the userspace plane where a C compiler was there.
//
// Python decides everything: it grants and revokes flows, and is handed every packet that belongs to none, and every
// error. What is here looks flows up and counts. turnrelay/relay/mover.py is the Python side, UserspacePlane and
// UdpListener do the same without this. All on one thread, the event loop's, which polls `fileno()` and calls `run()`.
#define _GNU_SOURCE
#include "sockets.h"

#include <arpa/inet.h>
#include <sys/random.h>

enum { CHANNEL_HEADER = 4, FIRST_CHANNEL = 0x4000, LAST_CHANNEL = 0x7FFF, MOST_AT_ONCE = 512 };

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

static void hand_up(struct mover *mover, struct endpoint *from, const uint8_t *data, uint32_t size,
                    const union address *source) {
    flush_and_report(mover);
    if (!from->is_removed)
        call(from->owner, "receive", Py_BuildValue("(y#N)", data, (Py_ssize_t)size, from_address(source)));
}

// -- packets ----------------------------------------------------------------------------------------------------

// Peer to client: ChannelData (RFC 8656 section 12.4). Whether it was moved.
static int move_to_client(struct mover *mover, struct endpoint *relay, uint8_t *data, uint32_t size,
                          const union address *source, double now) {
    struct key key = key_of(relay->number, source, 0);
    struct flow *flow = find_flow(&mover->table, &key);
    if (!flow || flow->expires_at <= now) return 0;
    if (!spend(flow, size, now)) {
        mover->drops[BANDWIDTH]++;
        return 1;
    }
    uint16_t header[] = {htons(flow->channel), htons(size)};
    memcpy(data - CHANNEL_HEADER, header, CHANNEL_HEADER);
    enqueue(mover, flow, flow->listener, data - CHANNEL_HEADER, size + CHANNEL_HEADER);
    return 1;
}

// Client to peer: what the length says, and padding behind it is left out.
static int move_to_peer(struct mover *mover, struct endpoint *listener, uint8_t *data, uint32_t size,
                        const union address *source, double now) {
    if (size < CHANNEL_HEADER) return 0;
    uint32_t channel = data[0] << 8 | data[1], length = data[2] << 8 | data[3];
    if (channel < FIRST_CHANNEL || channel > LAST_CHANNEL || length > size - CHANNEL_HEADER) return 0;
    struct key key = key_of(listener->number, source, channel);
    struct flow *flow = find_flow(&mover->table, &key);
    if (!flow || flow->expires_at <= now) return 0;
    if (!spend(flow, length, now)) {
        mover->drops[BANDWIDTH]++;
        return 1;
    }
    enqueue(mover, flow, flow->relay, data + CHANNEL_HEADER, length);
    return 1;
}

// Reads a batch from one socket into the buffers behind those that are in use. How many packets that was.
static int drain(struct mover *mover, struct endpoint *from, double now) {
    // To ask an empty socket costs a system call's time: a relayed address that was silent is asked for one.
    int most = from->is_listener ? LISTENER_BATCH : now - from->read_at < BURST_SECONDS ? RELAY_BATCH : 1;
    from->read_at = now;
    if (mover->used + most > BUFFERS) {
        flush_and_report(mover);
        mover->used = 0;
        if (from->is_removed) return 0;
    }
    int count = receive(mover, from, mover->used, most), first = mover->used;
    if (count < 0 && errno != EAGAIN && !from->is_listener) {
        flush_and_report(mover);
        if (!from->is_removed) call(from->owner, "report_errors", PyTuple_New(0));
        return 0;
    }
    if (count > 0) mover->used += count;
    for (int i = first; i < first + count && !from->is_removed; i++) {
        uint8_t *data = mover->payloads[i].iov_base;
        uint32_t size = mover->arrivals[i].msg_len;
        const union address *source = &mover->sources[i];
        int is_moved = from->is_listener ? move_to_peer(mover, from, data, size, source, now)
                                         : move_to_client(mover, from, data, size, source, now);
        if (!is_moved) hand_up(mover, from, data, size, source);
    }
    return count > 0 ? count : 0;
}

static void free_removed(struct mover *mover) {
    for (struct endpoint *endpoint; (endpoint = mover->removed);) {
        mover->removed = endpoint->next_removed;
        Py_CLEAR(endpoint->owner);
        free(endpoint);
    }
}

static PyObject *mover_run(PyObject *self, PyObject *unused) {
    (void)unused;
    struct mover *mover = (struct mover *)self;
    PyObject *clock = PyObject_CallNoArgs(mover->clock);
    if (!clock) return NULL;
    double now = PyFloat_AsDouble(clock);
    Py_DECREF(clock);
    if (PyErr_Occurred()) return NULL;
    if (mover->is_running || mover->poll < 0) Py_RETURN_NONE;
    mover->is_running = 1;
    struct epoll_event events[EVENTS];
    int count = epoll_wait(mover->poll, events, EVENTS, 0), moved = 0;
    // What is left over is still readable at the next call.
    for (int i = 0; i < count && moved < MOST_AT_ONCE; i++) {
        struct endpoint *from = events[i].data.ptr;
        if (from->is_removed) continue;
        if (events[i].events & EPOLLERR && !from->is_listener) {
            flush_and_report(mover);
            if (!from->is_removed) call(from->owner, "report_errors", PyTuple_New(0));
            if (from->is_removed) continue;
        }
        moved += drain(mover, from, now);
    }
    flush_and_report(mover);
    mover->used = 0;
    mover->is_running = 0;
    free_removed(mover);
    Py_RETURN_NONE;
}

// -- what Python calls ------------------------------------------------------------------------------------------

static struct endpoint *endpoint_at(struct mover *mover, unsigned int number) {
    if (number < mover->endpoint_count && mover->endpoints[number]) return mover->endpoints[number];
    PyErr_Format(PyExc_LookupError, "no socket %u", number);
    return NULL;
}

static uint32_t free_number(struct mover *mover) {
    for (; mover->free_from < mover->endpoint_count; mover->free_from++)
        if (!mover->endpoints[mover->free_from]) return mover->free_from++;
    uint32_t count = mover->endpoint_count ? 2 * mover->endpoint_count : 64;
    struct endpoint **more = realloc(mover->endpoints, count * sizeof *more);
    if (!more) return UINT32_MAX;
    memset(more + mover->endpoint_count, 0, (count - mover->endpoint_count) * sizeof *more);
    mover->endpoints = more;
    mover->endpoint_count = count;
    return mover->free_from++;
}

static PyObject *mover_add(PyObject *self, PyObject *arguments) {
    struct mover *mover = (struct mover *)self;
    int fd, is_listener;
    PyObject *owner;
    if (!PyArg_ParseTuple(arguments, "iOp:add", &fd, &owner, &is_listener)) return NULL;
    uint32_t number = free_number(mover);
    struct endpoint *endpoint = number == UINT32_MAX ? NULL : calloc(1, sizeof *endpoint);
    if (!endpoint) return PyErr_NoMemory();
    *endpoint = (struct endpoint){.fd = fd, .is_listener = is_listener, .number = number, .read_at = -INFINITY};
    endpoint->segment_limit = mover->has_segments ? UINT16_MAX : 0;
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = endpoint};
    if (epoll_ctl(mover->poll, EPOLL_CTL_ADD, fd, &event) < 0) {
        free(endpoint);
        mover->free_from = number < mover->free_from ? number : mover->free_from;
        return PyErr_SetFromErrno(PyExc_OSError);
    }
    Py_INCREF(owner);
    endpoint->owner = owner;
    mover->endpoints[number] = endpoint;
    return PyLong_FromUnsignedLong(number);
}

static void drop_flow(struct mover *mover, struct flow *flow) {
    take_out(&mover->table, &flow->from_client);
    take_out(&mover->table, &flow->from_peer);
    *flow->link = flow->next;
    if (flow->next) flow->next->link = flow->link;
    for (int i = 0; i < flow->bucket_count; i++) {
        PyBuffer_Release(flow->leases[i]);
        free(flow->leases[i]);
    }
    free(flow);
}

static void remove_endpoint(struct mover *mover, struct endpoint *endpoint) {
    epoll_ctl(mover->poll, EPOLL_CTL_DEL, endpoint->fd, NULL);
    while (endpoint->flows) drop_flow(mover, endpoint->flows);
    for (uint32_t i = 0; endpoint->is_listener && i < mover->endpoint_count; i++) {
        if (!mover->endpoints[i]) continue;
        for (struct flow *flow = mover->endpoints[i]->flows, *next; flow; flow = next) {
            next = flow->next;
            if (flow->listener == endpoint) drop_flow(mover, flow);
        }
    }
    mover->endpoints[endpoint->number] = NULL;
    if (endpoint->number < mover->free_from) mover->free_from = endpoint->number;
    endpoint->is_removed = 1;
    endpoint->next_removed = mover->removed;
    mover->removed = endpoint;
}

static PyObject *mover_remove(PyObject *self, PyObject *number) {
    struct mover *mover = (struct mover *)self;
    struct endpoint *endpoint = endpoint_at(mover, PyLong_AsUnsignedLong(number));
    if (!endpoint) return NULL;
    remove_endpoint(mover, endpoint);
    if (!mover->is_running) free_removed(mover);
    Py_RETURN_NONE;
}

// The state of each bucket, held where it is.
static int hold_buckets(struct flow *flow, PyObject *buckets) {
    Py_ssize_t count = PyTuple_Size(buckets);
    if (count < 0 || count > MOST_BUCKETS) return -1;
    for (int i = 0; i < count; i++) {
        Py_buffer *lease = calloc(1, sizeof *lease);
        if (!lease || PyObject_GetBuffer(PyTuple_GetItem(buckets, i), lease, PyBUF_WRITABLE) < 0) {
            free(lease);
            return -1;
        }
        flow->leases[flow->bucket_count] = lease;
        flow->buckets[flow->bucket_count++] = lease->buf;
        if (lease->len != sizeof(struct bucket)) return -1;
    }
    return 0;
}

static PyObject *mover_grant(PyObject *self, PyObject *arguments) {
    struct mover *mover = (struct mover *)self;
    unsigned int relay_number, listener_number, channel;
    PyObject *client, *peer, *buckets;
    double expires_at;
    if (!PyArg_ParseTuple(arguments, "IIIO!O!dO!:grant", &relay_number, &listener_number, &channel, &PyTuple_Type,
                          &client, &PyTuple_Type, &peer, &expires_at, &PyTuple_Type, &buckets))
        return NULL;
    struct endpoint *relay = endpoint_at(mover, relay_number);
    struct endpoint *listener = relay ? endpoint_at(mover, listener_number) : NULL;
    if (!listener) return NULL;
    if (relay->is_listener || !listener->is_listener || channel < FIRST_CHANNEL || channel > LAST_CHANNEL)
        return PyErr_Format(PyExc_ValueError, "no channel %u from %u to %u", channel, listener_number, relay_number);
    struct flow *flow = calloc(1, sizeof *flow);
    if (!flow || reserve(&mover->table, 2) < 0) {
        free(flow);
        return PyErr_NoMemory();
    }
    flow->link = &flow->next;  // a list of its own, so that it can be dropped at any time
    flow->relay = relay;
    flow->listener = listener;
    flow->expires_at = expires_at;
    flow->channel = channel;
    if (to_address(client, &flow->client) < 0 || to_address(peer, &flow->peer) < 0 || hold_buckets(flow, buckets) < 0) {
        while (flow->bucket_count) {
            PyBuffer_Release(flow->leases[--flow->bucket_count]);
            free(flow->leases[flow->bucket_count]);
        }
        free(flow);
        if (!PyErr_Occurred()) PyErr_SetString(PyExc_ValueError, "a bucket is four doubles, and there are at most two");
        return NULL;
    }
    flow->from_client = key_of(listener_number, &flow->client, channel);
    flow->from_peer = key_of(relay_number, &flow->peer, 0);
    for (struct flow *old; (old = find_flow(&mover->table, &flow->from_client)) ||
                           (old = find_flow(&mover->table, &flow->from_peer));)
        drop_flow(mover, old);
    put(&mover->table, &flow->from_client, flow);
    put(&mover->table, &flow->from_peer, flow);
    flow->next = relay->flows;
    flow->link = &relay->flows;
    if (flow->next) flow->next->link = &flow->next;
    relay->flows = flow;
    Py_RETURN_NONE;
}

static PyObject *mover_revoke(PyObject *self, PyObject *arguments) {
    struct mover *mover = (struct mover *)self;
    unsigned int relay_number;
    PyObject *tuple;
    union address peer;
    if (!PyArg_ParseTuple(arguments, "IO!:revoke", &relay_number, &PyTuple_Type, &tuple)) return NULL;
    if (!endpoint_at(mover, relay_number) || to_address(tuple, &peer) < 0) return NULL;
    struct key key = key_of(relay_number, &peer, 0);
    struct flow *flow = mover->table.used ? find_flow(&mover->table, &key) : NULL;
    if (flow) drop_flow(mover, flow);
    Py_RETURN_NONE;
}

static PyObject *mover_traffic(PyObject *self, PyObject *number) {
    struct endpoint *relay = endpoint_at((struct mover *)self, PyLong_AsUnsignedLong(number));
    if (!relay) return NULL;
    const struct traffic *traffic = &relay->traffic;
    return Py_BuildValue("(KKKK)", (unsigned long long)traffic->packets_to_peer,
                         (unsigned long long)traffic->bytes_to_peer, (unsigned long long)traffic->packets_from_peer,
                         (unsigned long long)traffic->bytes_from_peer);
}

static PyObject *mover_drops(PyObject *self, PyObject *unused) {
    (void)unused;
    struct mover *mover = (struct mover *)self;
    PyObject *drops = PyDict_New();
    for (int i = 0; drops && i < DROPS; i++) {
        PyObject *count = mover->drops[i] ? PyLong_FromUnsignedLongLong(mover->drops[i]) : NULL;
        if (count) PyDict_SetItemString(drops, DROP_NAMES[i], count);
        Py_XDECREF(count);
    }
    return drops;
}

static PyObject *mover_fileno(PyObject *self, PyObject *unused) {
    (void)unused;
    return PyLong_FromLong(((struct mover *)self)->poll);
}

// -- the type ---------------------------------------------------------------------------------------------------

static PyObject *mover_close(PyObject *self, PyObject *unused) {
    (void)unused;
    struct mover *mover = (struct mover *)self;
    for (uint32_t i = 0; i < mover->endpoint_count; i++)
        if (mover->endpoints[i]) remove_endpoint(mover, mover->endpoints[i]);
    if (mover->poll >= 0) close(mover->poll);
    mover->poll = -1;
    if (!mover->is_running) free_removed(mover);
    Py_RETURN_NONE;
}

// An older kernel would not know what to do with the control message, and send all as one packet.
static int knows_segments(void) {
    int value, probe = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    socklen_t size = sizeof value;
    int known = probe >= 0 && !getsockopt(probe, SOL_UDP, UDP_SEGMENT, &value, &size);
    if (probe >= 0) close(probe);
    return known;
}

static PyObject *mover_new(PyTypeObject *type, PyObject *arguments, PyObject *keywords) {
    (void)keywords;
    PyObject *clock;
    if (!PyArg_ParseTuple(arguments, "O:Mover", &clock)) return NULL;
    allocfunc allocate = (allocfunc)PyType_GetSlot(type, Py_tp_alloc);
    struct mover *mover = (struct mover *)allocate(type, 0);
    if (!mover) return NULL;
    Py_INCREF(clock);
    mover->clock = clock;
    mover->has_segments = knows_segments();
    mover->poll = epoll_create1(EPOLL_CLOEXEC);
    if (mover->poll < 0 || getrandom(mover->table.seed, sizeof mover->table.seed, 0) < 0) {
        PyErr_SetFromErrno(PyExc_OSError);
    } else if (make_buffers(mover) < 0 || reserve(&mover->table, 1) < 0) {
        PyErr_NoMemory();
    } else {
        return (PyObject *)mover;
    }
    Py_DECREF(mover);
    return NULL;
}

static int mover_traverse(PyObject *self, visitproc visit, void *arg) {
    struct mover *mover = (struct mover *)self;
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(mover->clock);
    for (uint32_t i = 0; i < mover->endpoint_count; i++)
        if (mover->endpoints[i]) Py_VISIT(mover->endpoints[i]->owner);
    return 0;
}

static int mover_clear(PyObject *self) {
    Py_XDECREF(mover_close(self, NULL));
    Py_CLEAR(((struct mover *)self)->clock);
    return 0;
}

static void mover_dealloc(PyObject *self) {
    struct mover *mover = (struct mover *)self;
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    mover_clear(self);
    free(mover->endpoints);
    free(mover->table.slots);
    free(mover->buffers);
    ((freefunc)PyType_GetSlot(type, Py_tp_free))(self);
    Py_DECREF(type);
}

static PyMethodDef methods[] = {
    {"add", mover_add, METH_VARARGS, "add(fd, owner, is_listener) -> number: reads this socket from now on."},
    {"remove", mover_remove, METH_O, "remove(number): the socket is no longer read, its flows end."},
    {"grant", mover_grant, METH_VARARGS, "grant(relay, listener, channel, client, peer, expires_at, buckets)"},
    {"revoke", mover_revoke, METH_VARARGS, "revoke(relay, peer)"},
    {"traffic", mover_traffic, METH_O, "traffic(relay) -> packets and bytes to peers, and from them."},
    {"drops", mover_drops, METH_NOARGS, "drops() -> packets not relayed, by reason."},
    {"fileno", mover_fileno, METH_NOARGS, "fileno() -> readable when there is something to do."},
    {"run", mover_run, METH_NOARGS, "run(): moves what has come, a bounded number of packets."},
    {"close", mover_close, METH_NOARGS, "close(): ends everything; the sockets stay open."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot slots[] = {
    {Py_tp_doc, "Moves packets between sockets. Mover(clock)"},
    {Py_tp_new, mover_new},
    {Py_tp_dealloc, mover_dealloc},
    {Py_tp_traverse, mover_traverse},
    {Py_tp_clear, mover_clear},
    {Py_tp_methods, methods},
    {0, NULL},
};

static PyType_Spec specification = {
    .name = "turnrelay.relay._mover.Mover",
    .basicsize = sizeof(struct mover),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
    .slots = slots,
};

static int execute(PyObject *module) {
    PyObject *type = PyType_FromSpec(&specification);
    int done = type ? PyModule_AddType(module, (PyTypeObject *)type) : -1;
    Py_XDECREF(type);
    return done;
}

static PyModuleDef_Slot module_slots[] = {{Py_mod_exec, execute}, {0, NULL}};
static PyModuleDef module = {PyModuleDef_HEAD_INIT, .m_name = "_mover", .m_slots = module_slots};

PyMODINIT_FUNC PyInit__mover(void) { return PyModuleDef_Init(&module); }
