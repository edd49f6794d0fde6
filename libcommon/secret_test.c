#include "secret.h"

#include "error.h"
#include "testing.h"

static char path[] = "/tmp/secret-XXXXXX";

static int make_file(void **state) {
    (void)state;
    int fd = mkstemp(path);
    return fd < 0 ? -1 : close(fd);
}

static int remove_file(void **state) {
    (void)state;
    return unlink(path);
}

static void write_file(const char *content, size_t size) {
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    assert_int_equal(fwrite(content, 1, size, file), size);
    fclose(file);
}

static void test_secret(void **state) {
    (void)state;
    struct buffer secret;
    char text[512];
    buffer_init(&secret);
    write_file("sixteen  bytes\0. \r\n\n", 20);
    assert_int_equal(secret_read(&secret, "--secret-file", path, text, sizeof text), SK_OK);
    assert_int_equal(secret.size, 16);
    assert_memory_equal(secret.data, "sixteen  bytes\0.", 16);

    write_file("sixteen bytes?!\n", 16);
    assert_int_equal(secret_read(&secret, "--secret-file", path, text, sizeof text), SK_ECONFIG);
    assert_non_null(strstr(text, "--secret-file: /tmp/secret-"));
    char *large = calloc(1, SECRET_BYTES_MAX + 1);
    memset(large, 'x', SECRET_BYTES_MAX + 1);
    write_file(large, SECRET_BYTES_MAX + 1);
    assert_int_equal(secret_read(&secret, "--secret-file", path, text, sizeof text), SK_ECONFIG);
    free(large);
    assert_int_equal(secret_read(&secret, "--secret-file", "/none/of/it", text, sizeof text), SK_ECONFIG);
    assert_string_equal(text, "--secret-file: /none/of/it: No such file or directory");
    assert_int_equal(secret_read(&secret, "--secret-file", "/", text, sizeof text), SK_ECONFIG);
    buffer_deinit(&secret);
}

static int read_tokens(struct tokens **tokens, const char *content, char *text, size_t text_bytes) {
    write_file(content, strlen(content));
    return tokens_read(tokens, "--token-file", path, text, text_bytes);
}

static void test_tokens(void **state) {
    (void)state;
    struct tokens *tokens;
    char text[512];
    assert_int_equal(read_tokens(&tokens, "\n the first of three\r\n\nthe second of three\nthe last one of all",
                                 text, sizeof text),
                     SK_OK);
    assert_true(slice_equal(tokens_first(tokens), slice_of_text(" the first of three")));
    static const char *const good[] = {" the first of three", "the second of three", "the last one of all"};
    static const char *const bad[] = {"", "the first of three", "the second of threE", "the second of three\n",
                                      "\n"};
    for (size_t i = 0; i < 3; i++) assert_true(tokens_match(tokens, slice_of_text(good[i])));
    for (size_t i = 0; i < 5; i++) assert_false(tokens_match(tokens, slice_of_text(bad[i])));
    tokens_free(tokens);
}

static void test_bad_tokens(void **state) {
    (void)state;
    struct tokens *tokens;
    char text[512], many[TOKENS_MAX * 18 + 32] = "";
    assert_int_equal(read_tokens(&tokens, "", text, sizeof text), SK_ECONFIG);
    assert_int_equal(read_tokens(&tokens, "\n\n", text, sizeof text), SK_ECONFIG);
    assert_int_equal(read_tokens(&tokens, "long enough a token\nshort\n", text, sizeof text), SK_ECONFIG);
    assert_non_null(strstr(text, "a token has 16 to 4096 bytes"));
    for (unsigned i = 0; i < TOKENS_MAX; i++) strcat(many, "sixteen bytes it\n");
    assert_int_equal(read_tokens(&tokens, many, text, sizeof text), SK_OK);
    tokens_free(tokens);
    strcat(many, "sixteen bytes it\n");
    assert_int_equal(read_tokens(&tokens, many, text, sizeof text), SK_ECONFIG);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_secret),
        cmocka_unit_test(test_tokens),
        cmocka_unit_test(test_bad_tokens),
    };
    return cmocka_run_group_tests(tests, make_file, remove_file);
}
