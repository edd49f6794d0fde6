/* For tests: certificates (tests/certificates), and an nng pair of a server and a client. */
#pragma once

#include "testing.h"

#include "tls.h"

#include <stdbool.h>

/* In a directory of this run; the program's group setup makes them. */
static char certificates[] = "/tmp/certificates-XXXXXX";

static inline int make_certificates(void **state) {
    char command[512];
    (void)state;
    if (mkdtemp(certificates) == NULL) return -1;
    snprintf(command, sizeof command, "%s %s", CERTIFICATES_SCRIPT, certificates);
    return system(command);
}

static inline int remove_certificates(void **state) {
    char command[512];
    (void)state;
    snprintf(command, sizeof command, "rm -r %s", certificates);
    return system(command);
}

struct paths {
    char ca[128], cert[128], key[128];
};

/* NULL: none. */
static inline struct tls_files files_of(struct paths *paths, const char *ca, const char *name) {
    snprintf(paths->ca, sizeof paths->ca, "%s/%s.pem", certificates, ca == NULL ? "" : ca);
    snprintf(paths->cert, sizeof paths->cert, "%s/%s.pem", certificates, name == NULL ? "" : name);
    snprintf(paths->key, sizeof paths->key, "%s/%s.key", certificates, name == NULL ? "" : name);
    return (struct tls_files){.ca = ca == NULL ? NULL : paths->ca,
                              .cert = name == NULL ? NULL : paths->cert,
                              .key = name == NULL ? NULL : paths->key};
}

static inline struct tls *read_tls(const char *ca, const char *name) {
    struct paths paths;
    struct tls_files files = files_of(&paths, ca, name);
    struct tls *tls;
    char text[512] = "";
    int err = tls_read(&tls, &files, "--tls", text, sizeof text);
    if (err != 0) fail_msg("%s", text);
    return tls;
}
