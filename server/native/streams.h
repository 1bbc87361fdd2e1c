// Streams (RFC 8656 section 12.5): frames out of what Python read, each to its flow or up to Python.
#pragma once
#include "packets.h"

enum { FIRST_AFTER_STUN = 0x40, FIRST_AFTER_CHANNELS = (LAST_CHANNEL >> 8) + 1, BROKEN = -1 };

// What one frame takes with its padding, 0 if that cannot be told yet or not all of it is there, BROKEN if it is none.
// What StreamFramer of stunwire takes for a frame.
static int64_t frame_size(const uint8_t *data, uint32_t size, uint32_t *unpadded) {
    if (size && data[0] >= FIRST_AFTER_CHANNELS) return BROKEN;
    if (size < CHANNEL_HEADER) return 0;
    uint32_t length = get16(data + 2);
    if (data[0] < FIRST_AFTER_STUN) {
        uint32_t cookie = size < CHANNEL_HEADER + sizeof MAGIC_COOKIE ? size - CHANNEL_HEADER : sizeof MAGIC_COOKIE;
        if (length & 3 || memcmp(data + CHANNEL_HEADER, MAGIC_COOKIE, cookie)) return BROKEN;
        *unpadded = STUN_HEADER + length;
    } else {
        *unpadded = CHANNEL_HEADER + length;
    }
    return padded(*unpadded) <= size ? padded(*unpadded) : 0;
}

// Moves or hands up the frames in `data`. How many bytes these take, or BROKEN.
static int64_t take_frames(struct mover *mover, struct endpoint *stream, const uint8_t *data, uint32_t size, double now) {
    uint32_t at = 0, unpadded = 0;
    while (at < size) {
        int64_t taken = frame_size(data + at, size - at, &unpadded);
        if (taken == BROKEN) return BROKEN;
        if (!taken) break;
        const uint8_t *frame = data + at;
        at += taken;
        make_room(mover);
        if (move_to_peer(mover, stream, (uint8_t *)frame, unpadded, &stream->client, now)) continue;
        flush_and_report(mover);
        call(stream->owner, "receive",
             Py_BuildValue("(y#O)", frame, (Py_ssize_t)unpadded, at == size ? Py_True : Py_False));
        if (stream->is_removed) return size;
    }
    return at;
}

// Keeps what is left for the next time.
static int keep_tail(struct endpoint *stream, const uint8_t *data, uint32_t size) {
    uint8_t *tail = size ? malloc(size) : NULL;
    if (size && !tail) return -1;
    if (size) memcpy(tail, data, size);
    free(stream->tail);
    stream->tail = tail;
    stream->tail_size = size;
    return 0;
}

// Puts new data behind what was kept. NULL without memory.
static const uint8_t *behind_tail(struct endpoint *stream, const uint8_t *data, uint32_t size) {
    uint8_t *longer = realloc(stream->tail, stream->tail_size + size);
    if (!longer) return NULL;
    memcpy(longer + stream->tail_size, data, size);
    stream->tail = longer;
    stream->tail_size += size;
    return longer;
}

// Takes what has come. 0, or BROKEN after the owner has been told that it is.
static int take_in(struct mover *mover, struct endpoint *stream, const uint8_t *data, uint32_t size, double now) {
    if (stream->tail_size) {
        data = behind_tail(stream, data, size);
        size = stream->tail_size;
    }
    int64_t taken = data ? take_frames(mover, stream, data, size, now) : BROKEN;
    flush_and_report(mover);
    // Where nothing was completed, what is kept lies there already.
    int is_kept = !taken && data == stream->tail;
    if (!stream->is_removed && !is_kept && (taken == BROKEN || keep_tail(stream, data + taken, size - taken) < 0)) {
        call(stream->owner, "break_off", PyTuple_New(0));
        return BROKEN;
    }
    if (taken > 0) stream->completed_at = now;
    return 0;
}

// A stream that can be fed now, and what the clock says. NULL with an exception.
static struct endpoint *feedable(struct mover *mover, unsigned int number, double *now) {
    struct endpoint *stream = endpoint_at(mover, number);
    if (!stream) return NULL;
    if (!stream->is_stream || mover->is_running) {
        PyErr_Format(PyExc_ValueError, "%u cannot be fed", number);
        return NULL;
    }
    PyObject *moment = PyObject_CallNoArgs(mover->clock);
    *now = moment ? PyFloat_AsDouble(moment) : 0;
    Py_XDECREF(moment);
    return PyErr_Occurred() ? NULL : stream;
}

// What Python calls with the bytes of a stream: a function of C's, so that event loops call it without a frame of Python.
static PyObject *method_of(PyMethodDef *method, PyObject *mover, unsigned int number) {
    PyObject *bound = Py_BuildValue("(OI)", mover, number);
    PyObject *function = bound ? PyCFunction_New(method, bound) : NULL;
    Py_XDECREF(bound);
    return function;
}

// To whom such a call goes. NULL with an exception.
static struct endpoint *stream_of(PyObject *bound, struct mover **mover, double *now) {
    *mover = (struct mover *)PyTuple_GetItem(bound, 0);
    return feedable(*mover, PyLong_AsUnsignedLong(PyTuple_GetItem(bound, 1)), now);
}

static PyObject *stream_feed(PyObject *bound, PyObject *bytes) {
    struct mover *mover;
    char *data;
    Py_ssize_t size;
    double now;
    struct endpoint *stream = stream_of(bound, &mover, &now);
    if (!stream || PyBytes_AsStringAndSize(bytes, &data, &size) < 0) return NULL;
    if (size > INT32_MAX) return PyErr_Format(PyExc_ValueError, "%zd bytes are too many", size);
    mover->is_running = 1;
    take_in(mover, stream, (const uint8_t *)data, size, now);
    mover->is_running = 0;
    free_removed(mover);
    Py_RETURN_NONE;
}

static PyMethodDef FEED = {"feed", stream_feed, METH_O, "feed(data): takes bytes that have come."};

static PyObject *mover_feeder(PyObject *self, PyObject *number) {
    struct endpoint *stream = endpoint_at((struct mover *)self, PyLong_AsUnsignedLong(number));
    return stream ? method_of(&FEED, self, stream->number) : NULL;
}

static PyObject *mover_completed_at(PyObject *self, PyObject *number) {
    struct endpoint *stream = endpoint_at((struct mover *)self, PyLong_AsUnsignedLong(number));
    return stream ? PyFloat_FromDouble(stream->completed_at) : NULL;
}

static PyObject *mover_unread(PyObject *self, PyObject *number) {
    struct endpoint *stream = endpoint_at((struct mover *)self, PyLong_AsUnsignedLong(number));
    return stream ? PyBytes_FromStringAndSize((const char *)stream->tail, stream->tail_size) : NULL;
}
