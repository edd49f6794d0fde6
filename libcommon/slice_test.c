#include "slice.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static void cutting_gives_every_part(void **state) {
    (void)state;
    struct slice rest = slice_of_text("a,,bc,"), part;
    static const char *const parts[] = {"a", "", "bc"};
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        assert_true(slice_cut(&rest, ',', &part));
        assert_true(slice_equal(part, slice_of_text(parts[i])));
    }
    assert_false(slice_cut(&rest, ',', &part));
    assert_int_equal(part.size, 0);
    rest = slice_of(NULL, 0);
    assert_false(slice_cut(&rest, ',', &part));
    assert_int_equal(part.size, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(cutting_gives_every_part)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
