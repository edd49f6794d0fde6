/* Where bytes are text (UTF-8, RFC 3629). Pure. */
#pragma once

#include "libcommon/slice.h"

/* Bytes of the character at the front of `text`, which is not empty; 0: there is none. Neither overlong forms, nor
 * surrogates, nor beyond U+10FFFF. */
size_t utf8_character_bytes(struct slice text);

/* Whether all of it is characters that people read: no control characters but tab, line feed and carriage return. */
bool utf8_is_readable(struct slice text);

/* Writes a character (not a surrogate, up to U+10FFFF) into `room`; answers its bytes. */
size_t utf8_encode(uint32_t character, uint8_t room[4]);
