// Arrivals: what is read from sockets. Each is a datagram or, with UDP_GRO, a train of them that came coalesced: of one
// source and of one size, but for the last, which may be shorter. They lie end to end.
#pragma once
#include "sockets.h"

enum {
    TRIAL = 64,              // datagrams after which is decided about trains
    WORTHWHILE = TRIAL / 4,  // each that is joined to another saves a multiple of what each that is not costs
};

// One datagram of an arrival.
struct datagram {
    uint8_t *data;
    uint32_t size;
    const union address *source;
    int is_first, is_last;  // else its neighbors lie where headers and padding would be
};

static int make_buffers(struct mover *mover) {
    mover->buffers = malloc((size_t)BUFFERS * ROOM);
    if (!mover->buffers) return -1;
    for (int i = 0; i < BUFFERS; i++) {
        mover->payloads[i] = (struct iovec){mover->buffers + (size_t)i * ROOM + HEADROOM, 65536};
        mover->arrivals[i].msg_hdr = (struct msghdr){
            .msg_name = &mover->sources[i],
            .msg_namelen = sizeof mover->sources[i],
            .msg_iov = &mover->payloads[i],
            .msg_iovlen = 1,
            .msg_control = mover->marks[i],
            .msg_controllen = sizeof mover->marks[i],
        };
    }
    return 0;
}

// What the kernel says of a train.
static uint32_t stride_of(struct msghdr *message, uint32_t size) {
    for (struct cmsghdr *mark = CMSG_FIRSTHDR(message); mark; mark = CMSG_NXTHDR(message, mark)) {
        if (mark->cmsg_level != SOL_UDP || mark->cmsg_type != UDP_GRO) continue;
        int stride;
        memcpy(&stride, CMSG_DATA(mark), sizeof stride);
        if (stride > 0) return stride;
    }
    return size;
}

// Reads at most `most` arrivals into the buffers from `first` on; how many, or -1 with errno.
static int receive(struct mover *mover, struct endpoint *from, int first, int most) {
    if (most == 1 && !from->takes_trains) {
        socklen_t length = sizeof mover->sources[first];
        struct iovec *payload = &mover->payloads[first];
        ssize_t size = recvfrom(
            from->fd, payload->iov_base, payload->iov_len, MSG_DONTWAIT, &mover->sources[first].any, &length);
        if (size < 0) return -1;
        mover->arrivals[first].msg_len = mover->strides[first] = size;
        return 1;
    }
    int count = recvmmsg(from->fd, mover->arrivals + first, most, MSG_DONTWAIT, NULL);
    for (int i = first; i < first + count; i++) {
        struct msghdr *message = &mover->arrivals[i].msg_hdr;
        mover->strides[i] = stride_of(message, mover->arrivals[i].msg_len);
        message->msg_namelen = sizeof mover->sources[i];
        message->msg_controllen = sizeof mover->marks[i];
    }
    return count;
}

// Another process of this relay may have had the socket before.
static int takes_trains(int fd) {
    int is_on = 0;
    socklen_t size = sizeof is_on;
    return !getsockopt(fd, SOL_UDP, UDP_GRO, &is_on, &size) && is_on;
}

// Where there are no trains, looking for them costs the kernel time: they are asked for once enough datagrams came behind
// others of their source and size. For good, since those that wait in the queue would lose their marks.
static void look_for_trains(struct mover *mover, struct endpoint *from, int first, int count) {
    if (from->takes_trains || !mover->may_take_trains || count <= 0) return;
    from->seen += count;
    for (int i = first + 1; i < first + count; i++)
        from->successive += mover->strides[i] && mover->strides[i] <= mover->strides[i - 1] &&
                            mover->sources[i].v4.sin_port == mover->sources[i - 1].v4.sin_port &&
                            is_same(&mover->sources[i], &mover->sources[i - 1]);
    if (from->seen < TRIAL) return;
    int on = 1;
    if (from->successive >= WORTHWHILE && setsockopt(from->fd, SOL_UDP, UDP_GRO, &on, sizeof on) < 0)
        mover->may_take_trains = 0;
    else
        from->takes_trains = from->successive >= WORTHWHILE;
    from->seen = from->successive = 0;
}
