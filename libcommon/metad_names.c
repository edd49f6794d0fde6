#include "metad_names.h"

#include "error.h"

#include <stdio.h>
#include <stdlib.h>

#define SCHEME   "tcp://"
#define PORT_MAX 65535u

/* The port of "host:port", 0 = it is none. */
static uint32_t port_of(const char *name) {
    const char *colon = strrchr(name, ':');
    if (colon == NULL || colon == name || colon[1] < '1' || colon[1] > '9') return 0;
    char *end;
    unsigned long port = strtoul(colon + 1, &end, 10);
    return *end == '\0' && end - colon <= 6 && port <= PORT_MAX ? (uint32_t)port : 0;
}

/* Of an IPv6 host the colons stand in brackets. */
static bool is_host(struct slice host) {
    bool bracketed = host.size > 2 && host.data[0] == '[' && host.data[host.size - 1] == ']';
    for (size_t i = 0; i < host.size; i++) {
        uint8_t c = host.data[i];
        if (c <= ' ' || c > '~' || c == '/' || c == ',' || (c == ':' && !bracketed)) return false;
    }
    return host.size > 0;
}

static bool is_name(const char *name) {
    uint32_t port = port_of(name);
    return port > 0 && port + METAD_RAFT_OFFSET <= PORT_MAX &&
           is_host(slice_of(name, (size_t)(strrchr(name, ':') - name)));
}

static bool read_name(struct slice address, char name[METAD_NAME_BYTES]) {
    const size_t scheme = strlen(SCHEME);
    if (address.size <= scheme || address.size - scheme >= METAD_NAME_BYTES) return false;
    if (memcmp(address.data, SCHEME, scheme) != 0) return false;
    memcpy(name, address.data + scheme, address.size - scheme);
    name[address.size - scheme] = '\0';
    return is_name(name);
}

int metad_names_of(const char *addresses, char names[METAD_SERVERS_MAX][METAD_NAME_BYTES], uint32_t *count) {
    struct slice rest = slice_of_text(addresses), address;
    *count = 0;
    for (bool more = true; more;) {
        more = slice_cut(&rest, ',', &address);
        if (*count == METAD_SERVERS_MAX || !read_name(address, names[*count])) return SK_ECONFIG;
        for (uint32_t i = 0; i < *count; i++) {
            if (strcmp(names[i], names[*count]) == 0) return SK_ECONFIG;
        }
        ++*count;
    }
    return SK_OK;
}

int metad_name_shift(const char *name, uint32_t offset, char *shifted, size_t bytes) {
    if (!is_name(name)) return SK_ECONFIG;
    int host = (int)(strrchr(name, ':') - name);
    int size = snprintf(shifted, bytes, "%.*s:%u", host, name, (unsigned)(port_of(name) + offset));
    return size > 0 && (size_t)size < bytes ? SK_OK : SK_ECONFIG;
}

int metad_names_publish(const char *addresses, struct buffer *publish) {
    char names[METAD_SERVERS_MAX][METAD_NAME_BYTES], shifted[METAD_NAME_BYTES];
    uint32_t count;
    int err = metad_names_of(addresses, names, &count);
    for (uint32_t i = 0; err == SK_OK && i < count; i++) {
        err = metad_name_shift(names[i], METAD_PUBLISH_OFFSET, shifted, sizeof shifted);
        if (i > 0) buffer_append(publish, ",", 1);
        buffer_append(publish, SCHEME, strlen(SCHEME));
        buffer_append(publish, shifted, strlen(shifted));
    }
    buffer_append(publish, "", 1);
    return err == SK_OK && publish->failed ? SK_ENOMEM : err;
}
