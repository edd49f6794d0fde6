/* What other threads put into the loop's mailbox: a link and the function that handles it there. Whoever embeds
 * one owns it and says how long it lives. */
#pragma once

#include "gateway/list.h"
#include "libcommon/mailbox.h"

struct post {
    struct mail mail;
    void (*handle)(struct post *post); /* on the loop thread */
};

static inline void post_to(struct mailbox *mailbox, struct post *post) {
    mailbox_post_always(mailbox, &post->mail);
}

static inline void post_handle(struct mail *mail) {
    struct post *post = list_entry(mail, struct post, mail);
    post->handle(post);
}
