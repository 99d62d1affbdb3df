/* Who is asking: the token in the Authorization header or in our cookie, and the rule against
 * requests forged by other sites (API section 2). Pure functions. Thread: any. */
#ifndef HTTP_AUTH_H
#define HTTP_AUTH_H

#include <stdbool.h>
#include <stddef.h>

#include "gateway/base/config.h"
#include "gateway/base/err.h"
#include "http/guard.h"

enum rg_auth_source { RG_AUTH_NONE, RG_AUTH_HEADER, RG_AUTH_COOKIE };

/* (borrow) the token, inside a header line. */
struct rg_auth {
    enum rg_auth_source source;
    const char *token;
    size_t len;
};

/* "__Host-rg", or "rg" under server.insecure_cookie. */
const char *rg_auth_cookie_name(bool insecure);

/* Finds the token. The header wins; one that is there but is no bearer token, stands twice, or
 * (without a header) two cookies of our name: RG_E_UNAUTHORIZED. Nothing at all is RG_OK with
 * RG_AUTH_NONE. No token is ever taken from anywhere else. */
enum rg_code rg_auth_find(const struct rg_headers *headers, bool insecure_cookie,
                          struct rg_auth *out, struct rg_err *err);

/* May a request that is authorised by the cookie, with a method that changes something, be
 * served? `Sec-Fetch-Site: same-origin`, or without that header an Origin that is this server's
 * own or a listed one. */
bool rg_auth_same_site(const struct rg_headers *headers, const struct rg_strings *origins,
                       bool insecure_cookie);

/* Is the Origin in the list, byte for byte? */
bool rg_origin_listed(const char *origin, const struct rg_strings *origins);

#endif
