/* Where a request comes from: the peer, or, behind a trusted proxy, the right-most hop in
 * X-Forwarded-For that is not trusted itself (API section 8, threat T10). Pure functions.
 * Thread: any. */
#ifndef HTTP_ADDRESS_H
#define HTTP_ADDRESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#include "gateway/base/config.h"
#include "gateway/base/err.h"
#include "http/guard.h"

enum rg_family { RG_FAMILY_NONE, RG_FAMILY_UNIX, RG_FAMILY_V4, RG_FAMILY_V6 };

/* An address; v4 inside v6 (::ffff:a.b.c.d) counts as v4. */
struct rg_address {
    uint8_t family;
    uint8_t bytes[16];
};

struct rg_trust;
/* (borrow) the texts: addresses, CIDR ranges and "unix". (own) *out. */
enum rg_code rg_trust_parse(const struct rg_strings *texts, struct rg_trust **out,
                            struct rg_err *err);
void rg_trust_destroy(struct rg_trust *trust);
bool rg_trust_has(const struct rg_trust *trust, const struct rg_address *address);

void rg_address_from_sockaddr(struct rg_address *out, const struct sockaddr *addr);
/* One address as it may stand in X-Forwarded-For: v4, v6, [v6], each with a port or without.
 * False for anything else. */
bool rg_address_parse(struct rg_address *out, const char *text, size_t len);

/* The client's address. RG_FAMILY_NONE: not known (a trusted peer that names none, or something
 * that is no address): no per-address limit applies. */
void rg_address_client(struct rg_address *out, const struct rg_trust *trust,
                       const struct rg_address *peer, const struct rg_headers *headers);

enum { RG_ADDRESS_KEY_SIZE = 64 };
/* What limits count under: "" for none and unix. Narrow: the v4 address, the v6 /64. Wide: the
 * v4 /24, the v6 /64 (sign-in failures). Returns its length. */
size_t rg_address_key(const struct rg_address *address, bool wide,
                      char out[RG_ADDRESS_KEY_SIZE]);
bool rg_address_loopback(const struct rg_address *address);

#endif
