#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sysexits.h>

#include "gateway/base/config.h"
#include "gateway/base/log.h"
#include "gateway/base/random.h"
#include "gateway/wire.h"
#include "xmpp/upstream.h"

static const char USAGE[] =
    "usage: rostergate --config FILE\n"
    "       rostergate --config FILE --check-config\n"
    "       rostergate --config FILE --print-config\n"
    "       rostergate --version | --help\n"
    "\n"
    "A roster synchronization gateway between web frontends and XMPP servers.\n"
    "Every key can also be set by the environment: ROSTERGATE_SERVER_LISTEN for listen\n"
    "in [server]. Exit code 78: the configuration is wrong.\n";

enum action { RUN, CHECK, PRINT };

static int config_failed(const struct rg_err *err)
{
    fprintf(stderr, "rostergate: %s\n", err->text);
    return EX_CONFIG;
}

static int print_config(const struct rg_config *config)
{
    struct rg_buf buf = RG_BUF_INIT;
    rg_config_print(config, &buf);
    bool ok = !rg_buf_failed(&buf) && fwrite(buf.data, 1, buf.len, stdout) == buf.len &&
              fflush(stdout) == 0;
    rg_buf_fini(&buf);
    return ok ? EXIT_SUCCESS : EX_IOERR;
}

/* Streams, sessions and workers all take descriptors: as many as the hard limit gives. Core
 * files would hold rosters and keys. */
static void set_limits(void)
{
    struct rlimit files;
    if (getrlimit(RLIMIT_NOFILE, &files) == 0 && files.rlim_cur < files.rlim_max) {
        files.rlim_cur = files.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &files);
    }
    (void)setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0});
    signal(SIGPIPE, SIG_IGN);
}

static int run(const struct rg_config *config)
{
    struct rg_err err = RG_ERR_INIT;
    enum rg_log_level level;
    if (rg_log_parse_level(&level, config->log.level))
        rg_log_set_level(level);
    set_limits();
    if (rg_random_init(&err) == RG_OK && rg_wire_run(config, &err) == RG_OK)
        return EXIT_SUCCESS;
    rg_log(RG_LOG_ERROR, "main", "failed", RG_STR("code", rg_code_slug(err.code)),
           RG_STR("why", err.text));
    return EXIT_FAILURE;
}

/* False: *out_exit is the exit code. */
static bool parse_arguments(int argc, char **argv, const char **out_path,
                            enum action *out_action, int *out_exit)
{
    static const struct option OPTIONS[] = {
        {"config", required_argument, NULL, 'c'}, {"check-config", no_argument, NULL, 'k'},
        {"print-config", no_argument, NULL, 'p'}, {"version", no_argument, NULL, 'v'},
        {"help", no_argument, NULL, 'h'},         {NULL, 0, NULL, 0}};
    int option;
    *out_exit = EX_USAGE;
    while ((option = getopt_long(argc, argv, "", OPTIONS, NULL)) != -1) {
        if (option == 'c') {
            *out_path = optarg;
        } else if (option == 'k') {
            *out_action = CHECK;
        } else if (option == 'p') {
            *out_action = PRINT;
        } else if (option == 'v' || option == 'h') {
            (void)fputs(option == 'v' ? "rostergate " RG_VERSION "\n" : USAGE, stdout);
            *out_exit = EXIT_SUCCESS;
            return false;
        } else {
            (void)fputs(USAGE, stderr);
            return false;
        }
    }
    if (optind == argc) {
        *out_exit = EXIT_SUCCESS;
        return true;
    }
    fprintf(stderr, "rostergate: unexpected argument %s\n%s", argv[optind], USAGE);
    return false;
}

int main(int argc, char **argv)
{
    const char *path = NULL;
    enum action action = RUN;
    int code = EXIT_SUCCESS;
    struct rg_config *config = NULL;
    struct rg_err err = RG_ERR_INIT;
    if (rg_worker_is(argc, argv))
        return rg_worker_main(argc, argv);
    if (!parse_arguments(argc, argv, &path, &action, &code))
        return code;
    if (rg_config_load(path, &config, &err) != RG_OK)
        return config_failed(&err);
    if (action == RUN)
        code = run(config);
    else if (action == PRINT)
        code = print_config(config);
    else
        (void)puts("configuration is good");
    rg_config_destroy(config);
    return code;
}
