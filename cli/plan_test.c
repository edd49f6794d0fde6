#include "plan.h"

#include "libcommon/error.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static struct plan_options options_of_three(void) {
    return (struct plan_options){
        .data = "d",
        .programs = {"/p/metad", "/p/shardd", "/p/gateway"},
        .metads = 1,
        .nodes = 3,
        .shards = 64,
        .lanes = 2,
        .gateway_port = 7400,
        .resp_port = 6379,
    };
}

/* All of a process's words, with spaces between. */
static const char *words_of(const struct plan_process *process) {
    static char text[4096];
    text[0] = 0;
    for (size_t i = 0; i < process->arg_count; i++) {
        if (i > 0) strcat(text, " ");
        strcat(text, process->args[i]);
    }
    assert_null(process->args[process->arg_count]);
    return text;
}

static void three_nodes(void **state) {
    (void)state;
    struct plan_options options = options_of_three();
    struct plan plan;
    char text[128];
    assert_int_equal(plan_make(&plan, &options, text, sizeof text), SK_OK);
    assert_int_equal(plan.count, 5);
    assert_string_equal(plan.gateway, "tcp://127.0.0.1:7400");
    assert_string_equal(plan.page, "http://127.0.0.1:7480/");
    assert_int_equal(plan.resp_port, 6379);
    assert_string_equal(plan.metad, "tcp://127.0.0.1:7100");
    assert_string_equal(words_of(&plan.processes[0]),
                        "/p/metad --data-dir d/metad-1 --advertise 127.0.0.1 --listen tcp://127.0.0.1:7100"
                        " --http-listen http://127.0.0.1:7180 --shards 64 --expect-nodes 3");
    assert_string_equal(
        words_of(&plan.processes[1]),
        "/p/shardd --data-dir d/shardd-1 --advertise 127.0.0.1 --frames-listen tcp://127.0.0.1:7200"
        " --replication-listen tcp://127.0.0.1:7210 --http-listen http://127.0.0.1:7280 --lanes 2 --metad "
        "tcp://127.0.0.1:7100");
    assert_non_null(strstr(words_of(&plan.processes[2]), "--frames-listen tcp://127.0.0.1:8200 "));
    assert_non_null(strstr(words_of(&plan.processes[3]), "--frames-listen tcp://127.0.0.1:9200 "));
    assert_string_equal(
        words_of(&plan.processes[4]),
        "/p/gateway --advertise 127.0.0.1 --listen tcp://127.0.0.1:7400 --resp-listen tcp://127.0.0.1:6379"
        " --frames-listen tcp://127.0.0.1:7410 --http-listen http://127.0.0.1:7480 --metad tcp://127.0.0.1:7100");
    assert_string_equal(plan.processes[3].name, "shardd-3");
    assert_string_equal(plan.processes[3].log, "d/log/shardd-3.log");
    assert_string_equal(plan.processes[3].data, "d/shardd-3");
    assert_null(plan.processes[4].data);
    plan_deinit(&plan);
}

static void three_metads(void **state) {
    (void)state;
    struct plan_options options = options_of_three();
    options.metads = 3;
    struct plan plan;
    char text[128];
    assert_int_equal(plan_make(&plan, &options, text, sizeof text), SK_OK);
    assert_int_equal(plan.count, 7);
    assert_string_equal(plan.metad, "tcp://127.0.0.1:7100,tcp://127.0.0.1:8100,tcp://127.0.0.1:9100");
    assert_string_equal(words_of(&plan.processes[2]),
                        "/p/metad --data-dir d/metad-3 --advertise 127.0.0.1 --listen tcp://127.0.0.1:9100"
                        " --http-listen http://127.0.0.1:9180 --peers "
                        "tcp://127.0.0.1:7100,tcp://127.0.0.1:8100,tcp://127.0.0.1:9100"
                        " --secret-file d/secret --shards 64 --expect-nodes 3");
    assert_string_equal(plan.processes[3].name, "shardd-1");
    assert_non_null(strstr(words_of(&plan.processes[3]),
                           " --metad tcp://127.0.0.1:7100,tcp://127.0.0.1:8100,tcp://127.0.0.1:9100"));
    assert_string_equal(plan.processes[6].name, "gateway-1");
    plan_deinit(&plan);
    options.port_offset = 50000;
    options.metads = PLAN_METADS_MAX;
    assert_int_equal(plan_make(&plan, &options, text, sizeof text), SK_OK);
    assert_non_null(strstr(plan.metad, "tcp://127.0.0.1:61100"));
    plan_deinit(&plan);
}

static void the_offset_moves_every_port(void **state) {
    (void)state;
    struct plan_options options = options_of_three();
    options.port_offset = 20000;
    options.gateway_port = 7500;
    struct plan plan;
    char text[128];
    assert_int_equal(plan_make(&plan, &options, text, sizeof text), SK_OK);
    assert_string_equal(plan.gateway, "tcp://127.0.0.1:27500");
    assert_string_equal(plan.page, "http://127.0.0.1:27580/");
    for (size_t i = 0; i < plan.count; i++) {
        const char *words = words_of(&plan.processes[i]);
        for (const char *at = words; (at = strstr(at, "127.0.0.1:")) != NULL; at += 10)
            assert_true(at[10] == '2' && strspn(at + 10, "0123456789") == 5);
    }
    assert_non_null(strstr(words_of(&plan.processes[4]), "--frames-listen tcp://127.0.0.1:27510"));
    plan_deinit(&plan);
}

static void extra_flags_go_to_their_kind(void **state) {
    (void)state;
    char *extra[] = {"--memtable-size=8MiB", "metad:--replicas", "metad:1", "gateway:--requests-max=64"};
    struct plan_options options = options_of_three();
    options.durability = "interval";
    options.extra = extra;
    options.extra_count = 4;
    struct plan plan;
    char text[128];
    assert_int_equal(plan_make(&plan, &options, text, sizeof text), SK_OK);
    assert_non_null(strstr(words_of(&plan.processes[0]), " --expect-nodes 3 --replicas 1"));
    assert_null(strstr(words_of(&plan.processes[0]), "memtable"));
    for (size_t i = 1; i <= 3; i++) {
        assert_non_null(strstr(words_of(&plan.processes[i]), " --memtable-size=8MiB"));
        assert_non_null(strstr(words_of(&plan.processes[i]), " --durability interval "));
    }
    assert_non_null(strstr(words_of(&plan.processes[4]), " --requests-max=64"));
    assert_null(strstr(words_of(&plan.processes[4]), "memtable"));
    assert_string_not_equal(plan.page, "");
    plan_deinit(&plan);
    extra[3] = "gateway:--http-listen=none"; /* where its page is, is not known here */
    assert_int_equal(plan_make(&plan, &options, text, sizeof text), SK_OK);
    assert_string_equal(plan.page, "");
    plan_deinit(&plan);
}

static void limits_are_told(void **state) {
    (void)state;
    struct plan_options options = options_of_three();
    struct plan plan;
    char text[128] = "";
    options.port_offset = 65000;
    assert_int_equal(plan_make(&plan, &options, text, sizeof text), SK_ECONFIG);
    assert_string_equal(text, "ports would go up to 74280");
    options = options_of_three();
    char *extra[64];
    for (int i = 0; i < 64; i++) extra[i] = "--x";
    options.extra = extra;
    options.extra_count = 64;
    assert_int_equal(plan_make(&plan, &options, text, sizeof text), SK_ECONFIG);
    assert_string_equal(text, "too many extra flags");
    options = options_of_three();
    options.nodes = PLAN_NODES_MAX;
    assert_int_equal(plan_make(&plan, &options, text, sizeof text), SK_OK);
    plan_deinit(&plan);
}

static void a_word_after_a_flag_goes_with_it(void **state) {
    (void)state;
    char *extra[] = {"--memtable-size", "8MiB"};
    struct plan_options options = options_of_three();
    options.extra = extra;
    options.extra_count = 2;
    struct plan plan;
    char text[128];
    assert_int_equal(plan_make(&plan, &options, text, sizeof text), SK_OK);
    assert_non_null(strstr(words_of(&plan.processes[1]), " --memtable-size 8MiB"));
    assert_null(strstr(words_of(&plan.processes[0]), "8MiB"));
    plan_deinit(&plan);
}

static void lanes_share_the_cores(void **state) {
    (void)state;
    assert_int_equal(plan_lanes(2, 3), 1);
    assert_int_equal(plan_lanes(1, 1), 1);
    assert_int_equal(plan_lanes(8, 1), 4);
    assert_int_equal(plan_lanes(64, 3), 10);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(three_nodes),
        cmocka_unit_test(three_metads),
        cmocka_unit_test(the_offset_moves_every_port),
        cmocka_unit_test(extra_flags_go_to_their_kind),
        cmocka_unit_test(limits_are_told),
        cmocka_unit_test(a_word_after_a_flag_goes_with_it),
        cmocka_unit_test(lanes_share_the_cores),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
