#include "config.h"

#include <string.h>

#include "testing.h"

static const char *data_dir, *listen_address;
static uint64_t lanes, memtable, timeout_ms, durability;
static bool verbose;

static const struct config_option options[] = {
    {.name = "data-dir", .type = CONFIG_TEXT, .target = &data_dir, .help = "Where the data is"},
    {.name = "listen",
     .type = CONFIG_TEXT,
     .target = &listen_address,
     .fallback = "tcp://0.0.0.0:7200",
     .help = "Where it listens"},
    {.name = "lanes",
     .type = CONFIG_UINT,
     .target = &lanes,
     .fallback = "0",
     .least = 1,
     .most = 64,
     .help = "Lanes; 0 lets it choose"},
    {.name = "memtable-size",
     .type = CONFIG_BYTES,
     .target = &memtable,
     .fallback = "32MiB",
     .least = 1024,
     .help = "Size of the memtable"},
    {.name = "timeout",
     .type = CONFIG_DURATION_MS,
     .target = &timeout_ms,
     .fallback = "5s",
     .most = 60000,
     .help = "Time"},
    {.name = "verbose", .type = CONFIG_SWITCH, .target = &verbose, .fallback = "false", .help = "Says more"},
    {.name = "durability",
     .type = CONFIG_CHOICE,
     .target = &durability,
     .fallback = "always",
     .choices = "always|interval",
     .help = "When it syncs"},
};

#define OPTION_COUNT (sizeof options / sizeof options[0])

static char said[16384];    /* by the last load, on stderr */
static char printed[16384]; /* the same on stdout */
static struct config *config;

/* Loads with the given flags, a list that ends with NULL. */
static enum config_result load(const char *first, ...) {
    char *argv[32] = {(char *)"shardd"};
    int argc = 1;
    va_list more;
    va_start(more, first);
    for (const char *flag = first; flag != NULL; flag = va_arg(more, const char *)) argv[argc++] = (char *)flag;
    va_end(more);
    config_free(config);
    struct capture errors, output;
    capture_begin(&errors, STDERR_FILENO);
    capture_begin(&output, STDOUT_FILENO);
    enum config_result result =
        config_load(&config, "shardd", "keeps the data", options, OPTION_COUNT, argc, argv);
    capture_end(&output, printed, sizeof printed);
    capture_end(&errors, said, sizeof said);
    assert_true((config != NULL) == (result == CONFIG_RUN));
    return result;
}

static int release(void **state) {
    (void)state;
    config_free(config);
    config = NULL;
    for (size_t i = 0; i < OPTION_COUNT; i++) {
        char variable[64] = "SKERRY_";
        strcat(variable, options[i].name);
        for (char *at = variable; *at != '\0'; at++) *at = *at == '-' ? '_' : *at >= 'a' ? (char)(*at - 32) : *at;
        unsetenv(variable);
    }
    unsetenv("SKERRY_CONFIG");
    return 0;
}

/* One line that holds all of the parts. */
static void assert_said(const char *part, const char *also) {
    assert_int_equal(count_of(said, "\n"), 1);
    assert_int_equal(said[strlen(said) - 1], '\n');
    assert_ptr_equal(strstr(said, "shardd: bad configuration: "), said);
    if (strstr(said, part) == NULL || strstr(said, also) == NULL)
        fail_msg("'%s' lacks '%s' or '%s'", said, part, also);
}

static char file_path[] = "/tmp/skerry_config_test_XXXXXX";

static const char *file_of(const char *text, size_t size) {
    FILE *file = fopen(file_path, "w");
    assert_non_null(file);
    assert_int_equal(fwrite(text, 1, size, file), size);
    assert_int_equal(fclose(file), 0);
    return file_path;
}

#define FILE_OF(text) file_of(text, sizeof(text) - 1)

static void test_defaults(void **state) {
    (void)state;
    assert_int_equal(load("--data-dir", "/data", NULL), CONFIG_RUN);
    assert_string_equal(data_dir, "/data");
    assert_string_equal(listen_address, "tcp://0.0.0.0:7200");
    assert_int_equal(lanes, 0); /* a default may lie outside the bounds */
    assert_int_equal(memtable, 32 * 1024 * 1024);
    assert_int_equal(timeout_ms, 5000);
    assert_false(verbose);
    assert_int_equal(durability, 0);
    assert_string_equal(said, "");
}

static void test_flags_in_both_forms(void **state) {
    (void)state;
    assert_int_equal(load("--data-dir=/a=b", "--listen", "--odd", "--lanes=4", "--memtable-size", "1GiB",
                          "--timeout", "250ms", "--verbose", "--durability", "interval", NULL),
                     CONFIG_RUN);
    assert_string_equal(data_dir, "/a=b");
    assert_string_equal(listen_address, "--odd");
    assert_int_equal(lanes, 4);
    assert_int_equal(memtable, 1u << 30);
    assert_int_equal(timeout_ms, 250);
    assert_true(verbose);
    assert_int_equal(durability, 1);
    assert_int_equal(load("--data-dir", "/a", "--data-dir", "/b", NULL), CONFIG_RUN);
    assert_string_equal(data_dir, "/b"); /* the last one counts */
    assert_int_equal(load("--data-dir=/a", "--listen=", NULL), CONFIG_RUN);
    assert_string_equal(listen_address, "");
}

static void test_switches(void **state) {
    (void)state;
    assert_int_equal(load("--verbose", "--data-dir", "/a", NULL), CONFIG_RUN);
    assert_true(verbose);
    assert_int_equal(load("--verbose", "off", "--data-dir", "/a", NULL), CONFIG_RUN);
    assert_false(verbose);
    assert_int_equal(load("--verbose=YES", "--data-dir", "/a", NULL), CONFIG_RUN);
    assert_true(verbose);
    assert_int_equal(load("--verbose=maybe", "--data-dir", "/a", NULL), CONFIG_BAD);
    assert_said("--verbose", "\"maybe\"");
}

static void test_units(void **state) {
    (void)state;
    static const struct {
        const char *text;
        uint64_t number;
    } sizes[] = {{"1024", 1024},
                 {"2KiB", 2048},
                 {"3MiB", 3 << 20},
                 {"1TiB", 1ull << 40},
                 {"16777215TiB", 16777215ull << 40}};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        assert_int_equal(load("--data-dir=/a", "--memtable-size", sizes[i].text, NULL), CONFIG_RUN);
        assert_true(memtable == sizes[i].number);
    }
    static const char *const bad_sizes[] = {"",
                                            "x",
                                            "-1",
                                            "+1",
                                            "1.5MiB",
                                            "1MB",
                                            "1mib",
                                            "1 MiB",
                                            "0x10",
                                            "MiB",
                                            "99999999999999999999",
                                            "16777216TiB",
                                            "18446744073709551615KiB"};
    for (size_t i = 0; i < sizeof bad_sizes / sizeof bad_sizes[0]; i++) {
        assert_int_equal(load("--data-dir=/a", "--memtable-size", bad_sizes[i], NULL), CONFIG_BAD);
        assert_said("--memtable-size", bad_sizes[i]);
    }
    static const struct {
        const char *text;
        uint64_t number;
    } times[] = {{"0", 0}, {"7ms", 7}, {"7s", 7000}, {"1m", 60000}};
    for (size_t i = 0; i < sizeof times / sizeof times[0]; i++) {
        assert_int_equal(load("--data-dir=/a", "--timeout", times[i].text, NULL), CONFIG_RUN);
        assert_int_equal(timeout_ms, times[i].number);
    }
    assert_int_equal(load("--data-dir=/a", "--timeout", "10", NULL), CONFIG_BAD); /* of what? */
    assert_said("--timeout", "5s");
}

static void test_bounds(void **state) {
    (void)state;
    assert_int_equal(load("--data-dir=/a", "--lanes=1", NULL), CONFIG_RUN);
    assert_int_equal(load("--data-dir=/a", "--lanes=64", NULL), CONFIG_RUN);
    assert_int_equal(load("--data-dir=/a", "--lanes=0", NULL), CONFIG_BAD);
    assert_said("--lanes", "at least 1");
    assert_int_equal(load("--data-dir=/a", "--lanes=65", NULL), CONFIG_BAD);
    assert_said("--lanes", "at most 64");
    assert_int_equal(load("--data-dir=/a", "--lanes=18446744073709551616", NULL), CONFIG_BAD);
    assert_said("--lanes", "smaller");
    assert_int_equal(load("--data-dir=/a", "--timeout=2m", NULL), CONFIG_BAD);
    assert_said("--timeout", "60000 ms");
    assert_int_equal(load("--data-dir=/a", "--durability=never", NULL), CONFIG_BAD);
    assert_said("--durability wants always|interval", "\"never\"");
    assert_int_equal(load("--data-dir=/a", "--durability=alway", NULL), CONFIG_BAD);
    assert_int_equal(load("--data-dir=/a", "--durability=always|interval", NULL), CONFIG_BAD);
}

static void test_bad_flags(void **state) {
    (void)state;
    assert_int_equal(load("--data-dir=/a", "--lames=1", NULL), CONFIG_BAD);
    assert_said("unknown flag", "\"--lames=1\"");
    assert_int_equal(load("--data-dir=/a", "--lane=1", NULL), CONFIG_BAD); /* no abbreviations */
    assert_int_equal(load("stray\nline", "--data-dir=/a", NULL), CONFIG_BAD);
    assert_said("unexpected argument", "\"stray\\nline\"");
    assert_int_equal(load("--data-dir=/a", "--", NULL), CONFIG_BAD);
    assert_int_equal(load("--data-dir=/a", "-lanes", "1", NULL), CONFIG_BAD);
    assert_int_equal(load("--data-dir=/a", "", NULL), CONFIG_BAD);
    assert_int_equal(load("--data-dir=/a", "--lanes", NULL), CONFIG_BAD);
    assert_said("--lanes", "needs a value");
    assert_int_equal(load("--data-dir=/a", "--config", NULL), CONFIG_BAD);
    assert_said("--config", "needs a value");
    assert_int_equal(load("--data-dir=/a", "--config=", NULL), CONFIG_BAD);
}

static void test_required(void **state) {
    (void)state;
    assert_int_equal(load(NULL, NULL), CONFIG_BAD);
    assert_said("--data-dir is required", "SKERRY_DATA_DIR");
    assert_int_equal(load("--data-dir=", NULL), CONFIG_BAD);
    assert_said("--data-dir", "empty");
}

static void test_environment(void **state) {
    (void)state;
    setenv("SKERRY_DATA_DIR", "/from/env", 1);
    setenv("SKERRY_LANES", "8", 1);
    setenv("SKERRY_TIMEOUT", "", 1);         /* as good as not set */
    setenv("SKERRY_SOMETHING_ELSE", "x", 1); /* of another daemon */
    assert_int_equal(load("--lanes=2", NULL), CONFIG_RUN);
    assert_string_equal(data_dir, "/from/env");
    assert_int_equal(lanes, 2);
    assert_int_equal(timeout_ms, 5000);
    setenv("SKERRY_LANES", "many", 1);
    assert_int_equal(load(NULL, NULL), CONFIG_BAD);
    assert_said("SKERRY_LANES", "\"many\"");
    unsetenv("SKERRY_SOMETHING_ELSE");
}

static void test_file(void **state) {
    (void)state;
    FILE_OF("# a comment\ndata-dir: \"/from file\"\nlanes: 8\nverbose: on\n\ntimeout: 1m # so long\n");
    setenv("SKERRY_LANES", "9", 1);
    assert_int_equal(load("--config", file_path, "--timeout", "2s", NULL), CONFIG_RUN);
    assert_string_equal(data_dir, "/from file");
    assert_int_equal(lanes, 9);
    assert_int_equal(timeout_ms, 2000);
    assert_true(verbose);
    setenv("SKERRY_CONFIG", file_path, 1);
    unsetenv("SKERRY_LANES");
    assert_int_equal(load(NULL, NULL), CONFIG_RUN);
    assert_int_equal(lanes, 8);
    FILE_OF("{data-dir: /flow, lanes: 3}");
    assert_int_equal(load(NULL, NULL), CONFIG_RUN);
    assert_int_equal(lanes, 3);
    FILE_OF("");
    assert_int_equal(load("--data-dir=/a", NULL), CONFIG_RUN);
    FILE_OF("# nothing\n");
    assert_int_equal(load("--data-dir=/a", NULL), CONFIG_RUN);
}

/* Refused, naming the file and the line. */
static void assert_bad_file(const char *text, size_t size, unsigned line, const char *what) {
    char place[128];
    file_of(text, size);
    assert_int_equal(load("--data-dir=/a", "--config", file_path, NULL), CONFIG_BAD);
    snprintf(place, sizeof place, "%s:%u: ", file_path, line);
    assert_said(place, what);
}

#define ASSERT_BAD_FILE(text, line, what) assert_bad_file(text, sizeof(text) - 1, line, what)

static void test_bad_files(void **state) {
    (void)state;
    ASSERT_BAD_FILE("lanes: 1\nlames: 2\n", 2, "unknown key \"lames\"");
    ASSERT_BAD_FILE("lanes: 1\n\nlanes: 2\n", 3, "twice");
    ASSERT_BAD_FILE("lanes: many\n", 1, "\"many\"");
    ASSERT_BAD_FILE("timeout: 1s\nlanes: 65\n", 2, "at most 64");
    ASSERT_BAD_FILE("lanes: [1, 2]\n", 1, "list");
    ASSERT_BAD_FILE("- lanes\n", 1, "list");
    ASSERT_BAD_FILE("lanes:\n  - 1\n", 2, "list");
    ASSERT_BAD_FILE("lanes: {a: 1}\n", 1, "map");
    ASSERT_BAD_FILE("? {a: 1}\n: x\n", 1, "map");
    ASSERT_BAD_FILE("lanes\n", 1, "name: value");
    ASSERT_BAD_FILE("listen: &a x\ndata-dir: *a\n", 2, "alias");
    ASSERT_BAD_FILE("lanes: 1\n---\nlanes: 2\n", 2, "document");
    ASSERT_BAD_FILE("lanes: 1\n\tbad: [\n", 2, "not YAML");
    ASSERT_BAD_FILE("lanes: \"1\n", 2, "not YAML");
    ASSERT_BAD_FILE("listen: \"a\\0b\"\n", 1, "zero byte");
    ASSERT_BAD_FILE("config: other.yaml\n", 1, "unknown key"); /* a file names no other */
}

static void test_missing_files(void **state) {
    (void)state;
    assert_int_equal(load("--data-dir=/a", "--config=/nowhere/skerry.yaml", NULL), CONFIG_BAD);
    assert_said("--config: /nowhere/skerry.yaml", "No such file");
    assert_int_equal(load("--data-dir=/a", "--config=/tmp", NULL), CONFIG_BAD);
    assert_said("/tmp", "");
    setenv("SKERRY_CONFIG", "/nowhere/skerry.yaml", 1);
    assert_int_equal(load("--data-dir=/a", NULL), CONFIG_BAD);
    assert_said("SKERRY_CONFIG: /nowhere/skerry.yaml", "No such file");
}

static void test_help_and_version(void **state) {
    (void)state;
    assert_int_equal(load("--help", NULL), CONFIG_HELP);
    assert_string_equal(said, "");
    for (size_t i = 0; i < OPTION_COUNT; i++) {
        assert_non_null(strstr(printed, options[i].name));
        assert_non_null(strstr(printed, options[i].help));
        if (options[i].fallback != NULL) assert_non_null(strstr(printed, options[i].fallback));
    }
    assert_non_null(strstr(printed, "SKERRY_MEMTABLE_SIZE"));
    assert_non_null(strstr(printed, "keeps the data"));
    assert_non_null(strstr(printed, "required"));
    assert_non_null(strstr(printed, "--config"));
    assert_int_equal(load("--data-dir=/a", "--version", "--nonsense", NULL), CONFIG_HELP);
    assert_non_null(strstr(printed, SKERRY_VERSION));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, NULL, release)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(test_defaults), TEST(test_flags_in_both_forms), TEST(test_switches),      TEST(test_units),
        TEST(test_bounds),   TEST(test_bad_flags),           TEST(test_required),      TEST(test_environment),
        TEST(test_file),     TEST(test_bad_files),           TEST(test_missing_files), TEST(test_help_and_version),
    };
    int fd = mkstemp(file_path);
    if (fd < 0) return 1;
    close(fd);
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    unlink(file_path);
    return failed;
}
