// Send and Data indications (RFC 8656 sections 11.2 and 11.4): the plain ones, which say a peer, data and little else.
// What is unusual in any way is nothing for here: stunwire decodes it, in Python.
#pragma once
#include "flows.h"

#include <arpa/inet.h>

enum {
    STUN_HEADER = 20,
    ATTRIBUTE_HEADER = 4,
    SEND_INDICATION = 0x0016,
    DATA_INDICATION = 0x0017,
    XOR_PEER_ADDRESS = 0x0012,
    DATA = 0x0013,
    SOFTWARE = 0x8022,
    FINGERPRINT = 0x8028,
    TRANSACTION_ID = 12,
    MOST_TEXT = 763,    // bytes of SOFTWARE
    MOST_DATA = 65000,  // bytes that fit a Data indication with all its headers
    MOST_HEADERS = 48,  // bytes in front of them
};
static const uint8_t MAGIC_COOKIE[] = {0x21, 0x12, 0xA4, 0x42};
static const uint32_t FINGERPRINT_MASK = 0x5354554E;

// What a Send indication says.
struct sending {
    union address peer;
    const uint8_t *data;
    uint32_t size;
};

static inline uint32_t get16(const uint8_t *at) { return at[0] << 8 | at[1]; }

static inline uint8_t *put16(uint8_t *at, uint32_t value) {
    at[0] = value >> 8;
    at[1] = value;
    return at + 2;
}

static inline uint32_t padded(uint32_t size) { return (size + 3) & ~3u; }

// -- FINGERPRINT ------------------------------------------------------------------------------------------------

static uint32_t crc_tables[4][256];  // of a byte that is followed by that many others

static void make_crc_tables(void) {
    for (uint32_t byte = 0; byte < 256; byte++) {
        uint32_t crc = byte;
        for (int bit = 0; bit < 8; bit++) crc = crc & 1 ? crc >> 1 ^ 0xEDB88320 : crc >> 1;
        crc_tables[0][byte] = crc;
    }
    for (int behind = 1; behind < 4; behind++)
        for (int byte = 0; byte < 256; byte++) {
            uint32_t crc = crc_tables[behind - 1][byte];
            crc_tables[behind][byte] = crc >> 8 ^ crc_tables[0][crc & 0xFF];
        }
}

// CRC-32 of a multiple of four bytes.
static uint32_t crc32_of(const uint8_t *data, uint32_t size) {
    uint32_t crc = 0xFFFFFFFF;
    for (const uint8_t *end = data + size; data < end; data += 4) {
        crc ^= data[0] | data[1] << 8 | data[2] << 16 | (uint32_t)data[3] << 24;
        crc = crc_tables[3][crc & 0xFF] ^ crc_tables[2][crc >> 8 & 0xFF] ^ crc_tables[1][crc >> 16 & 0xFF] ^
              crc_tables[0][crc >> 24];
    }
    return ~crc;
}

// -- reading ----------------------------------------------------------------------------------------------------

// The mask of addresses is the cookie and the transaction ID, which lie behind each other in the header.
static int read_peer(const uint8_t *message, const uint8_t *value, uint32_t length, union address *peer) {
    const uint8_t *mask = message + 4;
    uint16_t port = htons(get16(value + 2) ^ get16(mask));
    uint8_t *host;
    uint32_t size;
    if (length == 8 && value[1] == 1) {
        peer->v4 = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = port};
        host = (uint8_t *)&peer->v4.sin_addr;
        size = 4;
    } else if (length == 20 && value[1] == 2) {
        peer->v6 = (struct sockaddr_in6){.sin6_family = AF_INET6, .sin6_port = port};
        host = (uint8_t *)&peer->v6.sin6_addr;
        size = 16;
    } else {
        return 0;
    }
    for (uint32_t i = 0; i < size; i++) host[i] = value[4 + i] ^ mask[i];
    return 1;
}

static int is_ascii(const uint8_t *text, uint32_t length) {
    for (uint32_t i = 0; i < length; i++)
        if (text[i] & 0x80) return 0;
    return 1;
}

// Whether a datagram is a Send indication of one peer and data, with at most SOFTWARE and FINGERPRINT beside them.
static int read_send(const uint8_t *message, uint32_t size, struct sending *sending) {
    if (size < STUN_HEADER || size & 3 || get16(message) != SEND_INDICATION ||
        get16(message + 2) != size - STUN_HEADER || memcmp(message + 4, MAGIC_COOKIE, sizeof MAGIC_COOKIE))
        return 0;
    int has_peer = 0, has_software = 0;
    sending->data = NULL;
    // Sizes and steps are multiples of four, so a header is always whole, and so is the padding of what fits.
    for (uint32_t at = STUN_HEADER; at < size;) {
        uint32_t length = get16(message + at + 2), left = size - at - ATTRIBUTE_HEADER;
        const uint8_t *value = message + at + ATTRIBUTE_HEADER;
        if (length > left) return 0;
        switch (get16(message + at)) {
        case XOR_PEER_ADDRESS:
            if (has_peer++ || length < 8 || !read_peer(message, value, length, &sending->peer)) return 0;
            break;
        case DATA:
            if (sending->data) return 0;
            sending->data = value;
            sending->size = length;
            break;
        case SOFTWARE:
            if (has_software++ || length > MOST_TEXT || !is_ascii(value, length)) return 0;
            break;
        case FINGERPRINT: {
            if (length != 4 || left != 4) return 0;
            uint32_t expected = crc32_of(message, at) ^ FINGERPRINT_MASK;
            if (expected != (get16(value) << 16 | get16(value + 2))) return 0;
            break;
        }
        default:
            return 0;
        }
        at += ATTRIBUTE_HEADER + padded(length);
    }
    return has_peer && sending->data;
}

// -- writing ----------------------------------------------------------------------------------------------------

// Puts the headers of a Data indication of what a peer has sent in front of `end`, MOST_HEADERS bytes at most. Where they
// begin. Data and zeros up to a multiple of four are to follow.
static uint8_t *write_data_headers(uint8_t *end, uint32_t size, const union address *source,
                                   const uint8_t transaction_id[TRANSACTION_ID]) {
    int is_v6 = source->any.sa_family == AF_INET6;
    uint32_t host_size = is_v6 ? 16 : 4, value_size = 4 + host_size;
    const uint8_t *host = is_v6 ? (const uint8_t *)&source->v6.sin6_addr : (const uint8_t *)&source->v4.sin_addr;
    uint32_t port = ntohs(is_v6 ? source->v6.sin6_port : source->v4.sin_port);
    uint8_t *message = end - ATTRIBUTE_HEADER - value_size - ATTRIBUTE_HEADER - STUN_HEADER;
    uint8_t *mask = put16(put16(message, DATA_INDICATION), 2 * ATTRIBUTE_HEADER + value_size + padded(size));
    memcpy(mask, MAGIC_COOKIE, sizeof MAGIC_COOKIE);
    memcpy(mask + sizeof MAGIC_COOKIE, transaction_id, TRANSACTION_ID);
    uint8_t *at = put16(put16(message + STUN_HEADER, XOR_PEER_ADDRESS), value_size);
    *at++ = 0;
    *at++ = is_v6 ? 2 : 1;
    at = put16(at, port ^ get16(mask));
    for (uint32_t i = 0; i < host_size; i++) *at++ = host[i] ^ mask[i];
    put16(put16(at, DATA), size);
    return message;
}
