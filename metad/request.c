#include "metad/request.h"

#include "libcommon/error.h"
#include "libcommon/limits.h"
#include "libcommon/mp.h"

#include <stdio.h>

static int bad(char text[REQUEST_TEXT_BYTES], const char *what) {
    (void)snprintf(text, REQUEST_TEXT_BYTES, "%s", what);
    return SK_BADREQUEST;
}

/* The keys of a registration. */
enum field {
    FIELD_STORE_ID,
    FIELD_NODE_ID,
    FIELD_CLUSTER,
    FIELD_LANES,
    FIELD_HOST,
    FIELD_FRAMES_ADDRESS,
    FIELD_REPLICATION_ADDRESS,
    FIELD_START,
    FIELD_UNKNOWN,
};

static const char *const field_names[FIELD_UNKNOWN] = {
    [FIELD_STORE_ID] = "store_id",
    [FIELD_NODE_ID] = "node_id",
    [FIELD_CLUSTER] = "cluster",
    [FIELD_LANES] = "lanes",
    [FIELD_HOST] = "host",
    [FIELD_FRAMES_ADDRESS] = "frames_address",
    [FIELD_REPLICATION_ADDRESS] = "replication_address",
    [FIELD_START] = "start",
};

static enum field find_field(struct slice name) {
    for (enum field field = 0; field < FIELD_UNKNOWN; field++) {
        if (slice_equal(name, slice_of_text(field_names[field]))) return field;
    }
    return FIELD_UNKNOWN;
}

static bool read_u32(struct mp_reader *reader, uint32_t most, uint32_t *number) {
    uint64_t wide;
    if (mp_read_uint(reader, &wide) != SK_OK || wide > most) return false;
    *number = (uint32_t)wide;
    return true;
}

static bool read_store_id(struct mp_reader *reader, uint8_t store_id[16]) {
    struct slice bytes;
    if (mp_read_bytes(reader, &bytes) != SK_OK || bytes.size != 16) return false;
    memcpy(store_id, bytes.data, 16);
    return true;
}

/* Printable, not empty, and short enough for the map. */
static bool read_address(struct mp_reader *reader, char room[MAP_ADDRESS_BYTES]) {
    struct slice bytes;
    if (mp_read_bytes(reader, &bytes) != SK_OK || bytes.size == 0 || bytes.size >= MAP_ADDRESS_BYTES) return false;
    for (size_t i = 0; i < bytes.size; i++) {
        if (bytes.data[i] <= ' ' || bytes.data[i] == 0x7f) return false;
    }
    memcpy(room, bytes.data, bytes.size);
    room[bytes.size] = 0;
    return true;
}

static bool read_start_name(struct mp_reader *reader, struct command_register_node *registration) {
    struct slice bytes;
    if (mp_read_bytes(reader, &bytes) != SK_OK || bytes.size > COMMAND_START_NAME_BYTES) return false;
    registration->start_name_bytes = (uint32_t)bytes.size;
    if (bytes.size > 0) memcpy(registration->start_name, bytes.data, bytes.size);
    return true;
}

static bool read_field(struct mp_reader *reader, enum field field, struct command_register_node *registration) {
    switch (field) {
    case FIELD_STORE_ID:
        return read_store_id(reader, registration->store_id);
    case FIELD_NODE_ID:
        return read_u32(reader, UINT32_MAX, &registration->node_id);
    case FIELD_CLUSTER:
        return mp_read_uint(reader, &registration->cluster) == SK_OK;
    case FIELD_LANES:
        return read_u32(reader, REQUEST_LANES_MAX, &registration->lanes) && registration->lanes > 0;
    case FIELD_HOST:
        return read_address(reader, registration->host);
    case FIELD_FRAMES_ADDRESS:
        return read_address(reader, registration->frames_address);
    case FIELD_REPLICATION_ADDRESS:
        return read_address(reader, registration->replication_address);
    case FIELD_START:
        return read_start_name(reader, registration);
    case FIELD_UNKNOWN:
        break;
    }
    return mp_skip(reader, NULL) == SK_OK; /* a newer daemon may say more */
}

static int decode_registration(struct mp_reader *reader, enum request_sender sender,
                               struct command_register_node *registration, char text[REQUEST_TEXT_BYTES]) {
    uint32_t pairs;
    if (mp_read_map(reader, &pairs) != SK_OK) return bad(text, "register: the second parameter is a map");
    unsigned seen = 0;
    for (uint32_t i = 0; i < pairs; i++) {
        struct slice name;
        if (mp_read_bytes(reader, &name) != SK_OK) return bad(text, "register: a key is not a string");
        enum field field = find_field(name);
        if (!read_field(reader, field, registration)) {
            (void)snprintf(text, REQUEST_TEXT_BYTES, "register: `%s` is not valid",
                           field == FIELD_UNKNOWN ? "?" : field_names[field]);
            return SK_BADREQUEST;
        }
        seen |= 1u << field;
    }
    unsigned needed = 1u << FIELD_STORE_ID | 1u << FIELD_HOST | 1u << FIELD_FRAMES_ADDRESS;
    if (sender == REQUEST_SHARDD) needed |= 1u << FIELD_LANES | 1u << FIELD_REPLICATION_ADDRESS;
    for (enum field field = 0; field < FIELD_UNKNOWN; field++) {
        if ((needed & 1u << field) == 0 || (seen & 1u << field) != 0) continue;
        (void)snprintf(text, REQUEST_TEXT_BYTES, "register: `%s` is missing", field_names[field]);
        return SK_BADREQUEST;
    }
    return SK_OK;
}

static int decode_heartbeat(struct mp_reader *reader, struct request_heartbeat *heartbeat,
                            char text[REQUEST_TEXT_BYTES]) {
    if (!read_u32(reader, UINT32_MAX, &heartbeat->node_id)) return bad(text, "heartbeat: node_id is not valid");
    if (mp_read_uint(reader, &heartbeat->incarnation) != SK_OK) {
        return bad(text, "heartbeat: incarnation is not valid");
    }
    if (!read_store_id(reader, heartbeat->store_id)) return bad(text, "heartbeat: store_id is 16 bytes");
    struct mp_reader stats = *reader;
    uint32_t pairs;
    if (mp_read_map(&stats, &pairs) != SK_OK || mp_skip(reader, &heartbeat->stats) != SK_OK) {
        return bad(text, "heartbeat: stats is a map");
    }
    if (heartbeat->stats.size > REQUEST_STATS_BYTES_MAX) {
        (void)bad(text, "heartbeat: stats is larger than 64 KiB");
        return SK_TOOLARGE;
    }
    return SK_OK;
}

static int decode_change(struct mp_reader *reader, struct request_change *request, char text[REQUEST_TEXT_BYTES]) {
    if (!read_u32(reader, UINT32_MAX, &request->node_id)) return bad(text, "change: node_id is not valid");
    if (mp_read_uint(reader, &request->incarnation) != SK_OK) return bad(text, "change: incarnation is not valid");
    if (!read_store_id(reader, request->store_id)) return bad(text, "change: store_id is 16 bytes");
    if (mp_read_array(reader, &request->count) != SK_OK || request->count == 0) {
        return bad(text, "change: the changes are an array, and not empty");
    }
    if (request->count > SHARD_CHANGES_MAX) {
        (void)bad(text, "change: more than 4096 changes");
        return SK_TOOLARGE;
    }
    const uint8_t *start = reader->at;
    for (uint32_t i = 0; i < request->count; i++) {
        struct shard_change change;
        if (shard_change_decode(reader, &change) == SK_OK) continue;
        (void)snprintf(text, REQUEST_TEXT_BYTES, "change: number %u is not valid", (unsigned)i + 1);
        return SK_BADREQUEST;
    }
    request->changes = slice_of(start, (size_t)(reader->at - start));
    return SK_OK;
}

static int decode_leader(struct mp_reader *reader, struct request_leader *leader, char text[REQUEST_TEXT_BYTES]) {
    if (!read_u32(reader, SHARD_COUNT_MAX - 1, &leader->shard)) return bad(text, "the shard is not valid");
    if (!read_u32(reader, UINT32_MAX, &leader->node) || leader->node == 0)
        return bad(text, "the node is not valid");
    return SK_OK;
}

static int decode_node(struct mp_reader *reader, struct request_node *node, char text[REQUEST_TEXT_BYTES]) {
    static const char *const names[] = {
        [COMMAND_NODE_ADD] = "add", [COMMAND_NODE_DRAIN] = "drain", [COMMAND_NODE_REMOVE] = "remove"};
    struct slice name;
    if (!read_u32(reader, UINT32_MAX, &node->node) || node->node == 0) return bad(text, "the node is not valid");
    if (mp_read_bytes(reader, &name) == SK_OK) {
        for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
            if (!slice_equal(name, slice_of_text(names[i]))) continue;
            node->change = (enum command_node)i;
            return SK_OK;
        }
    }
    return bad(text, "node: \"add\", \"drain\" or \"remove\"");
}

static bool read_sender(struct mp_reader *reader, enum request_sender *sender) {
    struct slice name;
    if (mp_read_bytes(reader, &name) != SK_OK) return false;
    *sender = slice_equal(name, slice_of_text("gateway")) ? REQUEST_GATEWAY : REQUEST_SHARDD;
    return *sender == REQUEST_GATEWAY || slice_equal(name, slice_of_text("shardd"));
}

static int decode_server(struct mp_reader *reader, struct request_server *server, char text[REQUEST_TEXT_BYTES]) {
    struct slice change;
    if (mp_read_bytes(reader, &change) != SK_OK) return bad(text, "server: the change is \"add\" or \"remove\"");
    server->add = slice_equal(change, slice_of_text("add"));
    if (!server->add && !slice_equal(change, slice_of_text("remove"))) {
        return bad(text, "server: the change is \"add\" or \"remove\"");
    }
    return mp_read_bytes(reader, &server->name) == SK_OK ? SK_OK : bad(text, "server: the name is \"host:port\"");
}

static bool find_method(struct slice name, enum request_method *method, uint32_t *parameters) {
    static const struct {
        const char *name;
        uint32_t parameters;
    } methods[] = {
        [REQUEST_REGISTER] = {"register", 2},
        [REQUEST_HEARTBEAT] = {"heartbeat", 5},
        [REQUEST_MAP] = {"map", 1},
        [REQUEST_STATUS] = {"status", 0},
        [REQUEST_CHANGE] = {"change", 4},
        [REQUEST_HANDOVER] = {"handover", 2},
        [REQUEST_FORCE_LEADER] = {"force_leader", 2},
        [REQUEST_CHANGE_NODE] = {"node", 2},
        [REQUEST_VERIFY] = {"verify", 0},
        [REQUEST_CHANGE_SERVER] = {"server", 2},
    };
    for (size_t i = 0; i < sizeof methods / sizeof methods[0]; i++) {
        if (!slice_equal(name, slice_of_text(methods[i].name))) continue;
        *method = (enum request_method)i;
        *parameters = methods[i].parameters;
        return true;
    }
    return false;
}

static int decode_parameters(struct mp_reader *reader, struct request *request, char text[REQUEST_TEXT_BYTES]) {
    bool has_sender = request->method == REQUEST_REGISTER || request->method == REQUEST_HEARTBEAT;
    if (has_sender && !read_sender(reader, &request->sender)) {
        return bad(text, "the first parameter is \"shardd\" or \"gateway\"");
    }
    switch (request->method) {
    case REQUEST_REGISTER:
        return decode_registration(reader, request->sender, &request->registration, text);
    case REQUEST_HEARTBEAT:
        return decode_heartbeat(reader, &request->heartbeat, text);
    case REQUEST_MAP:
        return mp_read_uint(reader, &request->known_version) == SK_OK
                   ? SK_OK
                   : bad(text, "map: known_version is not valid");
    case REQUEST_CHANGE:
        return decode_change(reader, &request->change, text);
    case REQUEST_HANDOVER:
    case REQUEST_FORCE_LEADER:
        return decode_leader(reader, &request->leader, text);
    case REQUEST_CHANGE_NODE:
        return decode_node(reader, &request->node, text);
    case REQUEST_CHANGE_SERVER:
        return decode_server(reader, &request->server, text);
    case REQUEST_STATUS:
    case REQUEST_VERIFY:
        break;
    }
    return SK_OK;
}

int request_decode(struct slice message, struct request *request, char text[REQUEST_TEXT_BYTES]) {
    *request = (struct request){0};
    struct mp_reader reader = mp_reader_of(message);
    uint32_t count, given, wanted;
    uint64_t type, msgid;
    struct slice method;
    if (mp_read_array(&reader, &count) != SK_OK || count != 4) {
        return bad(text, "a request is [0, msgid, method, params]");
    }
    if (mp_read_uint(&reader, &type) != SK_OK || type != 0) return bad(text, "a request begins with 0");
    if (mp_read_uint(&reader, &msgid) != SK_OK) return bad(text, "msgid is not valid");
    request->msgid = msgid;
    if (mp_read_bytes(&reader, &method) != SK_OK) return bad(text, "the method is not a string");
    if (!find_method(method, &request->method, &wanted)) return bad(text, "unknown method");
    if (mp_read_array(&reader, &given) != SK_OK) return bad(text, "params is not an array");
    if (given != wanted) return bad(text, "wrong number of parameters");
    int err = decode_parameters(&reader, request, text);
    if (err == SK_OK && mp_left(&reader) > 0) return bad(text, "bytes after the request");
    return err;
}

void request_encode_result_head(struct buffer *buffer, uint64_t msgid) {
    mp_write_array(buffer, 4);
    mp_write_uint(buffer, 1);
    mp_write_uint(buffer, msgid);
    mp_write_nil(buffer);
}

void request_encode_error(struct buffer *buffer, uint64_t msgid, int err, const char *text) {
    if (err < 0) err = SK_INTERNAL;
    mp_write_array(buffer, 4);
    mp_write_uint(buffer, 1);
    mp_write_uint(buffer, msgid);
    mp_write_array(buffer, 2);
    mp_write_text(buffer, error_name(err));
    mp_write_text(buffer, text != NULL && text[0] != 0 ? text : error_text(err));
    mp_write_nil(buffer);
}
