/* Header lines for tests, written as "Name: value". */
#ifndef TESTS_UNIT_HTTP_HELPER_HEADERS_H
#define TESTS_UNIT_HTTP_HELPER_HEADERS_H

#include "http/guard.h"

/* (borrow) the literals; at most 40 lines, the list ends with NULL. */
void headers_of(struct rg_headers *out, const char *const *lines);

#define HEADERS(...)                                                                           \
    (const char *const[])                                                                      \
    {                                                                                          \
        __VA_ARGS__, NULL                                                                      \
    }

#endif
