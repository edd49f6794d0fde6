#include "admin_server.h"

#include "admin.h"
#include "libcommon/clock.h"
#include "libcommon/error.h"
#include "libcommon/metad_client.h"
#include "libcommon/mp.h"
#include "session.h"

#include <stdio.h>
#include <unistd.h>

#define AGAIN_MS    200u
#define STARTING_MS 5000u /* a server that has just been started answers within that */

static int ask(struct metad_client *client, const struct admin_server_options *options, char *text,
               size_t text_bytes) {
    struct buffer params;
    buffer_init(&params);
    mp_write_array(&params, 2);
    mp_write_text(&params, options->add ? "add" : "remove");
    mp_write_text(&params, options->name);
    int err = SK_ENOMEM;
    if (!params.failed) {
        err = metad_client_call(client, "server", buffer_slice(&params), options->timeout_ms, NULL, text,
                                text_bytes);
    }
    buffer_deinit(&params);
    return err;
}

/* It may have been done, or be done yet. */
static bool is_doubtful(int err) { return err == SK_TIMEOUT || err == SK_ETIMEDOUT || err == SK_ENET; }

/* The leader may change meanwhile (one that is to be removed hands over first), or not have answered in time. To ask again
 * does no harm: what has been done already counts as done. But for a removal: what is gone is no server of the group. */
static int ask_until_done(struct metad_client *client, const struct admin_server_options *options) {
    uint64_t begin_ms = clock_boottime_ms();
    char text[512] = "";
    bool in_doubt = false; /* whether an earlier try has done it */
    int err;
    for (;;) {
        err = ask(client, options, text, sizeof text);
        bool done = err == SK_OK || (err == SK_NOT_FOUND && in_doubt && !options->add);
        if (done) {
            printf("%s is %s\n", options->name,
                   options->add ? "one of metad's servers" : "no server of metad any more");
            return EXIT_OK;
        }
        bool may_pass = err == SK_RETRY || err == SK_NOT_LEADER || err == SK_BUSY || is_doubtful(err);
        uint64_t patience_ms = may_pass ? ADMIN_SERVER_MS : err == SK_UNAVAILABLE ? STARTING_MS : 0;
        if (clock_boottime_ms() - begin_ms >= patience_ms) return admin_fail(options->metad, err, text);
        in_doubt = in_doubt || is_doubtful(err);
        usleep(AGAIN_MS * 1000);
    }
}

int admin_server(const struct admin_server_options *options) {
    struct metad_client *client;
    int code = admin_connect(options->metad, &client);
    if (code != EXIT_OK) return code;
    code = ask_until_done(client, options);
    metad_client_free(client);
    return code;
}
