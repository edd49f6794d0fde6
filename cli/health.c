#include "health.h"

#include "libcommon/error.h"
#include "session.h"

#include <nng/nng.h>
#include <nng/supplemental/http/http.h>
#include <stdio.h>
#include <string.h>

struct health {
    nng_url *url;
    nng_http_client *client;
    nng_http_req *request;
    nng_http_res *response;
    nng_aio *aio;
};

static int open_health(struct health *health, const char *url, uint32_t timeout_ms) {
    int rc = nng_url_parse(&health->url, url);
    if (rc == 0 && strcmp(health->url->u_scheme, "http") != 0) rc = NNG_EADDRINVAL;
    if (rc == 0) rc = nng_http_client_alloc(&health->client, health->url);
    if (rc == 0) rc = nng_http_req_alloc(&health->request, health->url);
    if (rc == 0) rc = nng_http_res_alloc(&health->response);
    if (rc == 0) rc = nng_aio_alloc(&health->aio, NULL, NULL);
    if (rc == 0) nng_aio_set_timeout(health->aio, (nng_duration)timeout_ms);
    return rc;
}

static void close_health(struct health *health) {
    if (health->aio != NULL) nng_aio_free(health->aio);
    if (health->response != NULL) nng_http_res_free(health->response);
    if (health->request != NULL) nng_http_req_free(health->request);
    if (health->client != NULL) nng_http_client_free(health->client);
    if (health->url != NULL) nng_url_free(health->url);
}

static int ask(struct health *health) {
    nng_http_client_transact(health->client, health->request, health->response, health->aio);
    nng_aio_wait(health->aio);
    return nng_aio_result(health->aio);
}

static void print_page(const struct health *health) {
    void *page;
    size_t bytes;
    nng_http_res_get_data(health->response, &page, &bytes);
    if (bytes == 0) return;
    (void)fwrite(page, 1, bytes, stdout);
    if (((const char *)page)[bytes - 1] != '\n') (void)putchar('\n');
}

int health_run(const char *url, uint32_t timeout_ms) {
    struct health health = {0};
    int code = EXIT_OK, rc = open_health(&health, url, timeout_ms);
    if (rc != 0) {
        (void)fprintf(stderr, "skerry: health: %s: %s\n", url,
                      rc == NNG_ENOMEM ? error_text(SK_ENOMEM) : "not an address http://host:port/path");
        code = EXIT_USAGE;
    } else if ((rc = ask(&health)) != 0) {
        (void)fprintf(stderr, "skerry: health: %s: %s\n", url, nng_strerror(rc));
        code = EXIT_UNREACHABLE;
    } else {
        print_page(&health);
        if (nng_http_res_get_status(health.response) != NNG_HTTP_STATUS_OK) code = EXIT_ERROR_ANSWER;
    }
    close_health(&health);
    return code;
}
