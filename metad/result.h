/* Results of requests, as they go into replies (docs/ARCHITECTURE.md, "Requests to metad"): each function appends one
 * encoded value. Failure shows in result->failed. Pure; any thread. */
#pragma once

#include "metad/catalog.h"

/* {cluster, node_id, incarnation} */
void result_encode_registration(struct buffer *result, const struct catalog_answer *answer);

/* {map_version} */
void result_encode_version(struct buffer *result, uint64_t map_version);

/* {map_version, changes: [[nil or [code, text], config_version], …]} */
void result_encode_changes(struct buffer *result, uint64_t map_version, const struct catalog_answer *answer);

/* {map_version, generation} */
void result_encode_verify(struct buffer *result, uint64_t map_version, const struct catalog_answer *answer);

/* {map_version, config_version} */
void result_encode_record(struct buffer *result, uint64_t map_version, const struct catalog_answer *answer);
