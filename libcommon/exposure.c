#include "exposure.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>

/* What a host name takes: 253 characters. */
#define HOST_BYTES 256u

/* "127.0.0.1" of "127.0.0.1:7400", "::1" of "[::1]:7400". */
static bool read_host(const char *rest, char host[HOST_BYTES]) {
    bool bracketed = rest[0] == '[';
    if (bracketed) rest++;
    size_t size = strcspn(rest, bracketed ? "]" : ":/");
    if (size >= HOST_BYTES || (bracketed && rest[size] != ']')) return false;
    memcpy(host, rest, size);
    host[size] = '\0';
    return true;
}

static bool is_local_host(const char *host) {
    struct in_addr four;
    struct in6_addr six;
    if (inet_pton(AF_INET, host, &four) == 1) return ntohl(four.s_addr) >> 24 == 127;
    if (inet_pton(AF_INET6, host, &six) == 1) return IN6_IS_ADDR_LOOPBACK(&six);
    return strcmp(host, "localhost") == 0;
}

bool exposure_is_local(const char *url) {
    static const char *const transports[] = {"ipc://", "inproc://", "abstract://"};
    for (size_t i = 0; i < sizeof transports / sizeof transports[0]; i++) {
        if (strncmp(url, transports[i], strlen(transports[i])) == 0) return true;
    }
    const char *host_at = strstr(url, "://");
    char host[HOST_BYTES];
    return host_at != NULL && read_host(host_at + 3, host) && is_local_host(host);
}
