#include "libcommon/peer_name.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

_Static_assert(PEER_NAME_BYTES >= INET6_ADDRSTRLEN + sizeof "[]:65535" - 1, "every name fits");

const char *peer_name(const nng_sockaddr *address, char name[PEER_NAME_BYTES]) {
    char host[INET6_ADDRSTRLEN] = "?";
    if (address->s_family == NNG_AF_INET) {
        (void)inet_ntop(AF_INET, &address->s_in.sa_addr, host, sizeof host);
        (void)snprintf(name, PEER_NAME_BYTES, "%s:%u", host, ntohs(address->s_in.sa_port));
    } else if (address->s_family == NNG_AF_INET6) {
        (void)inet_ntop(AF_INET6, address->s_in6.sa_addr, host, sizeof host);
        (void)snprintf(name, PEER_NAME_BYTES, "[%s]:%u", host, ntohs(address->s_in6.sa_port));
    } else {
        (void)snprintf(name, PEER_NAME_BYTES, "local");
    }
    return name;
}

const char *peer_name_of_pipe(nng_pipe pipe, char name[PEER_NAME_BYTES]) {
    nng_sockaddr address;
    memset(&address, 0, sizeof address);
    if (nng_pipe_get_addr(pipe, NNG_OPT_REMADDR, &address) != 0) {
        (void)snprintf(name, PEER_NAME_BYTES, "gone");
        return name;
    }
    return peer_name(&address, name);
}

const char *peer_name_of_socket(int fd, char name[PEER_NAME_BYTES]) {
    struct sockaddr_storage from;
    socklen_t bytes = sizeof from;
    nng_sockaddr address;
    memset(&address, 0, sizeof address);
    if (getpeername(fd, (struct sockaddr *)&from, &bytes) != 0) {
        (void)snprintf(name, PEER_NAME_BYTES, "gone");
        return name;
    }
    if (from.ss_family == AF_INET) {
        const struct sockaddr_in *four = (const struct sockaddr_in *)&from;
        address.s_in = (nng_sockaddr_in){NNG_AF_INET, four->sin_port, four->sin_addr.s_addr};
    } else if (from.ss_family == AF_INET6) {
        const struct sockaddr_in6 *six = (const struct sockaddr_in6 *)&from;
        address.s_in6 = (nng_sockaddr_in6){.sa_family = NNG_AF_INET6, .sa_port = six->sin6_port};
        memcpy(address.s_in6.sa_addr, &six->sin6_addr, sizeof six->sin6_addr);
    }
    return peer_name(&address, name);
}
