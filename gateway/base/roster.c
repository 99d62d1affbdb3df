#include "gateway/base/roster.h"

#include <stdint.h>
#include <string.h>

#include "gateway/base/text.h"

static const char *const names[] = {"none", "to", "from", "both"};
_Static_assert(RG_ARRAY_LEN(names) == RG_SUB_COUNT, "one name per subscription");

const char *rg_subscription_name(enum rg_subscription subscription)
{
    return (size_t)subscription < RG_ARRAY_LEN(names) ? names[subscription] : names[0];
}

bool rg_subscription_parse(enum rg_subscription *out, const char *text)
{
    for (size_t i = 0; i < RG_ARRAY_LEN(names); i++) {
        if (strcmp(names[i], text) == 0) {
            *out = (enum rg_subscription)i;
            return true;
        }
    }
    return false;
}

/* Code point order is byte order in UTF-8, and strcmp compares bytes as unsigned. */
static int compare_strings(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* Copies a string to *at and moves *at behind it. */
static const char *put_string(char **at, const char *text, size_t len)
{
    char *start = *at;

    memcpy(start, text, len + 1);
    *at += len + 1;
    return start;
}

/* Sorts pointers to the groups, drops "" and duplicates. Returns how many are left and adds up
 * their bytes. */
static size_t sort_groups(const char **groups, size_t n, size_t *bytes)
{
    size_t kept = 0;

    qsort(groups, n, sizeof(*groups), compare_strings);
    for (size_t i = 0; i < n; i++) {
        if (groups[i][0] == '\0' || (kept > 0 && strcmp(groups[kept - 1], groups[i]) == 0))
            continue;
        *bytes += strlen(groups[i]) + 1;
        groups[kept++] = groups[i];
    }
    return kept;
}

struct rg_item *rg_item_create(const struct rg_item_spec *spec)
{
    const char *name = spec->name != NULL && spec->name[0] != '\0' ? spec->name : NULL;
    RG_CLEANUP(rg_freep) const char **sorted = NULL;
    size_t jid_len = strlen(spec->jid), name_len = name != NULL ? strlen(name) : 0;
    size_t strings = jid_len + 1 + (name != NULL ? name_len + 1 : 0), n = 0;
    const char **groups;
    struct rg_item *item;
    char *at;

    if (spec->n_groups > 0) {
        sorted = calloc(spec->n_groups, sizeof(*sorted));
        if (sorted == NULL)
            return NULL;
        memcpy(sorted, spec->groups, spec->n_groups * sizeof(*sorted));
        n = sort_groups(sorted, spec->n_groups, &strings);
    }
    item = malloc(sizeof(*item) + n * sizeof(*groups) + strings);
    if (item == NULL)
        return NULL;
    groups = (const char **)(void *)(item + 1);
    at = (char *)(groups + n);
    atomic_init(&item->refs, 1);
    item->changed = spec->changed;
    item->subscription = spec->subscription;
    item->ask = spec->ask;
    item->approved = spec->approved;
    item->jid_len = jid_len;
    item->n_groups = n;
    item->jid = put_string(&at, spec->jid, jid_len);
    item->name = name != NULL ? put_string(&at, name, name_len) : NULL;
    for (size_t i = 0; i < n; i++)
        groups[i] = put_string(&at, sorted[i], strlen(sorted[i]));
    item->groups = groups;
    return item;
}

struct rg_item *rg_item_restamp(const struct rg_item *item, struct rg_stamp changed)
{
    struct rg_item_spec spec = {.jid = item->jid,
                                .name = item->name,
                                .groups = item->groups,
                                .n_groups = item->n_groups,
                                .subscription = item->subscription,
                                .ask = item->ask,
                                .approved = item->approved,
                                .changed = changed};

    return rg_item_create(&spec);
}

struct rg_item *rg_item_ref(struct rg_item *item)
{
    atomic_fetch_add_explicit(&item->refs, 1, memory_order_relaxed);
    return item;
}

void rg_item_unref(struct rg_item *item)
{
    if (item != NULL && atomic_fetch_sub_explicit(&item->refs, 1, memory_order_acq_rel) == 1)
        free(item);
}

static bool same_name(const char *a, const char *b)
{
    return a == NULL || b == NULL ? a == b : strcmp(a, b) == 0;
}

static bool same_groups(const struct rg_item *item, const char *const *groups, size_t n)
{
    if (item->n_groups != n)
        return false;
    for (size_t i = 0; i < n; i++) {
        if (strcmp(item->groups[i], groups[i]) != 0)
            return false;
    }
    return true;
}

bool rg_item_equal(const struct rg_item *a, const struct rg_item *b)
{
    return a == b || (strcmp(a->jid, b->jid) == 0 && a->subscription == b->subscription &&
                      a->ask == b->ask && a->approved == b->approved &&
                      same_name(a->name, b->name) && same_groups(a, b->groups, b->n_groups));
}

static bool listed(const char *group, const char *const *groups, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (strcmp(groups[i], group) == 0)
            return true;
    }
    return false;
}

bool rg_item_has(const struct rg_item *item, const char *name, const char *const *groups,
                 size_t n_groups)
{
    if (!same_name(item->name, name != NULL && name[0] != '\0' ? name : NULL))
        return false;
    /* The asked-for groups come in any order: equal sets contain each other. */
    for (size_t i = 0; i < n_groups; i++) {
        if (groups[i][0] != '\0' && !listed(groups[i], item->groups, item->n_groups))
            return false;
    }
    for (size_t i = 0; i < item->n_groups; i++) {
        if (!listed(item->groups[i], groups, n_groups))
            return false;
    }
    return true;
}

size_t rg_item_bytes(const struct rg_item *item)
{
    size_t bytes = sizeof(*item) + item->n_groups * sizeof(*item->groups) + item->jid_len + 1;

    if (item->name != NULL)
        bytes += strlen(item->name) + 1;
    for (size_t i = 0; i < item->n_groups; i++)
        bytes += strlen(item->groups[i]) + 1;
    return bytes;
}

void rg_item_json(struct rg_buf *buf, const struct rg_item *item)
{
    rg_buf_puts(buf, "{\"jid\":");
    rg_json_string(buf, item->jid, item->jid_len);
    rg_buf_puts(buf, ",\"name\":");
    if (item->name != NULL)
        rg_json_string(buf, item->name, strlen(item->name));
    else
        rg_buf_puts(buf, "null");
    rg_buf_puts(buf, ",\"groups\":[");
    for (size_t i = 0; i < item->n_groups; i++) {
        if (i > 0)
            rg_buf_putc(buf, ',');
        rg_json_string(buf, item->groups[i], strlen(item->groups[i]));
    }
    rg_buf_puts(buf, "],\"subscription\":\"");
    rg_buf_puts(buf, rg_subscription_name(item->subscription));
    rg_buf_puts(buf, item->ask ? "\",\"ask\":\"subscribe\"" : "\",\"ask\":null");
    rg_buf_puts(buf, item->approved ? ",\"approved\":true}" : ",\"approved\":false}");
}

/* (own) a snapshot with room for n items, none in it yet. */
static struct rg_roster *roster_alloc(size_t n)
{
    struct rg_roster *roster;

    if (n > (SIZE_MAX - sizeof(*roster)) / sizeof(roster->items[0]))
        return NULL;
    roster = malloc(sizeof(*roster) + n * sizeof(roster->items[0]));
    if (roster == NULL)
        return NULL;
    atomic_init(&roster->refs, 1);
    roster->n = 0;
    roster->bytes = 0;
    return roster;
}

static void roster_append_take(struct rg_roster *roster, struct rg_item *item)
{
    roster->bytes += rg_item_bytes(item);
    roster->items[roster->n++] = item;
}

struct rg_roster *rg_roster_ref(struct rg_roster *roster)
{
    atomic_fetch_add_explicit(&roster->refs, 1, memory_order_relaxed);
    return roster;
}

void rg_roster_unref(struct rg_roster *roster)
{
    if (roster == NULL ||
        atomic_fetch_sub_explicit(&roster->refs, 1, memory_order_acq_rel) != 1)
        return;
    for (size_t i = 0; i < roster->n; i++)
        rg_item_unref(roster->items[i]);
    free(roster);
}

bool rg_roster_equal(const struct rg_roster *a, const struct rg_roster *b)
{
    size_t n = a != NULL ? a->n : 0;

    if (n != (b != NULL ? b->n : 0))
        return false;
    for (size_t i = 0; i < n; i++) {
        if (!rg_item_equal(a->items[i], b->items[i]))
            return false;
    }
    return true;
}

/* Where jid stands or would stand; roster may be NULL. */
static size_t position(const struct rg_roster *roster, const char *jid, bool *out_found)
{
    size_t low = 0, high = roster != NULL ? roster->n : 0;

    while (low < high) {
        size_t mid = low + (high - low) / 2;
        int order = strcmp(roster->items[mid]->jid, jid);

        if (order == 0) {
            *out_found = true;
            return mid;
        }
        if (order < 0)
            low = mid + 1;
        else
            high = mid;
    }
    *out_found = false;
    return low;
}

struct rg_item *rg_roster_find(const struct rg_roster *roster, const char *jid)
{
    bool found;
    size_t at = position(roster, jid, &found);

    return found ? roster->items[at] : NULL;
}

/* Copies references [from, to) of roster to the end of next. */
static void share(struct rg_roster *next, const struct rg_roster *roster, size_t from,
                  size_t to)
{
    for (size_t i = from; i < to; i++)
        next->items[next->n++] = rg_item_ref(roster->items[i]);
}

struct rg_roster *rg_roster_with(const struct rg_roster *roster, struct rg_item *item)
{
    size_t n = roster != NULL ? roster->n : 0, at;
    struct rg_roster *next;
    bool found;

    at = position(roster, item->jid, &found);
    next = roster_alloc(n + 1);
    if (next == NULL)
        return NULL;
    share(next, roster, 0, at);
    roster_append_take(next, rg_item_ref(item));
    share(next, roster, found ? at + 1 : at, n);
    next->bytes += roster != NULL ? roster->bytes : 0;
    if (found)
        next->bytes -= rg_item_bytes(roster->items[at]);
    return next;
}

struct rg_roster *rg_roster_without(const struct rg_roster *roster, const char *jid)
{
    size_t n = roster != NULL ? roster->n : 0, at;
    struct rg_roster *next;
    bool found;

    at = position(roster, jid, &found);
    next = roster_alloc(n);
    if (next == NULL)
        return NULL;
    share(next, roster, 0, at);
    share(next, roster, found ? at + 1 : at, n);
    next->bytes = roster != NULL ? roster->bytes : 0;
    if (found)
        next->bytes -= rg_item_bytes(roster->items[at]);
    return next;
}

void rg_roster_builder_init(struct rg_roster_builder *builder)
{
    memset(builder, 0, sizeof(*builder));
}

void rg_roster_builder_fini(struct rg_roster_builder *builder)
{
    for (size_t i = 0; i < builder->n; i++)
        rg_item_unref(builder->items[i]);
    free(builder->items);
    builder->items = NULL;
    builder->n = 0;
    builder->cap = 0;
    builder->failed = false;
}

void rg_roster_builder_add_take(struct rg_roster_builder *builder, struct rg_item *item)
{
    if (item == NULL)
        builder->failed = true; /* the caller's rg_item_create found no memory */
    if (!builder->failed && builder->n == builder->cap) {
        size_t cap = builder->cap == 0 ? 64 : builder->cap * 2;
        struct rg_item **items = reallocarray(builder->items, cap, sizeof(*items));

        if (items == NULL)
            builder->failed = true;
        else {
            builder->items = items;
            builder->cap = cap;
        }
    }
    if (builder->failed) {
        rg_item_unref(item);
        return;
    }
    builder->items[builder->n++] = item;
}

static int compare_items(const void *a, const void *b)
{
    return strcmp((*(struct rg_item *const *)a)->jid, (*(struct rg_item *const *)b)->jid);
}

/* None, to, from, both are a set of two bits: the union of what any copy grants. */
static enum rg_subscription join(enum rg_subscription a, enum rg_subscription b)
{
    return (enum rg_subscription)((unsigned)a | (unsigned)b);
}
_Static_assert((RG_SUB_TO | RG_SUB_FROM) == RG_SUB_BOTH, "subscriptions are bits");

/* Several items of one JID become one (R17). All of it is independent of their order, so that a
 * server that lists them differently next time does not make a change. */
static struct rg_item *merge(struct rg_item *const *items, size_t n)
{
    struct rg_item_spec spec = {.jid = items[0]->jid, .changed = items[0]->changed};
    RG_CLEANUP(rg_freep) const char **groups = NULL;
    size_t n_groups = 0;

    for (size_t i = 0; i < n; i++)
        n_groups += items[i]->n_groups;
    groups = calloc(n_groups + 1, sizeof(*groups));
    if (groups == NULL)
        return NULL;
    n_groups = 0;
    for (size_t i = 0; i < n; i++) {
        const struct rg_item *item = items[i];

        for (size_t g = 0; g < item->n_groups; g++)
            groups[n_groups++] = item->groups[g];
        if (item->name != NULL && (spec.name == NULL || strcmp(item->name, spec.name) < 0))
            spec.name = item->name;
        spec.subscription = join(spec.subscription, item->subscription);
        spec.ask |= item->ask;
        spec.approved |= item->approved;
    }
    spec.groups = groups;
    spec.n_groups = n_groups;
    return rg_item_create(&spec);
}

/* Fills roster from the sorted items; the builder keeps its own references. */
static bool fill(struct rg_roster *roster, struct rg_roster_builder *builder)
{
    for (size_t i = 0, end; i < builder->n; i = end) {
        struct rg_item *item;

        for (end = i + 1; end < builder->n; end++) {
            if (strcmp(builder->items[i]->jid, builder->items[end]->jid) != 0)
                break;
        }
        item =
            end == i + 1 ? rg_item_ref(builder->items[i]) : merge(builder->items + i, end - i);
        if (item == NULL)
            return false;
        builder->duplicates += end - i - 1;
        roster_append_take(roster, item);
    }
    return true;
}

struct rg_roster *rg_roster_builder_finish(struct rg_roster_builder *builder)
{
    struct rg_roster *roster = builder->failed ? NULL : roster_alloc(builder->n);

    builder->duplicates = 0;
    if (roster != NULL) {
        if (builder->n > 1)
            qsort(builder->items, builder->n, sizeof(struct rg_item *), compare_items);
        if (!fill(roster, builder)) {
            rg_roster_unref(roster);
            roster = NULL;
        }
    }
    rg_roster_builder_fini(builder);
    return roster;
}

void rg_roster_json(struct rg_buf *buf, const struct rg_roster *roster)
{
    size_t n = roster != NULL ? roster->n : 0;

    rg_buf_putc(buf, '[');
    for (size_t i = 0; i < n; i++) {
        if (i > 0)
            rg_buf_putc(buf, ',');
        rg_item_json(buf, roster->items[i]);
    }
    rg_buf_putc(buf, ']');
}
