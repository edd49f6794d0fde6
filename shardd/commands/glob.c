#include "shardd/commands/glob.h"

/* Matches one byte against the class that begins behind '['. `at` moves behind its ']'; a class that is not closed
 * ends with the pattern. */
static bool class_match(struct slice pattern, size_t *at, uint8_t byte) {
    size_t i = *at;
    bool negated = i < pattern.size && pattern.data[i] == '^';
    if (negated) i++;
    bool matched = false;
    while (i < pattern.size && pattern.data[i] != ']') {
        const uint8_t *here = pattern.data + i;
        size_t left = pattern.size - i;
        if (here[0] == '\\' && left >= 2) {
            matched |= here[1] == byte;
            i += 2;
        } else if (left >= 3 && here[1] == '-') {
            uint8_t low = here[0] < here[2] ? here[0] : here[2];
            uint8_t high = here[0] < here[2] ? here[2] : here[0];
            matched |= byte >= low && byte <= high;
            i += 3;
        } else {
            matched |= here[0] == byte;
            i++;
        }
    }
    *at = i < pattern.size ? i + 1 : i;
    return matched != negated;
}

/* Matches one byte against the pattern at `at`, not a star; `at` moves behind what stands for it. */
static bool step_match(struct slice pattern, size_t *at, uint8_t byte) {
    uint8_t here = pattern.data[(*at)++];
    if (here == '?') return true;
    if (here == '[') return class_match(pattern, at, byte);
    if (here == '\\' && *at < pattern.size) here = pattern.data[(*at)++];
    return here == byte;
}

/* Only the last star ever has to take more: what an earlier one took is as good as any. */
bool glob_match(struct slice pattern, struct slice text) {
    size_t at = 0, read = 0;
    size_t star = SIZE_MAX, star_read = 0; /* behind the last star, and where in the text it ends for now */
    while (read < text.size) {
        if (at < pattern.size && pattern.data[at] == '*') {
            star = ++at;
            star_read = read;
        } else if (at < pattern.size && step_match(pattern, &at, text.data[read])) {
            read++;
        } else if (star != SIZE_MAX) {
            at = star;
            read = ++star_read;
        } else {
            return false;
        }
    }
    while (at < pattern.size && pattern.data[at] == '*') at++;
    return at == pattern.size;
}
