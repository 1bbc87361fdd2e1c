// What the mover makes of Send indications, and the Data indications that it writes, message by message from stdin.
// Each lies in memory of exactly its size, so that sanitizers see every byte that is read or written beyond.
#include "../../server/native/indications.h"

#include <stdio.h>

static void print_hex(const uint8_t *data, uint32_t size) {
    for (uint32_t i = 0; i < size; i++) printf("%02x", data[i]);
}

static void read_one(const uint8_t *message, uint32_t size) {
    struct sending sending;
    if (!read_send(message, size, &sending)) {
        printf("-");
        return;
    }
    int is_v6 = sending.peer.any.sa_family == AF_INET6;
    char host[INET6_ADDRSTRLEN];
    inet_ntop(sending.peer.any.sa_family, is_v6 ? (void *)&sending.peer.v6.sin6_addr : (void *)&sending.peer.v4.sin_addr,
              host, sizeof host);
    printf("%s %u ", host, ntohs(is_v6 ? sending.peer.v6.sin6_port : sending.peer.v4.sin_port));
    print_hex(sending.data, sending.size);
}

// A transaction ID, a port, a byte that is the size of the host, the host, and the data.
static void write_one(const uint8_t *what, uint32_t size) {
    const uint8_t *port = what + TRANSACTION_ID, *host = port + 3;
    union address source = {0};
    if (port[2] == 16) {
        source.v6.sin6_family = AF_INET6;
        memcpy(&source.v6.sin6_addr, host, 16);
        memcpy(&source.v6.sin6_port, port, 2);
    } else {
        source.v4.sin_family = AF_INET;
        memcpy(&source.v4.sin_addr, host, 4);
        memcpy(&source.v4.sin_port, port, 2);
    }
    uint32_t headers = 28 + 4 + port[2], payload = size - (host + port[2] - what), total = headers + padded(payload);
    uint8_t *room = malloc(total);
    memset(room, 0xAA, total);
    memcpy(room + headers, host + port[2], payload);
    memset(room + headers + payload, 0, padded(payload) - payload);
    uint8_t *message = write_data_headers(room + headers, payload, &source, what);
    print_hex(message, room + total - message);
    free(room);
}

int main(int count, char **arguments) {
    int is_writing = count > 1 && !strcmp(arguments[1], "write");
    make_crc_tables();
    for (uint8_t length[2]; fread(length, 1, 2, stdin) == 2;) {
        uint32_t size = get16(length);
        uint8_t *message = malloc(size);
        if (fread(message, 1, size, stdin) != size) return 1;
        (is_writing ? write_one : read_one)(message, size);
        printf("\n");
        free(message);
    }
    return 0;
}
