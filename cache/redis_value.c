#include "cache/redis_value.h"

#include <stdlib.h>
#include <string.h>

/* DESIGN. A value is
 *
 *     1 | mark (key id, sum) | payload
 *
 * with big-endian numbers and counted strings in the payload. The mark covers the user, the
 * kind, the epoch, for items the field it stands in, and the payload. */

enum { FORMAT = 1, HEAD_BYTES = 1 + RG_MAC_BYTES, GROUPS_MAX = 65535, STRING_MAX = 65535 };

static const char STATE[] = "state", ITEM[] = "item", CHANGE[] = "change", END[] = "end",
                  DIGEST[] = "digest";

/* ---- writing */

static void put_u16(struct rg_buf *buf, size_t value)
{
    rg_buf_putc(buf, (char)(value >> 8 & 0xff));
    rg_buf_putc(buf, (char)(value & 0xff));
}

static void put_u64(struct rg_buf *buf, uint64_t value)
{
    char bytes[8];

    for (int i = 7; i >= 0; i--, value >>= 8)
        bytes[i] = (char)(value & 0xff);
    rg_buf_append(buf, bytes, sizeof(bytes));
}

static void put_string(struct rg_buf *buf, const char *text, size_t len)
{
    if (len > STRING_MAX) {
        buf->failed = true; /* the limits of rosters are far below */
        return;
    }
    put_u16(buf, len);
    rg_buf_append(buf, text, len);
}

static void put_stamp(struct rg_buf *buf, struct rg_stamp stamp)
{
    put_u64(buf, stamp.mark);
    put_u64(buf, stamp.seq);
}

static void put_item_payload(struct rg_buf *buf, const struct rg_item *item)
{
    if (item->n_groups > GROUPS_MAX) {
        buf->failed = true;
        return;
    }
    put_stamp(buf, item->changed);
    rg_buf_putc(buf, (char)((unsigned)item->subscription | (unsigned)item->ask << 2 |
                            (unsigned)item->approved << 3));
    put_string(buf, item->name != NULL ? item->name : "",
               item->name != NULL ? strlen(item->name) : 0);
    put_u16(buf, item->n_groups);
    for (size_t i = 0; i < item->n_groups; i++)
        put_string(buf, item->groups[i], strlen(item->groups[i]));
}

struct covered {
    uint8_t epoch[8];
    struct rg_mac_part parts[5];
};

static void cover(struct covered *covered, const struct rg_redis_place *place, const char *kind,
                  uint64_t epoch, const char *field, size_t field_len, const void *payload,
                  size_t len)
{
    for (int i = 7; i >= 0; i--, epoch >>= 8)
        covered->epoch[i] = (uint8_t)epoch;
    covered->parts[0] = (struct rg_mac_part){place->user, strlen(place->user)};
    covered->parts[1] = (struct rg_mac_part){kind, strlen(kind)};
    covered->parts[2] = (struct rg_mac_part){covered->epoch, sizeof(covered->epoch)};
    covered->parts[3] = (struct rg_mac_part){field, field_len};
    covered->parts[4] = (struct rg_mac_part){payload, len};
}

/* Appends payload with its head. */
static void put_sealed(struct rg_buf *buf, const struct rg_redis_place *place, const char *kind,
                       uint64_t epoch, const char *field, struct rg_buf *payload)
{
    uint8_t mark[RG_MAC_BYTES];
    struct covered covered;

    if (rg_buf_failed(payload)) {
        buf->failed = true;
        return;
    }
    cover(&covered, place, kind, epoch, field, strlen(field), payload->data, payload->len);
    rg_mac_mark(place->mac, covered.parts, RG_ARRAY_LEN(covered.parts), mark);
    rg_buf_putc(buf, FORMAT);
    rg_buf_append(buf, mark, sizeof(mark));
    rg_buf_append(buf, payload->data, payload->len);
}

void rg_redis_put_state(struct rg_buf *buf, const struct rg_redis_place *place,
                        const struct rg_redis_state *state)
{
    RG_CLEANUP(rg_buf_fini) struct rg_buf payload = RG_BUF_INIT;

    put_u64(&payload, state->epoch);
    put_stamp(&payload, state->head);
    rg_buf_putc(&payload, (char)state->presence);
    put_u64(&payload, (uint64_t)state->confirmed_s);
    put_u64(&payload, state->count);
    put_u64(&payload, state->digest.low);
    put_u64(&payload, state->digest.high);
    rg_buf_putc(&payload, state->ver_known ? 1 : 0);
    put_string(&payload, state->ver, state->ver_known ? state->ver_len : 0);
    put_sealed(buf, place, STATE, 0, "", &payload);
}

void rg_redis_put_item(struct rg_buf *buf, const struct rg_redis_place *place,
                       const struct rg_item *item)
{
    RG_CLEANUP(rg_buf_fini) struct rg_buf payload = RG_BUF_INIT;

    put_item_payload(&payload, item);
    put_sealed(buf, place, ITEM, place->epoch, item->jid, &payload);
}

void rg_redis_put_change(struct rg_buf *buf, const struct rg_redis_place *place,
                         const struct rg_change *change)
{
    RG_CLEANUP(rg_buf_fini) struct rg_buf payload = RG_BUF_INIT;

    put_stamp(&payload, change->before);
    put_stamp(&payload, change->at);
    put_u64(&payload, (uint64_t)change->made_s);
    put_string(&payload, change->jid, strlen(change->jid));
    if (change->item != NULL)
        put_item_payload(&payload, change->item);
    put_sealed(buf, place, CHANGE, place->epoch, "", &payload);
}

void rg_redis_put_end(struct rg_buf *buf, const struct rg_redis_place *place,
                      const struct rg_end *end)
{
    RG_CLEANUP(rg_buf_fini) struct rg_buf payload = RG_BUF_INIT;

    rg_buf_putc(&payload, (char)end->kind);
    rg_buf_append(&payload, end->id, sizeof(end->id));
    put_u64(&payload, (uint64_t)end->at_s);
    put_u64(&payload, (uint64_t)end->until_s);
    put_sealed(buf, place, END, 0, "", &payload);
}

void rg_redis_end_field(char out[RG_REDIS_END_FIELD_SIZE], const struct rg_end *end)
{
    static const char HEX[] = "0123456789abcdef", KINDS[] = "sap";

    *out++ = KINDS[end->kind];
    for (size_t i = 0; end->kind != RG_END_ALL && i < sizeof(end->id); i++) {
        *out++ = HEX[end->id[i] >> 4];
        *out++ = HEX[end->id[i] & 15];
    }
    *out = '\0';
}

/* ---- reading */

/* What is left of a payload; `bad` once something was asked for that is not there. */
struct reader {
    const uint8_t *at;
    size_t left;
    bool bad;
};

static const uint8_t *take(struct reader *r, size_t len)
{
    const uint8_t *at = r->at;

    if (r->bad || r->left < len) {
        r->bad = true;
        return NULL;
    }
    r->at += len;
    r->left -= len;
    return at;
}

static uint64_t get_number(struct reader *r, size_t bytes)
{
    const uint8_t *at = take(r, bytes);
    uint64_t value = 0;

    for (size_t i = 0; at != NULL && i < bytes; i++)
        value = value << 8 | at[i];
    return value;
}

static struct rg_stamp get_stamp(struct reader *r)
{
    struct rg_stamp stamp = {.mark = get_number(r, 8)};

    stamp.seq = get_number(r, 8);
    return stamp;
}

/* (own); NULL marks the reader. A NUL inside would cut the string: refused. */
static char *get_string(struct reader *r)
{
    size_t len = (size_t)get_number(r, 2);
    const uint8_t *at = take(r, len);
    char *text = at == NULL || memchr(at, '\0', len) != NULL ? NULL : malloc(len + 1);

    if (text == NULL) {
        r->bad = true;
        return NULL;
    }
    memcpy(text, at, len);
    text[len] = '\0';
    return text;
}

static bool open_sealed(struct reader *out, const struct rg_redis_place *place,
                        const char *kind, uint64_t epoch, const char *field, size_t field_len,
                        size_t *out_key, const void *data, size_t len)
{
    const uint8_t *bytes = data;
    struct covered covered;

    if (len < HEAD_BYTES || bytes[0] != FORMAT)
        return false;
    cover(&covered, place, kind, epoch, field, field_len, bytes + HEAD_BYTES, len - HEAD_BYTES);
    if (!rg_mac_check(place->mac, covered.parts, RG_ARRAY_LEN(covered.parts), bytes + 1,
                      out_key))
        return false;
    *out = (struct reader){.at = bytes + HEAD_BYTES, .left = len - HEAD_BYTES};
    return true;
}

bool rg_redis_get_state(struct rg_redis_state *out, const struct rg_redis_place *place,
                        size_t *out_key, const void *data, size_t len)
{
    struct rg_redis_state state = {.epoch = 0};
    struct reader r;
    const uint8_t *ver;
    uint64_t presence, known;

    if (!open_sealed(&r, place, STATE, 0, "", 0, out_key, data, len))
        return false;
    state.epoch = get_number(&r, 8);
    state.head = get_stamp(&r);
    presence = get_number(&r, 1);
    state.confirmed_s = (int64_t)get_number(&r, 8);
    state.count = get_number(&r, 8);
    state.digest.low = get_number(&r, 8);
    state.digest.high = get_number(&r, 8);
    known = get_number(&r, 1);
    state.ver_len = (size_t)get_number(&r, 2);
    ver = take(&r, state.ver_len);
    if (r.bad || r.left != 0 || state.epoch == 0 || known > 1 ||
        state.ver_len > sizeof(state.ver) ||
        (presence != RG_ROSTER_PRESENT && presence != RG_ROSTER_NOT_FOUND))
        return false;
    state.presence = (enum rg_roster_presence)presence;
    state.ver_known = known == 1;
    memcpy(state.ver, ver, state.ver_len);
    *out = state;
    return true;
}

static void free_strings(char **strings, size_t n)
{
    for (size_t i = 0; i < n; i++)
        free(strings[i]);
    free(strings);
}

/* The rest of the reader is one item. */
static struct rg_item *get_item(struct reader *r, const char *jid)
{
    struct rg_item_spec spec = {.jid = jid};
    struct rg_item *item = NULL;
    size_t n_read = 0, n_groups;
    uint64_t flags;
    char *name, **groups = NULL;

    spec.changed = get_stamp(r);
    flags = get_number(r, 1);
    name = get_string(r);
    n_groups = (size_t)get_number(r, 2);
    if (!r->bad && n_groups <= r->left / 2) /* each is two bytes at least */
        groups = calloc(n_groups + 1, sizeof(*groups));
    for (; groups != NULL && n_read < n_groups && !r->bad; n_read++)
        groups[n_read] = get_string(r);
    if (groups != NULL && !r->bad && r->left == 0 && flags < 16) {
        spec.name = name;
        spec.groups = (const char *const *)groups;
        spec.n_groups = n_groups;
        spec.subscription = (enum rg_subscription)(flags & 3);
        spec.ask = (flags & 4) != 0;
        spec.approved = (flags & 8) != 0;
        item = rg_item_create(&spec);
    }
    if (groups != NULL)
        free_strings(groups, n_read);
    free(name);
    return item;
}

struct rg_item *rg_redis_get_item(const struct rg_redis_place *place, const char *jid,
                                  size_t jid_len, const void *data, size_t len)
{
    struct reader r;

    if (strlen(jid) != jid_len ||
        !open_sealed(&r, place, ITEM, place->epoch, jid, jid_len, NULL, data, len))
        return NULL;
    return get_item(&r, jid);
}

struct rg_change *rg_redis_get_change(const struct rg_redis_place *place, const void *data,
                                      size_t len)
{
    RG_CLEANUP(rg_freep) char *jid = NULL;
    RG_CLEANUP(rg_item_unrefp) struct rg_item *item = NULL;
    struct rg_stamp before, at;
    int64_t made_s;
    struct reader r;

    if (!open_sealed(&r, place, CHANGE, place->epoch, "", 0, NULL, data, len))
        return NULL;
    before = get_stamp(&r);
    at = get_stamp(&r);
    made_s = (int64_t)get_number(&r, 8);
    jid = get_string(&r);
    if (jid == NULL)
        return NULL;
    if (r.left > 0) {
        item = get_item(&r, jid);
        if (item == NULL)
            return NULL;
    }
    return rg_change_create(before, at, made_s, item, jid);
}

bool rg_redis_get_end(struct rg_end *out, const struct rg_redis_place *place, const void *data,
                      size_t len)
{
    struct rg_end end = {.kind = RG_END_ALL};
    struct reader r;
    const uint8_t *id;
    uint64_t kind;

    if (!open_sealed(&r, place, END, 0, "", 0, NULL, data, len))
        return false;
    kind = get_number(&r, 1);
    id = take(&r, sizeof(end.id));
    end.at_s = (int64_t)get_number(&r, 8);
    end.until_s = (int64_t)get_number(&r, 8);
    if (r.bad || r.left != 0 || kind > RG_END_PASSWORD)
        return false;
    end.kind = (enum rg_end_kind)kind;
    memcpy(end.id, id, sizeof(end.id));
    *out = end;
    return true;
}

/* ---- the digest */

static struct rg_redis_digest hash_of(const struct rg_redis_place *place, size_t key,
                                      const struct rg_item *item)
{
    RG_CLEANUP(rg_buf_fini) struct rg_buf payload = RG_BUF_INIT;
    struct rg_redis_digest digest;
    uint8_t sum[RG_MAC_SUM_BYTES];
    struct covered covered;

    put_item_payload(&payload, item);
    /* Out of memory: the digest will fit nothing, which is a miss at the next load. */
    cover(&covered, place, DIGEST, place->epoch, item->jid, item->jid_len,
          payload.data != NULL ? payload.data : "", payload.len);
    rg_mac_sum(place->mac, key, covered.parts, RG_ARRAY_LEN(covered.parts), sum);
    memcpy(&digest.low, sum, 8);
    memcpy(&digest.high, sum + 8, 8);
    digest.low = __builtin_bswap64(digest.low);
    digest.high = __builtin_bswap64(digest.high);
    return digest;
}

void rg_redis_digest_add(struct rg_redis_digest *digest, const struct rg_redis_place *place,
                         size_t key, const struct rg_item *item)
{
    struct rg_redis_digest one = hash_of(place, key, item);

    digest->low += one.low;
    digest->high += one.high;
}

void rg_redis_digest_remove(struct rg_redis_digest *digest, const struct rg_redis_place *place,
                            size_t key, const struct rg_item *item)
{
    struct rg_redis_digest one = hash_of(place, key, item);

    digest->low -= one.low;
    digest->high -= one.high;
}

struct rg_redis_digest rg_redis_digest_of(const struct rg_redis_place *place, size_t key,
                                          const struct rg_roster *roster)
{
    struct rg_redis_digest digest = {0, 0};

    for (size_t i = 0; roster != NULL && i < roster->n; i++)
        rg_redis_digest_add(&digest, place, key, roster->items[i]);
    return digest;
}
