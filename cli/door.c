#include "door.h"

#include "libcommon/error.h"
#include "libcommon/secret.h"

static struct tls *tls;       /* owned */
static struct tokens *tokens; /* owned; NULL: none */

int door_use(const struct door_settings *settings, char *text, size_t text_bytes) {
    int err = tls_read(&tls, &settings->files, "--client-tls", text, text_bytes);
    if (err == SK_OK && settings->token_file != NULL && settings->token_file[0] != '\0') {
        err = tokens_read(&tokens, "--token-file", settings->token_file, text, text_bytes);
    }
    return err;
}

void door_end(void) {
    tls_free(tls);
    tokens_free(tokens);
    tls = NULL;
    tokens = NULL;
}

int door_dialer(nng_dialer *dialer, nng_socket socket, const char *url) {
    if (!tls_is_url(url)) return nng_dialer_create(dialer, socket, url);
    return tls == NULL ? NNG_ECRYPTO : tls_dialer(dialer, socket, url, tls);
}

struct slice door_token(void) {
    return tokens == NULL ? slice_of(NULL, 0) : tokens_first(tokens);
}
