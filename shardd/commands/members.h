/* The named elements of a collection (fields of a hash, members of a set) as answers: all of them, or some by chance.
 *
 * How chance chooses. Elements lie in the order of their hashes, which spread evenly over 48 bits. A small collection is counted
 * through: of 128 elements or fewer each is exactly as likely as the others. The order of a larger one is cut into cells of equal
 * width, 16 elements to a cell in the mean. A draw takes a cell and a rank from 0 to 63, and draws again if the cell has no element of
 * that rank; so again each is exactly as likely as the others, as long as no cell has more than 64. By chance none ever has. Whoever
 * crafts names with equal hashes can bring it about: what lies behind the 64th of a cell is then drawn less often or never.
 * Many of a few, without repetition, are chosen while walking over all (Knuth, volume 2, 3.4.2, algorithm S), exactly. */
#pragma once

#include "shardd/collection.h"

/* What one draw may ask for, unless it is all. */
#define MEMBERS_DRAWN_MAX 10000u

/* Adds an element to the answer; name and value live until it returns. */
typedef void members_cb(struct call *call, struct slice name, struct slice value);

void members_add_name(struct call *call, struct slice name, struct slice value);
void members_add_value(struct call *call, struct slice name, struct slice value);
void members_add_both(struct call *call, struct slice name, struct slice value); /* one after the other */
void members_add_pair(struct call *call, struct slice name, struct slice value); /* as an array of two */

/* Adds all, in their order. SK_OK, SK_TOOLARGE (told: the answer would be), or a fault. */
int members_walk(struct call *call, const struct collection *collection, members_cb *add);

/* Adds one by chance. The collection has elements. */
int members_draw_one(struct call *call, const struct collection *collection, members_cb *add);

/* Answers an array of `count` by chance, or of all if it has not more; negative: that many, with repetition. SK_OK, SK_TOOLARGE
 * (told), or a fault. */
int members_draw(struct call *call, const struct collection *collection, int64_t count, members_cb *add);

/* A count as SRANDMEMBER and HRANDFIELD take it. SK_OK or SK_BADREQUEST (told). */
int members_read_count(struct call *call, struct slice text, int64_t *count);
