#include "libcommon/peer_name.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>

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
