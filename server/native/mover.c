// The mover: packets of channels and permissions from socket to socket, for the userspace plane where a C compiler was
// there.
//
// Python decides everything: it grants and revokes flows, and is handed every packet that belongs to none, and every
// error. What is here looks flows up and counts. turnrelay/relay/mover.py is the Python side, UserspacePlane and
// UdpListener do the same without this. All on one thread, the event loop's, which polls `fileno()` and calls `run()`.
#define _GNU_SOURCE
#include "grants.h"
#include "records.h"

enum {
    MOST_AT_ONCE = 512,
    SHORT_TRAIN = 4,  // datagrams; where trains are longer, fewer are a batch
};

// -- sockets ----------------------------------------------------------------------------------------------------

// Moves or hands up what lies in a buffer. How many datagrams that was.
static int take_apart(struct mover *mover, struct endpoint *from, int buffer, double now) {
    uint8_t *data = mover->payloads[buffer].iov_base;
    uint32_t left = mover->arrivals[buffer].msg_len, stride = mover->strides[buffer];
    struct datagram datagram = {.data = data, .source = &mover->sources[buffer], .is_first = 1};
    int count = 0;
    do {
        make_room(mover);
        if (from->is_removed) break;
        datagram.size = left < stride ? left : stride;
        datagram.is_last = datagram.size == left;
        int is_moved = from->is_listener
                           ? move_to_peer(mover, from, datagram.data, datagram.size, datagram.source, now)
                           : move_to_client(mover, from, &datagram, now);
        if (!is_moved) hand_up(mover, from, datagram.data, datagram.size, datagram.source);
        datagram.data += datagram.size;
        left -= datagram.size;
        datagram.is_first = 0;
        count++;
    } while (left);
    return count;
}

// Reads a batch from one socket into the buffers behind those that are in use. How many datagrams that was.
static int drain(struct mover *mover, struct endpoint *from, double now) {
    // To ask an empty socket costs a system call's time: a relayed address that was silent is asked for one.
    int most = from->is_listener ? LISTENER_BATCH : now - from->read_at < BURST_SECONDS ? RELAY_BATCH : 1;
    if (from->train > SHORT_TRAIN) most = most * SHORT_TRAIN / from->train;
    if (!most) most = 1;
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
    look_for_trains(mover, from, first, count);
    int datagrams = 0;
    for (int i = first; i < first + count; i++) datagrams += take_apart(mover, from, i, now);
    if (count > 0) from->train = datagrams / count;
    return datagrams;
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

// -- figures ----------------------------------------------------------------------------------------------------

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
    int may_take_trains;
    if (!PyArg_ParseTuple(arguments, "Op:Mover", &clock, &may_take_trains)) return NULL;
    allocfunc allocate = (allocfunc)PyType_GetSlot(type, Py_tp_alloc);
    struct mover *mover = (struct mover *)allocate(type, 0);
    if (!mover) return NULL;
    Py_INCREF(clock);
    mover->clock = clock;
    make_crc_tables();
    mover->has_segments = knows_segments();
    mover->may_take_trains = may_take_trains;
    mover->poll = epoll_create1(EPOLL_CLOEXEC);
    if (mover->poll < 0 || getrandom(mover->table.seed, sizeof mover->table.seed, 0) < 0) {
        PyErr_SetFromErrno(PyExc_OSError);
    } else if (make_buffers(mover) < 0 || reserve(&mover->table, 1) < 0) {
        PyErr_NoMemory();
    } else if (make_room_for_records(mover) < 0) {
        // has said why
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
        if (mover->endpoints[i]) {
            Py_VISIT(mover->endpoints[i]->owner);
            if (mover->endpoints[i]->records) Py_VISIT(mover->endpoints[i]->records->owner);
        }
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
    Py_XDECREF(mover->pending);
    Py_XDECREF(mover->record_size);
    Py_XDECREF(mover->room);
    free(mover->endpoints);
    free(mover->table.slots);
    free(mover->buffers);
    ((freefunc)PyType_GetSlot(type, Py_tp_free))(self);
    Py_DECREF(type);
}

static PyMethodDef methods[] = {
    {"add", mover_add, METH_VARARGS, "add(fd, owner, is_listener) -> number: reads this socket from now on."},
    {"add_stream", mover_add_stream, METH_VARARGS, "add_stream(client, owner) -> number: for feeder() or records()."},
    {"feeder", mover_feeder, METH_O, "feeder(stream) -> feed(data), which takes bytes that have come."},
    {"records", mover_records, METH_VARARGS,
     "records(stream, owner, incoming, outgoing, read, want_more) -> feed(data), for a stream that is TLS."},
    {"completed_at", mover_completed_at, METH_O, "completed_at(stream) -> when it last completed a frame."},
    {"unread", mover_unread, METH_O, "unread(stream) -> the beginning of a frame that is not complete yet."},
    {"remove", mover_remove, METH_O, "remove(number): the socket is no longer read, its flows end."},
    {"grant", mover_grant, METH_VARARGS, "grant(relay, listener, channel, client, peer, expires_at, buckets)"},
    {"revoke", mover_revoke, METH_VARARGS, "revoke(relay, peer)"},
    {"permit", mover_permit, METH_VARARGS, "permit(relay, listener, client, host, expires_at, buckets)"},
    {"admit", mover_admit, METH_VARARGS, "admit(relay, peer): of a permitted host, for Send indications."},
    {"forbid", mover_forbid, METH_VARARGS, "forbid(relay, host): with the peers that were admitted there."},
    {"forget_admitted", mover_forget_admitted, METH_NOARGS, "forget_admitted(): Python is asked about peers again."},
    {"traffic", mover_traffic, METH_O, "traffic(relay) -> packets and bytes to peers, and from them."},
    {"drops", mover_drops, METH_NOARGS, "drops() -> packets not relayed, by reason."},
    {"fileno", mover_fileno, METH_NOARGS, "fileno() -> readable when there is something to do."},
    {"run", mover_run, METH_NOARGS, "run(): moves what has come, a bounded number of packets."},
    {"close", mover_close, METH_NOARGS, "close(): ends everything; the sockets stay open."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot slots[] = {
    {Py_tp_doc, "Moves packets between sockets. Mover(clock, may_take_trains)"},
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
