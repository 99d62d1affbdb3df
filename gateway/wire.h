/* Builds the whole out of its parts, runs it, and takes it down in the order of DESIGN
 * section 5. With main.c the only place that knows every folder. Thread: main. */
#ifndef GATEWAY_WIRE_H
#define GATEWAY_WIRE_H

#include "gateway/base/config.h"
#include "gateway/base/err.h"

/* Runs until SIGTERM or SIGINT and the stop that follows (a second one ends the process at
 * once). RG_OK after a proper stop; otherwise err says what could not be started. */
enum rg_code rg_wire_run(const struct rg_config *config, struct rg_err *err);

#endif
