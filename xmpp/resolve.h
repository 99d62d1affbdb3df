/* Where a domain's XMPP server is: SRV, A and AAAA by c-ares on the loop, because libstrophe
 * would block on every look-up (facts, rule 17). Thread: the loop's. */
#ifndef XMPP_RESOLVE_H
#define XMPP_RESOLVE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "gateway/base/config.h"
#include "gateway/base/err.h"
#include "gateway/base/loop.h"

enum { RG_ADDRESSES_MAX = 16 };

struct rg_address {
    char text[64]; /* a literal */
    uint16_t port;
    bool direct_tls; /* from _xmpps-client (XEP-0368) */
};
/* In the order in which they are to be tried. */
struct rg_addresses {
    size_t n;
    struct rg_address v[RG_ADDRESSES_MAX];
};

/* True if `host` is a literal IPv4 or IPv6 address; *out is set. */
bool rg_address_literal(struct rg_address *out, const char *host, uint16_t port);
bool rg_address_is_loopback(const char *text);

/* One record of an SRV answer, and the order of RFC 2782: by priority, within one by weighted
 * chance. Pure but for the random numbers. */
struct rg_srv {
    char target[256];
    uint16_t port;
    uint16_t priority, weight;
    bool direct_tls;
};
void rg_srv_sort(struct rg_srv *records, size_t n);

struct rg_lookup;
/* (borrow) addresses; NULL: nothing found, `why` says what. */
typedef void (*rg_lookup_fn)(void *arg, const struct rg_addresses *addresses, const char *why);
/* Looks up host (or, if it is "", the SRV records of domain, then domain:5222). (borrow)
 * servers: the name servers to ask; none: the system's. fn comes once, later, never inside this
 * call. Returns (own) until fn has come, NULL with err filled. */
struct rg_lookup *rg_lookup_start(struct rg_loop *loop, const struct rg_domain *domain,
                                  const struct rg_strings *servers, rg_lookup_fn fn, void *arg,
                                  struct rg_err *err);
void rg_lookup_cancel(struct rg_lookup *lookup); /* fn does not come; accepts NULL */

#endif
