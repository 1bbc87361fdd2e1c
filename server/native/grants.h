// What Python calls to have sockets read and flows moved, and to end both.
#pragma once
#include "packets.h"

// -- sockets ----------------------------------------------------------------------------------------------------

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

static struct endpoint *new_endpoint(struct mover *mover, PyObject *owner) {
    uint32_t number = free_number(mover);
    struct endpoint *endpoint = number == UINT32_MAX ? NULL : calloc(1, sizeof *endpoint);
    if (!endpoint) {
        PyErr_NoMemory();
        return NULL;
    }
    *endpoint = (struct endpoint){.fd = -1, .number = number, .read_at = -INFINITY, .completed_at = -INFINITY};
    Py_INCREF(owner);
    endpoint->owner = owner;
    mover->endpoints[number] = endpoint;
    return endpoint;
}

static void remove_endpoint(struct mover *mover, struct endpoint *endpoint);
static void free_removed(struct mover *mover);

static PyObject *mover_add(PyObject *self, PyObject *arguments) {
    struct mover *mover = (struct mover *)self;
    int fd, is_listener;
    PyObject *owner;
    if (!PyArg_ParseTuple(arguments, "iOp:add", &fd, &owner, &is_listener)) return NULL;
    struct endpoint *endpoint = new_endpoint(mover, owner);
    if (!endpoint) return NULL;
    endpoint->fd = fd;
    endpoint->is_listener = is_listener;
    endpoint->takes_trains = takes_trains(fd);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = endpoint};
    if (epoll_ctl(mover->poll, EPOLL_CTL_ADD, fd, &event) < 0) {
        PyErr_SetFromErrno(PyExc_OSError);
        remove_endpoint(mover, endpoint);
        if (!mover->is_running) free_removed(mover);
        return NULL;
    }
    return PyLong_FromUnsignedLong(endpoint->number);
}

static PyObject *mover_add_stream(PyObject *self, PyObject *arguments) {
    struct mover *mover = (struct mover *)self;
    PyObject *tuple, *owner;
    union address client;
    if (!PyArg_ParseTuple(arguments, "O!O:add_stream", &PyTuple_Type, &tuple, &owner)) return NULL;
    if (to_address(tuple, &client) < 0) return NULL;
    struct endpoint *endpoint = new_endpoint(mover, owner);
    if (!endpoint) return NULL;
    endpoint->is_listener = endpoint->is_stream = 1;
    endpoint->client = client;
    return PyLong_FromUnsignedLong(endpoint->number);
}

static void drop_flow(struct mover *mover, struct flow *flow) {
    while (flow->admitted) drop_flow(mover, flow->admitted);
    for (int i = 0; i < flow->key_count; i++) take_out(&mover->table, &flow->keys[i]);
    *flow->link = flow->next;
    if (flow->next) flow->next->link = flow->link;
    for (int i = 0; i < flow->bucket_count; i++) {
        if (!flow->leases[i]) continue;
        PyBuffer_Release(flow->leases[i]);
        free(flow->leases[i]);
    }
    free(flow);
}

static void remove_endpoint(struct mover *mover, struct endpoint *endpoint) {
    if (endpoint->fd >= 0) epoll_ctl(mover->poll, EPOLL_CTL_DEL, endpoint->fd, NULL);
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

static void free_records(struct endpoint *stream) {
    struct records *records = stream->records;
    stream->records = NULL;
    if (!records) return;
    PyObject **held = (PyObject **)records;
    for (size_t i = 0; i < sizeof *records / sizeof *held; i++) Py_XDECREF(held[i]);
    free(records);
}

static void free_removed(struct mover *mover) {
    for (struct endpoint *endpoint; (endpoint = mover->removed);) {
        mover->removed = endpoint->next_removed;
        Py_CLEAR(endpoint->owner);
        free_records(endpoint);
        free(endpoint->tail);
        free(endpoint);
    }
}

static PyObject *mover_remove(PyObject *self, PyObject *number) {
    struct mover *mover = (struct mover *)self;
    struct endpoint *endpoint = endpoint_at(mover, PyLong_AsUnsignedLong(number));
    if (!endpoint) return NULL;
    remove_endpoint(mover, endpoint);
    if (!mover->is_running) free_removed(mover);
    Py_RETURN_NONE;
}

// -- flows ------------------------------------------------------------------------------------------------------

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

// NULL without memory; `buckets` may be NULL.
static struct flow *new_flow(struct mover *mover, struct endpoint *relay, struct endpoint *listener,
                             PyObject *buckets) {
    struct flow *flow = calloc(1, sizeof *flow);
    if (!flow || reserve(&mover->table, 2) < 0) {
        free(flow);
        PyErr_NoMemory();
        return NULL;
    }
    flow->segment_limits[0] = flow->segment_limits[1] = mover->has_segments ? UINT16_MAX : 0;
    flow->link = &flow->next;  // a list of its own, so that it can be dropped at any time
    flow->relay = relay;
    flow->listener = listener;
    if (!buckets || hold_buckets(flow, buckets) == 0) return flow;
    drop_flow(mover, flow);
    if (!PyErr_Occurred()) PyErr_SetString(PyExc_ValueError, "a bucket is four doubles, and there are at most two");
    return NULL;
}

// From now on it is found by its keys, and what was found by them is gone.
static void install(struct mover *mover, struct flow *flow, struct flow **list) {
    for (int i = 0; i < flow->key_count; i++) {
        for (struct flow *old; (old = find_flow(&mover->table, &flow->keys[i])) && old != flow;) drop_flow(mover, old);
        put(&mover->table, &flow->keys[i], flow);
    }
    flow->next = *list;
    flow->link = list;
    if (flow->next) flow->next->link = &flow->next;
    *list = flow;
}

static struct flow *permission_of(struct mover *mover, uint32_t relay, const union address *peer) {
    struct key key = key_of(relay, peer, PERMISSION);
    key.port = 0;
    return find_flow(&mover->table, &key);
}

static PyObject *mover_grant(PyObject *self, PyObject *arguments) {
    struct mover *mover = (struct mover *)self;
    unsigned int relay_number, listener_number, channel;
    PyObject *client_tuple, *peer_tuple, *buckets;
    union address client, peer;
    double expires_at;
    if (!PyArg_ParseTuple(arguments, "IIIO!O!dO!:grant", &relay_number, &listener_number, &channel, &PyTuple_Type,
                          &client_tuple, &PyTuple_Type, &peer_tuple, &expires_at, &PyTuple_Type, &buckets))
        return NULL;
    struct endpoint *relay = endpoint_at(mover, relay_number);
    struct endpoint *listener = relay ? endpoint_at(mover, listener_number) : NULL;
    if (!listener) return NULL;
    if (relay->is_listener || !listener->is_listener || channel < FIRST_CHANNEL || channel > LAST_CHANNEL)
        return PyErr_Format(PyExc_ValueError, "no channel %u from %u to %u", channel, listener_number, relay_number);
    if (to_address(client_tuple, &client) < 0 || to_address(peer_tuple, &peer) < 0) return NULL;
    struct flow *flow = new_flow(mover, relay, listener, buckets);
    if (!flow) return NULL;
    flow->client = client;
    flow->peer = peer;
    flow->expires_at = expires_at;
    flow->channel = channel;
    flow->keys[flow->key_count++] = key_of(listener_number, &client, channel);
    flow->keys[flow->key_count++] = key_of(relay_number, &peer, FROM_PEER);
    install(mover, flow, &relay->flows);
    Py_RETURN_NONE;
}

static PyObject *mover_revoke(PyObject *self, PyObject *arguments) {
    struct mover *mover = (struct mover *)self;
    unsigned int relay_number;
    PyObject *tuple;
    union address peer;
    if (!PyArg_ParseTuple(arguments, "IO!:revoke", &relay_number, &PyTuple_Type, &tuple)) return NULL;
    if (!endpoint_at(mover, relay_number) || to_address(tuple, &peer) < 0) return NULL;
    struct key key = key_of(relay_number, &peer, FROM_PEER);
    struct flow *flow = find_flow(&mover->table, &key);
    if (flow) drop_flow(mover, flow);
    Py_RETURN_NONE;
}

static PyObject *mover_permit(PyObject *self, PyObject *arguments) {
    struct mover *mover = (struct mover *)self;
    unsigned int relay_number, listener_number;
    PyObject *client_tuple, *host_tuple, *buckets;
    union address client, host;
    double expires_at;
    if (!PyArg_ParseTuple(arguments, "IIO!O!dO!:permit", &relay_number, &listener_number, &PyTuple_Type, &client_tuple,
                          &PyTuple_Type, &host_tuple, &expires_at, &PyTuple_Type, &buckets))
        return NULL;
    struct endpoint *relay = endpoint_at(mover, relay_number);
    struct endpoint *listener = relay ? endpoint_at(mover, listener_number) : NULL;
    if (!listener || to_address(client_tuple, &client) < 0 || to_address(host_tuple, &host) < 0) return NULL;
    if (relay->is_listener || !listener->is_listener)
        return PyErr_Format(PyExc_ValueError, "no permission from %u to %u", listener_number, relay_number);
    struct flow *known = permission_of(mover, relay_number, &host);
    if (known && known->listener == listener && is_same(&known->client, &client)) {
        known->expires_at = expires_at;
        for (struct flow *admitted = known->admitted; admitted; admitted = admitted->next)
            admitted->expires_at = expires_at;
        Py_RETURN_NONE;
    }
    struct flow *flow = new_flow(mover, relay, listener, buckets);
    if (!flow) return NULL;
    flow->client = client;
    flow->peer = host;
    flow->expires_at = expires_at;
    flow->keys[0] = key_of(relay_number, &host, PERMISSION);
    flow->keys[0].port = 0;
    flow->key_count = 1;
    install(mover, flow, &relay->flows);
    Py_RETURN_NONE;
}

static PyObject *mover_admit(PyObject *self, PyObject *arguments) {
    struct mover *mover = (struct mover *)self;
    unsigned int relay_number;
    PyObject *tuple;
    union address peer;
    if (!PyArg_ParseTuple(arguments, "IO!:admit", &relay_number, &PyTuple_Type, &tuple)) return NULL;
    struct endpoint *relay = endpoint_at(mover, relay_number);
    if (!relay || to_address(tuple, &peer) < 0) return NULL;
    struct flow *permission = permission_of(mover, relay_number, &peer);
    if (!permission) Py_RETURN_NONE;  // its packets are not for here
    struct flow *flow = new_flow(mover, relay, permission->listener, NULL);
    if (!flow) return NULL;
    flow->client = permission->client;
    flow->peer = peer;
    flow->expires_at = permission->expires_at;
    flow->bucket_count = permission->bucket_count;
    memcpy(flow->buckets, permission->buckets, sizeof flow->buckets);
    flow->keys[0] = admitted_key(&mover->table, flow->listener->number, &flow->client, &peer);
    flow->key_count = 1;
    install(mover, flow, &permission->admitted);
    Py_RETURN_NONE;
}

static PyObject *mover_forbid(PyObject *self, PyObject *arguments) {
    struct mover *mover = (struct mover *)self;
    unsigned int relay_number;
    PyObject *tuple;
    union address host;
    if (!PyArg_ParseTuple(arguments, "IO!:forbid", &relay_number, &PyTuple_Type, &tuple)) return NULL;
    if (!endpoint_at(mover, relay_number) || to_address(tuple, &host) < 0) return NULL;
    struct flow *flow = permission_of(mover, relay_number, &host);
    if (flow) drop_flow(mover, flow);
    Py_RETURN_NONE;
}

static PyObject *mover_forget_admitted(PyObject *self, PyObject *unused) {
    (void)unused;
    struct mover *mover = (struct mover *)self;
    for (uint32_t i = 0; i < mover->endpoint_count; i++)
        for (struct flow *flow = mover->endpoints[i] ? mover->endpoints[i]->flows : NULL; flow; flow = flow->next)
            while (flow->admitted) drop_flow(mover, flow->admitted);
    Py_RETURN_NONE;
}
