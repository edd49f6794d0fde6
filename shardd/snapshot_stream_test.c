/* Stories in virtual time: a sender, a receiver, and a way between them that may lose things. */
#include "shardd/snapshot_stream.h"

#include "libcommon/testing.h"

enum { RETRY_US = 500000, GIVE_UP_US = 5000000, FILE_BYTES = 10 * 1024 * 1024 + 77, ROOM = 1 << 30 };

static const struct snapshot_times times = {.retry_us = RETRY_US, .give_up_us = GIVE_UP_US};

struct story {
    struct snapshot_sender sender;
    struct snapshot_receiver receiver;
    uint64_t now_us;
    uint8_t *written; /* FILE_BYTES: how often each byte was written */
    uint64_t file_bytes;
    unsigned files;  /* begun anew */
    unsigned pieces; /* sent */
};

static struct snapshot_begin begin_of(uint64_t epoch, uint64_t number) {
    return (struct snapshot_begin){
        .transfer = {.shard = 5, .replica_id = 6, .epoch = epoch, .number = number},
        .total_bytes = FILE_BYTES,
        .applied_index = 100,
        .applied_epoch = epoch,
    };
}

static int set_up(void **state) {
    struct story *story = calloc(1, sizeof *story);
    struct snapshot_begin begin = begin_of(3, 1000);
    story->now_us = 1000000;
    story->written = calloc(1, FILE_BYTES);
    snapshot_sender_init(&story->sender, &begin, &times, story->now_us);
    snapshot_receiver_init(&story->receiver, &times);
    *state = story;
    return 0;
}

static int tear_down(void **state) {
    struct story *story = *state;
    free(story->written);
    free(story);
    return 0;
}

/* ---- the way ---- */

static void on_begin(struct story *story, const struct snapshot_begin *begin) {
    if (!snapshot_receiver_on_begin(&story->receiver, begin, story->now_us)) return;
    story->files++;
    story->file_bytes = 0;
    memset(story->written, 0, FILE_BYTES);
}

static struct snapshot_piece piece_of(const struct story *story, struct snapshot_extent extent) {
    static const uint8_t bytes[SNAPSHOT_PIECE_BYTES];
    return (struct snapshot_piece){
        .transfer = story->sender.begin.transfer, .offset = extent.offset, .bytes = slice_of(bytes, extent.bytes)};
}

/* The piece comes and is written. */
static void on_piece(struct story *story, struct snapshot_extent extent) {
    struct snapshot_piece piece = piece_of(story, extent);
    if (!snapshot_receiver_on_piece(&story->receiver, &piece, story->now_us)) return;
    assert_int_equal(piece.offset, story->file_bytes);
    for (size_t i = 0; i < piece.bytes.size; i++) story->written[piece.offset + i]++;
    story->file_bytes += piece.bytes.size;
    snapshot_receiver_written(&story->receiver, piece.bytes.size);
}

/* Everything that the sender wants to send now; the `lost`-th and later are lost. Returns how many things were sent. */
static unsigned send_all(struct story *story, unsigned lost) {
    struct snapshot_extent extent;
    enum snapshot_send what;
    unsigned sent = 0;
    while ((what = snapshot_sender_next(&story->sender, ROOM, story->now_us, &extent)) != SNAPSHOT_SEND_NOTHING) {
        if (what == SNAPSHOT_SEND_PIECE) story->pieces++;
        if (++sent >= lost) continue;
        if (what == SNAPSHOT_SEND_BEGIN) {
            on_begin(story, &story->sender.begin);
        } else {
            on_piece(story, extent);
        }
    }
    return sent;
}

static unsigned answer_all(struct story *story, bool lost) {
    struct snapshot_taken taken;
    unsigned answers = 0;
    while (snapshot_receiver_answer(&story->receiver, story->now_us, &taken)) {
        answers++;
        if (!lost) snapshot_sender_on_taken(&story->sender, &taken, story->now_us);
    }
    return answers;
}

static void run(struct story *story) {
    while (send_all(story, UINT32_MAX) + answer_all(story, false) > 0) continue;
}

static void later(struct story *story, uint64_t us) {
    story->now_us += us;
    snapshot_sender_tick(&story->sender, story->now_us);
    snapshot_receiver_tick(&story->receiver, story->now_us);
}

static void assert_whole(const struct story *story) {
    assert_int_equal(story->sender.state, SNAPSHOT_SENT);
    assert_int_equal(story->receiver.state, SNAPSHOT_COMPLETE);
    for (size_t i = 0; i < FILE_BYTES; i++) assert_int_equal(story->written[i], 1);
}

/* ---- the stories ---- */

static void test_a_file_arrives(void **state) {
    struct story *story = *state;
    run(story);
    assert_whole(story);
    assert_int_equal(story->files, 1);
    assert_int_equal(story->pieces, FILE_BYTES / SNAPSHOT_PIECE_BYTES + 1);
}

/* Nothing is sent before the receiver has said from where, and then no more than the window. */
static void test_the_window(void **state) {
    struct story *story = *state;
    assert_int_equal(send_all(story, UINT32_MAX), 1);
    assert_int_equal(answer_all(story, false), 1);
    assert_int_equal(send_all(story, 1), SNAPSHOT_WINDOW_BYTES / SNAPSHOT_PIECE_BYTES);
    assert_int_equal(story->sender.next, SNAPSHOT_WINDOW_BYTES);
    struct snapshot_taken taken = {.transfer = story->sender.begin.transfer, .written = SNAPSHOT_PIECE_BYTES};
    snapshot_sender_on_taken(&story->sender, &taken, story->now_us);
    assert_int_equal(send_all(story, 1), 1);
}

static void test_no_room_no_sending(void **state) {
    struct story *story = *state;
    struct snapshot_extent extent;
    assert_int_equal(snapshot_sender_next(&story->sender, 0, story->now_us, &extent), SNAPSHOT_SEND_NOTHING);
    assert_int_equal(snapshot_sender_next(&story->sender, 1, story->now_us, &extent), SNAPSHOT_SEND_BEGIN);
}

/* Writing may take its time: what is told is what is written. */
static void test_written_later(void **state) {
    struct story *story = *state;
    struct snapshot_extent extent;
    struct snapshot_taken taken;
    send_all(story, UINT32_MAX);
    answer_all(story, false);
    for (unsigned i = 0; i < 8; i++) {
        assert_int_equal(snapshot_sender_next(&story->sender, ROOM, story->now_us, &extent), SNAPSHOT_SEND_PIECE);
        struct snapshot_piece piece = piece_of(story, extent);
        assert_true(snapshot_receiver_on_piece(&story->receiver, &piece, story->now_us));
    }
    assert_false(snapshot_receiver_answer(&story->receiver, story->now_us, &taken));
    snapshot_receiver_written(&story->receiver, 4 * SNAPSHOT_PIECE_BYTES);
    assert_true(snapshot_receiver_answer(&story->receiver, story->now_us, &taken));
    assert_int_equal(taken.answer, SNAPSHOT_GOES_ON);
    assert_int_equal(taken.written, 4 * SNAPSHOT_PIECE_BYTES);
}

/* A connection breaks with pieces and answers under way: the file is not begun anew, and no byte is written twice. */
static void test_a_reconnection(void **state) {
    struct story *story = *state;
    for (unsigned lost = 1; lost < 40; lost += 7) {
        send_all(story, lost);
        answer_all(story, lost % 2 == 0);
        snapshot_sender_on_reconnect(&story->sender);
    }
    run(story);
    assert_whole(story);
    assert_int_equal(story->files, 1);
}

/* The receiver has more than the sender knows of. */
static void test_a_reconnection_skips_what_had_arrived(void **state) {
    struct story *story = *state;
    send_all(story, UINT32_MAX);
    answer_all(story, false);
    send_all(story, UINT32_MAX);
    answer_all(story, true);
    unsigned pieces = story->pieces;
    snapshot_sender_on_reconnect(&story->sender);
    assert_int_equal(story->sender.next, 0);
    run(story);
    assert_whole(story);
    assert_int_equal(pieces, SNAPSHOT_WINDOW_BYTES / SNAPSHOT_PIECE_BYTES);
    assert_int_equal(story->pieces, FILE_BYTES / SNAPSHOT_PIECE_BYTES + 1);
}

/* A piece is lost on the way although the connection holds (a full mailbox): it is asked for once, and again only when
 * that did not help. */
static void test_a_gap(void **state) {
    struct story *story = *state;
    struct snapshot_extent extent;
    struct snapshot_taken taken;
    send_all(story, UINT32_MAX);
    answer_all(story, false);
    assert_int_equal(snapshot_sender_next(&story->sender, ROOM, story->now_us, &extent), SNAPSHOT_SEND_PIECE);
    for (unsigned i = 0; i < 5; i++) {
        snapshot_sender_next(&story->sender, ROOM, story->now_us, &extent);
        on_piece(story, extent);
    }
    /* FROM 0 was told at the beginning, a moment ago: this says nothing new */
    assert_false(snapshot_receiver_answer(&story->receiver, story->now_us, &taken));
    story->now_us += RETRY_US;
    snapshot_sender_next(&story->sender, ROOM, story->now_us, &extent);
    on_piece(story, extent);
    assert_true(snapshot_receiver_answer(&story->receiver, story->now_us, &taken));
    assert_int_equal(taken.answer, SNAPSHOT_FROM);
    assert_int_equal(taken.from, 0);
    on_piece(story, extent);
    assert_false(snapshot_receiver_answer(&story->receiver, story->now_us, &taken));
    snapshot_sender_on_taken(&story->sender, &taken, story->now_us);
    assert_int_equal(story->sender.next, 7 * SNAPSHOT_PIECE_BYTES); /* not told yet */
    taken = (struct snapshot_taken){.transfer = story->sender.begin.transfer, .answer = SNAPSHOT_FROM};
    snapshot_sender_on_taken(&story->sender, &taken, story->now_us);
    assert_int_equal(story->sender.next, 0);
    run(story);
    assert_whole(story);
}

/* In the middle it is told at once. */
static void test_a_gap_in_the_middle(void **state) {
    struct story *story = *state;
    struct snapshot_extent extent;
    struct snapshot_taken taken;
    send_all(story, UINT32_MAX);
    answer_all(story, false);
    snapshot_sender_next(&story->sender, ROOM, story->now_us, &extent);
    on_piece(story, extent);
    snapshot_sender_next(&story->sender, ROOM, story->now_us, &extent); /* lost */
    snapshot_sender_next(&story->sender, ROOM, story->now_us, &extent);
    on_piece(story, extent);
    assert_true(snapshot_receiver_answer(&story->receiver, story->now_us, &taken));
    assert_int_equal(taken.answer, SNAPSHOT_FROM);
    assert_int_equal(taken.from, SNAPSHOT_PIECE_BYTES);
    assert_int_equal(taken.written, SNAPSHOT_PIECE_BYTES);
    snapshot_sender_on_taken(&story->sender, &taken, story->now_us);
    run(story);
    assert_whole(story);
}

/* Lost answers close the window; the sender asks. */
static void test_lost_answers(void **state) {
    struct story *story = *state;
    while (story->sender.state == SNAPSHOT_SENDING) {
        while (send_all(story, UINT32_MAX) > 0) answer_all(story, true);
        later(story, RETRY_US);
        send_all(story, UINT32_MAX);
        answer_all(story, false);
    }
    assert_whole(story);
}

/* The beginning is lost. */
static void test_a_lost_begin(void **state) {
    struct story *story = *state;
    send_all(story, 1);
    assert_int_equal(send_all(story, UINT32_MAX), 0);
    later(story, RETRY_US - 1);
    assert_int_equal(send_all(story, UINT32_MAX), 0);
    later(story, 1);
    run(story);
    assert_whole(story);
}

static void test_a_silent_receiver(void **state) {
    struct story *story = *state;
    for (unsigned i = 1; i < GIVE_UP_US / RETRY_US; i++) {
        send_all(story, 1);
        later(story, RETRY_US);
        assert_int_equal(story->sender.state, SNAPSHOT_SENDING);
    }
    later(story, RETRY_US);
    assert_int_equal(story->sender.state, SNAPSHOT_FAILED);
    assert_int_equal(send_all(story, UINT32_MAX), 0);
}

/* A receiver whose sender is gone gives up once, and refuses that transfer from then on. */
static void test_a_silent_sender(void **state) {
    struct story *story = *state;
    struct snapshot_taken taken;
    send_all(story, UINT32_MAX);
    answer_all(story, false);
    send_all(story, UINT32_MAX);
    assert_false(snapshot_receiver_tick(&story->receiver, story->now_us + GIVE_UP_US - 1));
    assert_true(snapshot_receiver_tick(&story->receiver, story->now_us + GIVE_UP_US));
    assert_false(snapshot_receiver_tick(&story->receiver, story->now_us + GIVE_UP_US));
    assert_true(snapshot_receiver_answer(&story->receiver, story->now_us, &taken));
    assert_int_equal(taken.answer, SNAPSHOT_REFUSED);
    story->files = 0;
    on_begin(story, &story->sender.begin);
    assert_int_equal(story->files, 0);
    answer_all(story, false);
    assert_int_equal(story->sender.state, SNAPSHOT_FAILED);
}

/* Also after all of it was written: it was not installed. */
static void test_a_refusal(void **state) {
    struct story *story = *state;
    run(story);
    assert_int_equal(story->sender.state, SNAPSHOT_SENT);
    snapshot_receiver_refuse(&story->receiver);
    answer_all(story, false);
    assert_int_equal(story->sender.state, SNAPSHOT_FAILED);
}

static void test_refusing_nothing(void **state) {
    struct story *story = *state;
    struct snapshot_taken taken;
    snapshot_receiver_refuse(&story->receiver);
    assert_int_equal(story->receiver.state, SNAPSHOT_IDLE);
    assert_false(snapshot_receiver_answer(&story->receiver, story->now_us, &taken));
    assert_false(snapshot_receiver_tick(&story->receiver, UINT64_MAX));
}

/* R1: of two transfers the one of the higher epoch counts, of one epoch the later. */
static void test_a_later_transfer(void **state) {
    struct story *story = *state;
    struct snapshot_extent extent = {0, SNAPSHOT_PIECE_BYTES};
    send_all(story, UINT32_MAX);
    answer_all(story, false);
    send_all(story, 5);
    struct snapshot_begin later_begin = begin_of(3, 1001), next_epoch = begin_of(4, 7), old = begin_of(3, 2000);
    on_begin(story, &later_begin);
    assert_int_equal(story->files, 2);
    assert_int_equal(story->receiver.accepted, 0);
    on_piece(story, extent); /* the first transfer's */
    assert_int_equal(story->receiver.accepted, 0);
    on_begin(story, &next_epoch);
    on_begin(story, &old);
    on_begin(story, &later_begin);
    assert_int_equal(story->files, 3);
    assert_int_equal(story->receiver.begin.transfer.epoch, 4);
    uint64_t next = story->sender.next;
    assert_int_equal(answer_all(story, false), 1); /* of epoch 4: not the sender's */
    assert_int_equal(story->sender.next, next);
    snapshot_sender_init(&story->sender, &next_epoch, &times, story->now_us);
    run(story);
    assert_whole(story);
}

/* Bytes beyond what was begun: the file is not what it was said to be. */
static void test_too_many_bytes(void **state) {
    struct story *story = *state;
    struct snapshot_begin begin = begin_of(3, 1000);
    begin.total_bytes = 10;
    on_begin(story, &begin);
    answer_all(story, true);
    struct snapshot_piece piece = piece_of(story, (struct snapshot_extent){0, 11});
    assert_false(snapshot_receiver_on_piece(&story->receiver, &piece, story->now_us));
    struct snapshot_taken taken;
    assert_true(snapshot_receiver_answer(&story->receiver, story->now_us, &taken));
    assert_int_equal(taken.answer, SNAPSHOT_REFUSED);
}

static void test_answers_that_cannot_be(void **state) {
    struct story *story = *state;
    struct snapshot_transfer transfer = story->sender.begin.transfer;
    send_all(story, UINT32_MAX);
    answer_all(story, false);
    struct snapshot_taken answers[] = {
        {.transfer = transfer, .written = FILE_BYTES + 1},
        {.transfer = transfer, .from = FILE_BYTES + 1, .answer = SNAPSHOT_FROM},
        {.transfer = {.shard = 5, .replica_id = 6, .epoch = 3, .number = 999}, .answer = SNAPSHOT_REFUSED},
        {.transfer = {.shard = 5, .replica_id = 7, .epoch = 3, .number = 1000}, .answer = SNAPSHOT_REFUSED},
    };
    for (size_t i = 0; i < sizeof answers / sizeof answers[0]; i++)
        snapshot_sender_on_taken(&story->sender, &answers[i], story->now_us);
    assert_int_equal(story->sender.taken, 0);
    assert_int_equal(story->sender.next, 0);
    run(story);
    assert_whole(story);
}

/* An answer from before the last one. */
static void test_old_answers(void **state) {
    struct story *story = *state;
    struct snapshot_transfer transfer = story->sender.begin.transfer;
    send_all(story, UINT32_MAX);
    answer_all(story, false);
    send_all(story, UINT32_MAX);
    answer_all(story, false);
    uint64_t next = story->sender.next, taken = story->sender.taken;
    assert_true(taken > 0);
    struct snapshot_taken old = {.transfer = transfer, .written = 1}, from = old;
    from.answer = SNAPSHOT_FROM;
    snapshot_sender_on_taken(&story->sender, &old, story->now_us);
    snapshot_sender_on_taken(&story->sender, &from, story->now_us);
    assert_int_equal(story->sender.next, next);
    assert_int_equal(story->sender.taken, taken);
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(test_a_file_arrives),
        TEST(test_the_window),
        TEST(test_no_room_no_sending),
        TEST(test_written_later),
        TEST(test_a_reconnection),
        TEST(test_a_reconnection_skips_what_had_arrived),
        TEST(test_a_gap),
        TEST(test_a_gap_in_the_middle),
        TEST(test_lost_answers),
        TEST(test_a_lost_begin),
        TEST(test_a_silent_receiver),
        TEST(test_a_silent_sender),
        TEST(test_a_refusal),
        TEST(test_refusing_nothing),
        TEST(test_a_later_transfer),
        TEST(test_too_many_bytes),
        TEST(test_answers_that_cannot_be),
        TEST(test_old_answers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
