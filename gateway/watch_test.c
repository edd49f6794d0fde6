/* The watch and the page's handlers, over a metad that is a thread of the test. */
#include "gateway/page.h"
#include "gateway/report.h"
#include "libcommon/clock.h"
#include "libcommon/testing_metad.h"

#include <stdatomic.h>

#define WAIT_MS 20000u

struct world {
    char directory[32], address[64];
    struct fake_metad metad;
    struct watch *watch;
    atomic_uint asked;
    atomic_int answers; /* an error code, FAKE_SILENT, or FAKE_RAW: a result of another shape */
    struct watch_view view;
    struct buffer cluster;
};

static struct map *make_map(uint64_t version) {
    struct map *map;
    assert_int_equal(map_new(&map, 1, 1), SK_OK);
    map->version = version;
    map->cluster = 1;
    map->nodes[0].id = 1;
    map->nodes[0].alive = true;
    map->nodes[0].lanes = 1;
    (void)snprintf(map->nodes[0].host, MAP_ADDRESS_BYTES, "h");
    (void)snprintf(map->nodes[0].frames_address, MAP_ADDRESS_BYTES, "tcp://h:1");
    (void)snprintf(map->nodes[0].replication_address, MAP_ADDRESS_BYTES, "tcp://h:2");
    map->shards[0] = (struct map_shard){.leader = 1,
                                        .leader_epoch = 1,
                                        .leader_incarnation = 1,
                                        .config_version = 1,
                                        .min_isr = 1,
                                        .replica_count = 1,
                                        .isr_count = 1,
                                        .replicas = {{.node = 1, .replica_id = 1}},
                                        .isr = {1}};
    return map;
}

static int answer(void *arg, struct slice method, struct slice params, struct buffer *result, char *text) {
    struct world *world = arg;
    assert_true(slice_equal(method, slice_of_text("status")));
    assert_int_equal(params.size, 1);
    atomic_fetch_add(&world->asked, 1);
    int answers = atomic_load(&world->answers);
    if (answers == FAKE_SILENT) return FAKE_SILENT;
    if (answers == FAKE_RAW) {
        mp_write_uint(result, 7);
        return SK_OK;
    }
    if (answers != SK_OK) {
        (void)snprintf(text, 256, "no leader is known");
        return answers;
    }
    struct map *map = make_map(20);
    mp_write_map(result, 2);
    mp_write_text(result, "stats");
    mp_write_map(result, 1);
    mp_write_uint(result, 1);
    mp_write_map(result, 1);
    mp_write_text(result, "keys");
    mp_write_uint(result, 77);
    mp_write_text(result, "map");
    map_encode(map, result);
    map_unref(map);
    return SK_OK;
}

static int set_up(void **state) {
    struct world *world = calloc(1, sizeof *world);
    assert_non_null(world);
    directory_make(world->directory);
    fake_start(&world->metad, address_in(world->directory, "metad", world->address), answer, world);
    assert_int_equal(watch_open(&world->watch, world->address), SK_OK);
    buffer_init(&world->cluster);
    *state = world;
    return 0;
}

static int tear_down(void **state) {
    struct world *world = *state;
    watch_close(world->watch);
    fake_stop(&world->metad);
    directory_remove(world->directory, (const char *const[]){"metad"}, 1);
    buffer_deinit(&world->cluster);
    free(world);
    return 0;
}

static void look(struct world *world) {
    buffer_clear(&world->cluster, SIZE_MAX);
    watch_look(world->watch, &world->view, &world->cluster);
    assert_int_equal(world->view.has_cluster, world->cluster.size > 0);
    buffer_append(&world->cluster, "", 1);
}

static bool shows(const struct world *world, const char *text) {
    return strstr((const char *)world->cluster.data, text) != NULL;
}

/* Looks until the view is in that state. */
static void look_until(struct world *world, enum watch_state state) {
    uint64_t deadline_ms = clock_boottime_ms() + WAIT_MS;
    do {
        assert_true(clock_boottime_ms() < deadline_ms);
        look(world);
        sched_yield();
    } while (world->view.state != state);
}

static void metad_is_asked_when_somebody_looks(void **state) {
    struct world *world = *state;
    look(world);
    assert_int_equal(world->view.state, WATCH_ASKING);
    assert_false(world->view.has_cluster);
    look_until(world, WATCH_ANSWERS);
    assert_true(world->view.has_cluster);
    assert_false(world->view.of_map);
    assert_true(shows(world, "\"map_version\":20"));
    assert_in_range(world->view.age_ms, 0, WAIT_MS);
}

static void metad_is_asked_once_a_second(void **state) {
    struct world *world = *state;
    uint64_t begin_ms = clock_boottime_ms();
    while (atomic_load(&world->asked) < 3) look(world);
    assert_true(clock_boottime_ms() - begin_ms >= 2000);
}

static void nobody_looks_nobody_asks(void **state) {
    struct world *world = *state;
    struct map *map = make_map(30);
    watch_set_map(world->watch, map);
    watch_set_map(world->watch, map);
    map_unref(map);
    watch_close(world->watch); /* and what it was about to do is done */
    assert_int_equal(watch_open(&world->watch, world->address), SK_OK);
    assert_int_equal(atomic_load(&world->asked), 0);
}

static void the_last_answer_stays(void **state) {
    struct world *world = *state;
    look_until(world, WATCH_ANSWERS);
    atomic_store(&world->answers, SK_RETRY);
    look_until(world, WATCH_SILENT);
    assert_string_equal(world->view.text, "no leader is known");
    assert_true(world->view.has_cluster);
    assert_true(shows(world, "\"map_version\":20"));
    assert_true(world->view.age_ms >= 900); /* it was asked again a second later */
    atomic_store(&world->answers, SK_OK);
    look_until(world, WATCH_ANSWERS);
    assert_string_equal(world->view.text, "");
}

static void the_gateways_own_map_steps_in(void **state) {
    struct world *world = *state;
    atomic_store(&world->answers, FAKE_SILENT);
    struct map *map = make_map(10);
    watch_set_map(world->watch, map);
    map_unref(map);
    look_until(world, WATCH_SILENT);
    assert_true(world->view.has_cluster);
    assert_true(world->view.of_map);
    assert_true(shows(world, "\"map_version\":10"));
    atomic_store(&world->answers, SK_OK);
    look_until(world, WATCH_ANSWERS);
    assert_false(world->view.of_map);
    assert_true(shows(world, "\"map_version\":20"));
    map = make_map(19); /* older than what metad has said: changes nothing */
    watch_set_map(world->watch, map);
    map_unref(map);
    atomic_store(&world->answers, SK_RETRY);
    look_until(world, WATCH_SILENT);
    assert_true(shows(world, "\"map_version\":20"));
    atomic_store(&world->answers, SK_OK);
    look_until(world, WATCH_ANSWERS);
    map = make_map(21); /* newer: it is shown, with what the nodes have told before */
    watch_set_map(world->watch, map);
    map_unref(map);
    atomic_store(&world->answers, SK_RETRY);
    look_until(world, WATCH_SILENT);
    assert_true(world->view.of_map);
    assert_true(shows(world, "\"map_version\":21"));
    assert_true(shows(world, "\"keys\":77"));
}

static void another_shape_is_no_answer(void **state) {
    struct world *world = *state;
    atomic_store(&world->answers, FAKE_RAW);
    look_until(world, WATCH_SILENT);
    assert_string_equal(world->view.text, error_text(SK_EPROTO));
    assert_false(world->view.has_cluster);
}

static void closing_does_not_wait_for_metad(void **state) {
    struct world *world = *state;
    atomic_store(&world->answers, FAKE_SILENT);
    while (atomic_load(&world->asked) == 0) look(world);
    uint64_t begin_ms = clock_boottime_ms();
    watch_close(world->watch);
    world->watch = NULL;
    assert_true(clock_boottime_ms() - begin_ms < 1400); /* less than it would have waited */
}

static void bad_addresses_are_refused(void **state) {
    (void)state;
    struct watch *watch;
    assert_int_equal(watch_open(&watch, "nonsense"), SK_ECONFIG);
    watch_close(NULL);
}

/* ---- the page ---- */

static void get(struct report *report, http_handler *handler, struct http_answer *answer) {
    *answer = (struct http_answer){.status = 200};
    handler(report, answer);
    buffer_append(&answer->body, "", 1);
    assert_false(answer->body.failed);
    assert_int_equal(answer->status, 200);
}

static void the_page_is_there(void **state) {
    struct world *world = *state;
    static struct tally tally;
    static struct history history;
    struct report report = {.tally = &tally,
                            .history = &history,
                            .watch = world->watch,
                            .host = "a\"b",
                            .address = "tcp://a:1",
                            .started_ms = clock_boottime_ms()};
    struct http_answer answer;
    history_take(&history, &tally, 0, 1000);
    history_take(&history, &tally, 5, 2000);
    look_until(world, WATCH_ANSWERS);
    get(&report, page_html, &answer);
    assert_string_equal(answer.type, "text/html; charset=utf-8");
    assert_memory_equal(answer.body.data, "<!DOCTYPE html>", 15);
    buffer_deinit(&answer.body);
    get(&report, page_icon, &answer);
    assert_memory_equal(answer.body.data, "<svg", 4);
    buffer_deinit(&answer.body);
    get(&report, page_status, &answer);
    assert_string_equal(answer.type, "application/json");
    const char *text = (const char *)answer.body.data;
    assert_non_null(strstr(text, "\"host\":\"a\\\"b\""));
    assert_non_null(strstr(text, "\"waits_for\":\"metad has not sent a map yet\""));
    assert_non_null(
        strstr(text, "\"metad\":{\"state\":\"answers\",\"text\":\"\"},\"cluster\":{\"map_version\":20,"));
    assert_non_null(strstr(text, "\"reads\":[0],\"writes\":[0],\"errors\":[0],\"read_p50_us\":[null],"));
    assert_non_null(strstr(text, "\"in_flight\":[5]}}"));
    buffer_deinit(&answer.body);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(metad_is_asked_when_somebody_looks, set_up, tear_down),
        cmocka_unit_test_setup_teardown(metad_is_asked_once_a_second, set_up, tear_down),
        cmocka_unit_test_setup_teardown(nobody_looks_nobody_asks, set_up, tear_down),
        cmocka_unit_test_setup_teardown(the_last_answer_stays, set_up, tear_down),
        cmocka_unit_test_setup_teardown(the_gateways_own_map_steps_in, set_up, tear_down),
        cmocka_unit_test_setup_teardown(another_shape_is_no_answer, set_up, tear_down),
        cmocka_unit_test_setup_teardown(closing_does_not_wait_for_metad, set_up, tear_down),
        cmocka_unit_test(bad_addresses_are_refused),
        cmocka_unit_test_setup_teardown(the_page_is_there, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
