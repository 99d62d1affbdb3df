/* Scoped clean-up and hand-over of locals. Thread: any. */
#ifndef GATEWAY_BASE_MEM_H
#define GATEWAY_BASE_MEM_H

#include <stdlib.h>

/* Runs fn(&variable) when the variable goes out of scope. */
#define RG_CLEANUP(fn) __attribute__((cleanup(fn)))

/* Hands a pointer over: yields it and leaves NULL behind, so that RG_CLEANUP finds nothing. */
#define RG_TAKE(p)                                                                             \
    __extension__({                                                                            \
        __typeof__(p) rg_taken_ = (p);                                                         \
        (p) = NULL;                                                                            \
        rg_taken_;                                                                             \
    })

/* For RG_CLEANUP on malloc'ed locals. */
static inline void rg_freep(void *p)
{
    free(*(void **)p);
}

/* Defines `static inline void NAMEp(TYPE **p)` for RG_CLEANUP out of a destroyer NAME(TYPE *).
 */
#define RG_DEFINE_CLEANUP(type, name)                                                          \
    static inline void name##p(type **p)                                                       \
    {                                                                                          \
        name(*p);                                                                              \
    }

#define RG_ARRAY_LEN(a) (sizeof(a) / sizeof((a)[0]))
#define RG_CONTAINER_OF(ptr, type, member)                                                     \
    ((type *)(void *)((char *)(ptr)-offsetof(type, member)))

#endif
