/* JIDs, prepared by nodeprep, nameprep and resourceprep (RFC 6122, libidn): the profiles the
 * XMPP servers use, so that one contact has one spelling. Thread: any. */
#ifndef GATEWAY_BASE_JID_H
#define GATEWAY_BASE_JID_H

#include <stdbool.h>
#include <stddef.h>

#include "gateway/base/err.h"

enum {
    RG_JID_BARE_MAX = 1024, /* bytes, API section 6 limits */
    RG_JID_FULL_MAX = 2048,
    RG_JID_SIZE = RG_JID_FULL_MAX + 1 /* room for any prepared JID and its NUL */
};

/* A prepared JID; the parts point into `text`. local and resource are NULL when absent. */
struct rg_jid {
    char text[RG_JID_SIZE]; /* local@domain/resource, each part present or not */
    size_t len;
    size_t local_len; /* 0: none */
    size_t domain_at, domain_len;
    size_t bare_len; /* length of the part without resource */
    bool has_resource;
};

/* Prepares text (not NUL-terminated; a NUL inside is an error). Fails with RG_E_INVALID_JID and
 * a text that says which part is wrong. Each part <= 1023 bytes, the bare JID <= 1024. */
enum rg_code rg_jid_prepare(struct rg_jid *out, const char *text, size_t len,
                            struct rg_err *err);

/* Like rg_jid_prepare, but a resource is an error too. */
enum rg_code rg_jid_prepare_bare(struct rg_jid *out, const char *text, size_t len,
                                 struct rg_err *err);

/* The domain alone, prepared by nameprep (configuration, served domains). */
enum rg_code rg_jid_prepare_domain(char out[RG_JID_SIZE], const char *text, size_t len,
                                   struct rg_err *err);

/* Any text prepared by resourceprep, which is also how servers compare groups (RFC 6121 2.3.3).
 */
enum rg_code rg_jid_prepare_resource(char out[RG_JID_SIZE], const char *text, size_t len,
                                     struct rg_err *err);

#endif
