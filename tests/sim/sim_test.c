/* The simulator itself: runs repeat exactly, calm runs are calm, and bugs that are planted are found. */
#include "tests/sim/sim.h"

#include "libcommon/testing.h"

static struct sim_options options_of(uint64_t seed, const char *faults) {
    struct sim_options options = {.seed = seed, .events = 20000};
    assert_true(faults_parse(faults, &options.faults));
    return options;
}

static void test_a_seed_repeats_exactly(void **state) {
    (void)state;
    for (uint64_t seed = 1; seed <= 5; seed++) {
        struct sim_options options = options_of(seed, "all");
        struct sim_report first, second;
        assert_true(sim_run(&options, &first));
        assert_true(sim_run(&options, &second));
        assert_int_equal(first.digest, second.digest);
        assert_int_equal(first.at_us, second.at_us);
    }
}

static void test_without_faults_nothing_fails(void **state) {
    (void)state;
    uint64_t stale = 0;
    for (uint64_t seed = 1; seed <= 20; seed++) {
        struct sim_options options = options_of(seed, "none");
        struct sim_report report;
        if (!sim_run(&options, &report)) fail_msg("seed %d: %s", (int)seed, report.text);
        assert_int_equal(report.epochs, 1);
        assert_true(report.writes > 0 && report.reads > 0);
        stale += report.stale;
    }
    assert_true(stale > 1000);
}

/* The runs do reach what they are for. */
static void test_with_faults_much_happens(void **state) {
    (void)state;
    uint64_t epochs = 0, snapshots = 0, unknown = 0, moves = 0;
    for (uint64_t seed = 1; seed <= 60; seed++) {
        struct sim_options options = options_of(seed, "all");
        struct sim_report report;
        if (!sim_run(&options, &report)) fail_msg("seed %d: %s", (int)seed, report.text);
        epochs += report.epochs;
        snapshots += report.snapshots;
        unknown += report.unknown;
        moves += report.moves;
    }
    assert_true(epochs > 300 && snapshots > 30 && unknown > 30 && moves > 100);
}

/* How often a planted bug is found by these seeds. */
static uint32_t count_found(enum plant plant, const char *faults, uint64_t from, uint64_t to, bool judge_alone) {
    uint32_t found = 0;
    for (uint64_t seed = from; seed <= to; seed++) {
        struct sim_options options = options_of(seed, faults);
        struct sim_report report;
        options.plant = plant;
        options.judge_alone = judge_alone;
        found += !sim_run(&options, &report);
    }
    return found;
}

static void expect_found(enum plant plant, const char *faults, uint64_t seeds) {
    for (uint64_t seed = 1; seed <= seeds; seed++) {
        if (count_found(plant, faults, seed, seed, false) > 0) return;
    }
    fail_msg("%s is not found within %d seeds", plant_name(plant), (int)seeds);
}

/* Those that few runs meet are looked for by scripts/sim --plants. */
static void test_planted_bugs_are_found(void **state) {
    (void)state;
    expect_found(PLANT_EARLY_SYNC, "all", 100);
    expect_found(PLANT_SAME_INCARNATION, "all", 100);
    expect_found(PLANT_CLAIM_KEEPS_EPOCH, "all", 100);
    expect_found(PLANT_FORGET_ADOPTED, "crash,cut,oneway,power", 300);
    expect_found(PLANT_KEEP_TAIL, "crash,cut,oneway,power", 300);
    expect_found(PLANT_SHORT_GRACE, "cut,oneway", 500);
    expect_found(PLANT_FORGET_NAMES, "all", 1000);
    expect_found(PLANT_NO_VOUCH, "cut,client,pause", 100);
    expect_found(PLANT_VOUCH_WITHOUT_LEASE, "all", 300);
    expect_found(PLANT_KEEP_VOUCH, "pause,clock,cut,delay,metad", 300);
    expect_found(PLANT_MOVE_UNJOINED, "all", 100);
    expect_found(PLANT_OLD_RECORD, "move,delay,crash,cut", 300);
}

/* Nobody looks into the replicas: what clients were told is enough to know that a stale read was served, a write done
 * twice, an acknowledged one lost. Without the bug, the same runs are good. */
static void expect_judged(enum plant plant, const char *faults, uint64_t seeds) {
    for (uint64_t seed = 1; seed <= seeds; seed++) {
        if (count_found(plant, faults, seed, seed, true) == 0) continue;
        assert_int_equal(count_found(PLANT_NONE, faults, seed, seed, true), 0);
        return;
    }
    fail_msg("the judge does not find %s within %d seeds", plant_name(plant), (int)seeds);
}

static void test_the_judge_alone_finds_planted_bugs(void **state) {
    (void)state;
    expect_judged(PLANT_NO_LEASE, "cut,client,pause", 500);
    expect_judged(PLANT_NO_NAMES, "client", 100);
    expect_judged(PLANT_EARLY_SYNC, "all", 500);
}

static void test_faults_have_names(void **state) {
    (void)state;
    uint32_t mask;
    assert_true(faults_parse("crash,cut", &mask));
    assert_int_equal(mask, 1u << FAULT_CRASH | 1u << FAULT_CUT);
    assert_true(faults_parse("all", &mask));
    assert_int_equal(mask, FAULTS_ALL);
    assert_true(faults_parse("none", &mask));
    assert_int_equal(mask, 0);
    assert_false(faults_parse("crash,storm", &mask));
    enum plant plant;
    assert_true(plant_parse("keep-tail", &plant));
    assert_int_equal(plant, PLANT_KEEP_TAIL);
    assert_false(plant_parse("tail", &plant));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_seed_repeats_exactly),
        cmocka_unit_test(test_without_faults_nothing_fails),
        cmocka_unit_test(test_with_faults_much_happens),
        cmocka_unit_test(test_planted_bugs_are_found),
        cmocka_unit_test(test_the_judge_alone_finds_planted_bugs),
        cmocka_unit_test(test_faults_have_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
