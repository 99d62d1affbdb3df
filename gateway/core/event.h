/* Server-Sent Events, encoded once and shared by all streams that get them (API section 5).
 * Immutable and counted. Thread: any. */
#ifndef GATEWAY_CORE_EVENT_H
#define GATEWAY_CORE_EVENT_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

#include "gateway/base/account.h"
#include "gateway/base/buf.h"
#include "gateway/core/door.h"
#include "gateway/core/snapshot.h"

/* The event names of API section 5, as bits of a mask. */
enum rg_event_type {
    RG_EVENT_ROSTER = 1 << 0,
    RG_EVENT_ROSTER_SET = 1 << 1,
    RG_EVENT_ROSTER_REMOVE = 1 << 2,
    RG_EVENT_SUBSCRIPTIONS = 1 << 3,
    RG_EVENT_SUBSCRIPTION = 1 << 4,
    RG_EVENT_PRESENCE_RESET = 1 << 5,
    RG_EVENT_PRESENCE = 1 << 6,
    RG_EVENT_SYNC = 1 << 7,
    RG_EVENT_SESSION = 1 << 8,
    RG_EVENT_PING = 1 << 9,
    RG_EVENT_BYE = 1 << 10,
    RG_EVENT_COMMENT = 1 << 11,
    RG_EVENT_ALWAYS =
        RG_EVENT_ROSTER | RG_EVENT_SYNC | RG_EVENT_SESSION | RG_EVENT_BYE | RG_EVENT_COMMENT,
    RG_EVENT_ALL = (1 << 12) - 1
};
/* The type named by text (len bytes), 0 if there is none. Comments have no name. */
unsigned rg_event_type_parse(const char *text, size_t len);

enum rg_bye {
    RG_BYE_DRAIN,
    RG_BYE_ROTATE,
    RG_BYE_EXPIRED,
    RG_BYE_SIGNED_OUT,
    RG_BYE_CREDENTIALS,
    RG_BYE_SLOW,
    RG_BYE_COUNT
};
const char *rg_bye_name(enum rg_bye reason);

struct rg_event {
    atomic_uint refs;
    enum rg_event_type type;
    bool shared; /* made once for many streams: costs each of them one reference */
    size_t len;
    char data[]; /* "id: …\nevent: …\ndata: …\n\n" */
};
struct rg_event *rg_event_ref(struct rg_event *event);
void rg_event_unref(struct rg_event *event); /* accepts NULL */

/* Each returns (own), NULL when out of memory. (borrow) all arguments. `text` is a whole
 * comment or field block such as ": hb\n\n". */
struct rg_event *rg_event_comment(const char *text);
struct rg_event *rg_event_ping(unsigned interval_s);
struct rg_event *rg_event_roster(struct rg_snapshot *snapshot);
/* roster.set or roster.remove; `version` is the token of change->at. */
struct rg_event *rg_event_change(const struct rg_change *change, const char *version);
/* `version` "": the account has no roster; then no id is sent. */
struct rg_event *rg_event_sync(const char *version, enum rg_state state, bool resumed);
struct rg_event *rg_event_session(enum rg_state state, const char *reason);
struct rg_event *rg_event_bye(enum rg_bye reason);
/* An event without id whose data is `json`, one line. */
struct rg_event *rg_event_plain(enum rg_event_type type, const struct rg_buf *json);
/* Several events of one type as one; `text` is what rg_event_append wrote. NULL when empty. */
struct rg_event *rg_event_block(enum rg_event_type type, const struct rg_buf *text);
void rg_event_append(struct rg_buf *text, enum rg_event_type type, const char *json,
                     size_t json_len);

#endif
