// Records of TLS (RFC 8446 section 5), decrypted by Python's ssl module straight into a buffer of the mover's, and the
// frames in them. The handshake, what is written, and every end of a connection are Python's alone.
#pragma once
#include "streams.h"

enum { RECORD = 16384, ENOUGH = 4 * RECORD };  // bytes: the most in one record, and what is taken at once
_Static_assert(ENOUGH + RECORD <= BUFFERS * ROOM, "records lie where packets lie otherwise");

static int make_room_for_records(struct mover *mover) {
    mover->pending = PyUnicode_InternFromString("pending");
    mover->record_size = PyLong_FromLong(RECORD);
    mover->room = PyMemoryView_FromMemory((char *)mover->buffers, RECORD, PyBUF_WRITE);
    return mover->pending && mover->record_size && mover->room ? 0 : -1;
}

// Bytes in a MemoryBIO; -1 with an exception.
static long pending(struct mover *mover, PyObject *bio) {
    PyObject *count = PyObject_GetAttr(bio, mover->pending);
    long size = count ? PyLong_AsLong(count) : -1;
    Py_XDECREF(count);
    return size;
}

// Decrypts one record into the buffer at `at`. How long it is: 0 if its end has not come, or -1 with an exception,
// which is EOFError where the client says that it has ended.
static long decrypt(struct mover *mover, struct records *records, uint32_t at) {
    PyObject *room = mover->room;
    if (at) {
        room = PyMemoryView_FromMemory((char *)mover->buffers + at, RECORD, PyBUF_WRITE);
        if (!room) return -1;
    }
    PyObject *count = PyObject_CallFunctionObjArgs(records->read, mover->record_size, room, NULL);
    if (at) Py_DECREF(room);
    long size = count ? PyLong_AsLong(count) : -1;
    Py_XDECREF(count);
    if (count && !size) PyErr_SetNone(PyExc_EOFError);
    if (size > 0 || !PyErr_ExceptionMatches(records->want_more)) return size > 0 ? size : -1;
    PyErr_Clear();
    return 0;
}

// Decrypts and takes what there is, several records at a time. -1 with an exception, where everything in front of it
// has been taken.
static int take_records(struct mover *mover, struct endpoint *stream, double now) {
    long size = 1;
    while (size > 0 && !stream->is_removed) {
        uint32_t at = 0;
        while (at < ENOUGH && (size = pending(mover, stream->records->incoming)) > 0 &&
               (size = decrypt(mover, stream->records, at)) > 0)
            at += size;
        if (!at) break;
        PyObject *type, *value, *traceback;
        PyErr_Fetch(&type, &value, &traceback);
        int taken = take_in(mover, stream, mover->buffers, at, now);
        PyErr_Restore(type, value, traceback);
        if (taken == BROKEN) break;
    }
    return size < 0 ? -1 : 0;
}

// Tells the owner what is Python's to do: that no more can be decrypted, that TLS has something to answer, or that what
// is not decrypted yet is no frames of this stream's any more.
static void report_records(struct mover *mover, struct endpoint *stream, struct records *records, int failed) {
    if (failed) {
        PyObject *type, *value, *traceback;
        PyErr_Fetch(&type, &value, &traceback);
        PyErr_NormalizeException(&type, &value, &traceback);
        call(records->owner, "records_ended", Py_BuildValue("(O)", value));
        Py_XDECREF(type);
        Py_XDECREF(value);
        Py_XDECREF(traceback);
        return;
    }
    long answer = pending(mover, records->outgoing);
    if (answer < 0) PyErr_WriteUnraisable(records->owner);
    if (answer > 0) call(records->owner, "answer", PyTuple_New(0));
    if (stream->is_removed) call(records->owner, "read_on", PyTuple_New(0));
}

static PyObject *records_feed(PyObject *bound, PyObject *data) {
    struct mover *mover;
    double now;
    struct endpoint *stream = stream_of(bound, &mover, &now);
    if (!stream) return NULL;
    PyObject *written = PyObject_CallFunctionObjArgs(stream->records->write, data, NULL);
    if (!written) return NULL;
    Py_DECREF(written);
    mover->is_running = 1;
    int failed = take_records(mover, stream, now) < 0;
    report_records(mover, stream, stream->records, failed);
    mover->is_running = 0;
    free_removed(mover);
    Py_RETURN_NONE;
}

static PyMethodDef FEED_RECORDS = {"feed", records_feed, METH_O, "feed(data): takes what has come, encrypted."};

static PyObject *mover_records(PyObject *self, PyObject *arguments) {
    struct mover *mover = (struct mover *)self;
    unsigned int number;
    struct records given = {0};
    if (!PyArg_ParseTuple(arguments, "IOOOOO:records", &number, &given.owner, &given.incoming, &given.outgoing,
                          &given.read, &given.want_more))
        return NULL;
    struct endpoint *stream = endpoint_at(mover, number);
    if (!stream) return NULL;
    if (!stream->is_stream || stream->records) return PyErr_Format(PyExc_ValueError, "%u is fed otherwise", number);
    PyObject *write = PyObject_GetAttrString(given.incoming, "write");
    PyObject *feed = write ? method_of(&FEED_RECORDS, self, number) : NULL;
    stream->records = feed ? malloc(sizeof *stream->records) : NULL;
    if (!stream->records) {
        Py_XDECREF(write);
        Py_XDECREF(feed);
        return feed ? PyErr_NoMemory() : NULL;
    }
    Py_INCREF(given.owner);
    Py_INCREF(given.incoming);
    Py_INCREF(given.outgoing);
    Py_INCREF(given.read);
    Py_INCREF(given.want_more);
    given.write = write;
    *stream->records = given;
    return feed;
}
