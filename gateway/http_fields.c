#include "gateway/http_fields.h"

#include <arpa/inet.h>
#include <strings.h>

static void skip_space(struct slice *text) {
    while (text->size > 0 && (text->data[0] == ' ' || text->data[0] == '\t')) {
        *text = slice_of(text->data + 1, text->size - 1);
    }
}

static struct slice trimmed(struct slice text) {
    skip_space(&text);
    while (text.size > 0 && (text.data[text.size - 1] == ' ' || text.data[text.size - 1] == '\t')) text.size--;
    return text;
}

/* In any case, as HTTP compares most of its words. */
static bool is_word(struct slice text, const char *word) {
    return text.size == strlen(word) &&
           (text.size == 0 || strncasecmp((const char *)text.data, word, text.size) == 0);
}

static bool begins_with(struct slice text, const char *word) {
    return text.size >= strlen(word) && strncasecmp((const char *)text.data, word, strlen(word)) == 0;
}

static bool take(struct slice *text, const char *word) {
    size_t size = strlen(word);
    if (text->size < size || memcmp(text->data, word, size) != 0) return false;
    *text = slice_of(text->data + size, text->size - size);
    return true;
}

/* ---- If-Match, If-None-Match ---- */

/* 0: it is none that was answered here. */
static uint64_t version_of(struct slice opaque) {
    uint64_t version = 0;
    if (opaque.size == 0 || opaque.size > 19 || opaque.data[0] == '0') return 0;
    for (size_t i = 0; i < opaque.size; i++) {
        if (opaque.data[i] < '0' || opaque.data[i] > '9') return 0;
        version = version * 10 + (uint64_t)(opaque.data[i] - '0');
    }
    return version;
}

static bool take_etag(struct slice *field, struct http_etag *etag) {
    etag->weak = take(field, "W/");
    if (!take(field, "\"")) return false;
    struct slice opaque;
    if (!slice_cut(field, '"', &opaque)) return false;
    for (size_t i = 0; i < opaque.size; i++) {
        if (opaque.data[i] < 0x21 || opaque.data[i] == 0x7f) return false;
    }
    etag->version = version_of(opaque);
    return true;
}

bool http_etags_read(struct http_etags *etags, struct slice field) {
    *etags = (struct http_etags){.given = true};
    field = trimmed(field);
    if (is_word(field, "*")) {
        etags->any = true;
        return true;
    }
    while (etags->count < HTTP_ETAGS_MAX) {
        if (!take_etag(&field, &etags->list[etags->count++])) return false;
        skip_space(&field);
        if (field.size == 0) return true;
        if (!take(&field, ",")) return false;
        skip_space(&field);
    }
    return false;
}

bool http_etags_match(const struct http_etags *etags, uint64_t version, bool strong) {
    if (version == 0) return false;
    if (etags->any) return true;
    for (size_t i = 0; i < etags->count; i++) {
        if (etags->list[i].version == version && !(strong && etags->list[i].weak)) return true;
    }
    return false;
}

/* ---- content ---- */

/* "0.5" in thousandths; what is no such number is 0. */
static unsigned read_quality(struct slice text) {
    unsigned quality = 0, digit = 1000;
    if (text.size == 0 || text.size > 5 || (text.data[0] != '0' && text.data[0] != '1')) return 0;
    if (text.size > 1 && text.data[1] != '.') return 0;
    for (size_t i = 0; i < text.size; i++) {
        if (i == 1) continue;
        if (text.data[i] < '0' || text.data[i] > '9') return 0;
        quality += (unsigned)(text.data[i] - '0') * digit;
        digit /= 10;
    }
    return quality > 1000 ? 1000 : quality;
}

/* How exactly a range names the type: 0 not, 1 any type, 2 its kind, 3 itself. */
static unsigned exactness(struct slice range, const char *type) {
    size_t kind = strcspn(type, "/") + 1;
    if (is_word(range, "*/*")) return 1;
    if (is_word(range, type)) return 3;
    bool of_kind = range.size == kind + 1 && range.data[kind] == '*' &&
                   strncasecmp((const char *)range.data, type, kind) == 0;
    return of_kind ? 2 : 0;
}

unsigned http_accepts(struct slice accept, const char *type) {
    unsigned best = 0, wanted = 0;
    struct slice range, part;
    if (trimmed(accept).size == 0) return 1000;
    for (bool more = true; more;) {
        more = slice_cut(&accept, ',', &range);
        bool parameters = slice_cut(&range, ';', &part);
        unsigned exact = exactness(trimmed(part), type), quality = 1000;
        while (parameters) {
            parameters = slice_cut(&range, ';', &part);
            part = trimmed(part);
            if (begins_with(part, "q=")) quality = read_quality(slice_of(part.data + 2, part.size - 2));
        }
        if (exact <= best) continue; /* the most exact range counts (RFC 9110, 12.5.1) */
        best = exact;
        wanted = quality;
    }
    return wanted;
}

bool http_type_is(struct slice content_type, const char *type) {
    struct slice name;
    (void)slice_cut(&content_type, ';', &name);
    return is_word(trimmed(name), type);
}

/* ---- who asks ---- */

bool http_bearer(struct slice authorization, struct slice *token) {
    static const char scheme[] = "Bearer ";
    authorization = trimmed(authorization);
    if (!begins_with(authorization, scheme)) return false;
    *token = trimmed(slice_of(authorization.data + sizeof scheme - 1, authorization.size - (sizeof scheme - 1)));
    return token->size > 0;
}

/* "name" of "name:7480", "::1" of "[::1]:7480". */
static struct slice without_port(struct slice host) {
    struct slice name;
    if (host.size > 0 && host.data[0] == '[') {
        host = slice_of(host.data + 1, host.size - 1);
        (void)slice_cut(&host, ']', &name);
        return name;
    }
    (void)slice_cut(&host, ':', &name);
    return name;
}

static bool is_address(struct slice name) {
    char text[INET6_ADDRSTRLEN];
    uint8_t room[sizeof(struct in6_addr)];
    if (name.size >= sizeof text) return false;
    if (name.size > 0) memcpy(text, name.data, name.size);
    text[name.size] = '\0';
    return inet_pton(AF_INET, text, room) == 1 || inet_pton(AF_INET6, text, room) == 1;
}

static bool is_in_list(struct slice name, const char *names) {
    struct slice rest = slice_of_text(names), one;
    for (bool more = true; more;) {
        more = slice_cut(&rest, ',', &one);
        one = trimmed(one);
        if (slice_equal(one, slice_of_text("*"))) return true;
        if (one.size > 0 && one.size == name.size &&
            strncasecmp((const char *)one.data, (const char *)name.data, one.size) == 0) {
            return true;
        }
    }
    return false;
}

/* Below a domain that nobody can have on the internet (RFC 6761, RFC 6762, ICANN's .internal; .svc is Kubernetes's). */
static bool is_below_private(struct slice name) {
    static const char *const domains[] = {".localhost", ".local", ".internal", ".svc"};
    for (size_t i = 0; i < sizeof domains / sizeof *domains; i++) {
        size_t size = strlen(domains[i]);
        if (name.size > size && is_word(slice_of(name.data + name.size - size, size), domains[i])) return true;
    }
    return false;
}

bool http_host_is_ours(struct slice host, const char *names) {
    struct slice name = without_port(trimmed(host));
    if (is_in_list(name, names)) return true;
    if (name.size == 0) return false;
    bool one_label = memchr(name.data, '.', name.size) == NULL;
    return one_label || is_below_private(name) || is_address(name);
}

bool http_origin_is_host(struct slice origin, struct slice host) {
    origin = trimmed(origin);
    host = trimmed(host);
    if (!take(&origin, "http://") && !take(&origin, "https://")) return false;
    return origin.size == host.size &&
           (host.size == 0 || strncasecmp((const char *)origin.data, (const char *)host.data, host.size) == 0);
}
