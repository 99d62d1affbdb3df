/* What a confined process can still do. Every question is asked by a child that has given up
 * what a worker, or the front, gives up. Built without sanitizers whatever the rest is built
 * with (see tests/CMakeLists.txt), since under one of them the worker's filter is a looser one.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "gateway/base/mem.h"
#include "gateway/base/sandbox.h"

enum { FINE = 0, REFUSED = 1, SKIP = 77 };

static char folder[64]; /* stands for the trust store */
static char inside[96], link_in[96], outside[64];
static int bound = -1; /* a socket from before */

static int answer(bool done)
{
    if (done)
        return FINE;
    return errno == EPERM || errno == EACCES ? REFUSED : 2 + errno;
}

static int close_answer(int fd)
{
    int result = answer(fd >= 0);
    if (fd >= 0)
        close(fd);
    return result;
}

/* ---- what is asked */

static int read_inside(void)
{
    return close_answer(open(inside, O_RDONLY | O_CLOEXEC));
}
static int list_inside(void)
{
    return close_answer(open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC));
}
static int read_null(void)
{
    return close_answer(open("/dev/null", O_RDONLY | O_CLOEXEC));
}
static int link_outwards(void)
{
    return close_answer(open(link_in, O_RDONLY | O_CLOEXEC));
}
static int read_outside(void)
{
    return close_answer(open(outside, O_RDONLY | O_CLOEXEC));
}
static int read_passwd(void)
{
    return close_answer(open("/etc/passwd", O_RDONLY | O_CLOEXEC));
}
static int read_environ(void)
{
    return close_answer(open("/proc/1/environ", O_RDONLY | O_CLOEXEC));
}
static int write_inside(void)
{
    return close_answer(open(inside, O_WRONLY | O_CLOEXEC));
}
static int append_inside(void)
{
    return close_answer(open(inside, O_WRONLY | O_APPEND | O_CLOEXEC));
}
static int truncate_inside(void)
{
    return close_answer(open(inside, O_RDONLY | O_TRUNC | O_CLOEXEC));
}
static int write_null(void)
{
    return close_answer(open("/dev/null", O_WRONLY | O_CLOEXEC));
}
static int make_file(void)
{
    char path[128];
    (void)snprintf(path, sizeof(path), "%s/new", folder);
    return close_answer(open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
}
static int make_hidden(void)
{
    return close_answer(open("/tmp", O_RDWR | O_TMPFILE | O_CLOEXEC, 0600));
}
static int open_by_struct(void)
{
    uint64_t how[3] = {O_WRONLY, 0, 0};
    return close_answer((int)syscall(SYS_openat2, AT_FDCWD, inside, how, sizeof(how)));
}
static int make_folder(void)
{
    return answer(mkdir("/tmp/rg-sandbox-folder", 0700) == 0);
}
static int remove_inside(void)
{
    return answer(unlink(inside) == 0);
}
static int rename_inside(void)
{
    return answer(rename(inside, outside) == 0);
}
static int change_mode(void)
{
    return answer(chmod(inside, 0777) == 0);
}
static int link_file(void)
{
    return answer(symlink("/etc/passwd", "/tmp/rg-sandbox-link") == 0);
}
static int run_program(void)
{
    char *argv[] = {(char *)(uintptr_t) "true", NULL}, *env[] = {NULL};
    execve("/bin/true", argv, env);
    return answer(false);
}
static int run_by_descriptor(void)
{
    char *argv[] = {(char *)(uintptr_t) "true", NULL}, *env[] = {NULL};
    int fd = memfd_create("program", 0);
    (void)syscall(SYS_execveat, fd, "", argv, env, AT_EMPTY_PATH);
    return answer(false);
}
static int fork_once(void)
{
    pid_t pid = fork();
    if (pid == 0)
        _exit(0);
    return answer(pid > 0);
}
static int vfork_once(void)
{
    long pid = syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
    if (pid == 0)
        _exit(0);
    return answer(pid > 0);
}
static int listen_again(void)
{
    return answer(listen(bound, 1) == 0);
}
static int accept_one(void)
{
    return close_answer(accept4(bound, NULL, NULL, SOCK_NONBLOCK));
}
static int bind_new(void)
{
    struct sockaddr_in any = {.sin_family = AF_INET};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int result = fd < 0 ? 2 + errno
                        : answer(bind(fd, (struct sockaddr *)(void *)&any, sizeof(any)) == 0);
    close(fd);
    return result;
}
static int tcp4(void)
{
    return close_answer(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
}
static int tcp6(void)
{
    return close_answer(socket(AF_INET6, SOCK_STREAM, IPPROTO_TCP));
}
static int udp(void)
{
    return close_answer(socket(AF_INET, SOCK_DGRAM, 0));
}
static int raw(void)
{
    return close_answer(socket(AF_INET, SOCK_RAW, IPPROTO_ICMP));
}
static int local(void)
{
    return close_answer(socket(AF_UNIX, SOCK_STREAM, 0));
}
static int netlink(void)
{
    return close_answer(socket(AF_NETLINK, SOCK_RAW, 0));
}
static int packet(void)
{
    return close_answer(socket(AF_PACKET, SOCK_RAW, 0));
}
static int connect_out(void)
{
    struct sockaddr_in nobody = {
        .sin_family = AF_INET, .sin_port = htons(1), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    int rc = connect(fd, (struct sockaddr *)(void *)&nobody, sizeof(nobody));
    int result = rc == 0 || errno == ECONNREFUSED ? FINE : answer(false);
    close(fd);
    return result;
}
static int map_plain(void)
{
    void *p = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return answer(p != MAP_FAILED && mlock(p, 4096) == 0 && munmap(p, 4096) == 0);
}
static int map_code(void)
{
    return answer(mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) !=
                  MAP_FAILED);
}
static int map_writable_code(void)
{
    return answer(mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC,
                       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) != MAP_FAILED);
}
static int turn_into_code(void)
{
    void *p = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return answer(mprotect(p, 4096, PROT_READ | PROT_EXEC) == 0);
}
static int trace_parent(void)
{
    return answer(ptrace(PTRACE_ATTACH, getppid(), 0, 0) == 0);
}
static int read_parent(void)
{
    char byte;
    struct iovec here = {&byte, 1}, there = {&folder, 1};
    return answer(process_vm_readv(getppid(), &here, 1, &there, 1, 0) == 1);
}
static int kill_parent(void)
{
    return answer(kill(getppid(), 0) == 0);
}
static int mount_something(void)
{
    return answer(mount("none", "/tmp", "tmpfs", 0, NULL) == 0);
}
static int become_other(void)
{
    return answer(setuid(12345) == 0);
}
static int own_namespace(void)
{
    return answer(syscall(SYS_unshare, 0x10000000) == 0);
}
static int kernel_program(void)
{
    return answer(syscall(SYS_bpf, 0, 0, 0) >= 0);
}
static int uring(void)
{
    return answer(syscall(SYS_io_uring_setup, 1, 0) >= 0);
}
static int type_on_terminal(void)
{
    return answer(ioctl(0, TIOCSTI, "x") == 0);
}
static int raise_limit(void)
{
    struct rlimit limit = {10, 10};
    return answer(setrlimit(RLIMIT_NOFILE, &limit) == 0);
}
static int undo(void)
{
    errno = EPERM;
    return answer(prctl(PR_SET_NO_NEW_PRIVS, 0, 0, 0, 0) == 0 ||
                  prctl(PR_SET_DUMPABLE, 1, 0, 0, 0) == 0);
}
static int regain_capability(void)
{
    struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[2] = {{.effective = 1, .permitted = 1}, {0}};
    return answer(syscall(SYS_capset, &head, data) == 0);
}
static void *nothing(void *arg)
{
    return arg;
}
static int start_thread(void)
{
    pthread_t thread;
    errno = pthread_create(&thread, NULL, nothing, NULL);
    return errno == 0 ? answer(pthread_join(thread, NULL) == 0) : answer(false);
}
static int spawn_worker(void)
{
    char *argv[] = {(char *)(uintptr_t) "true", NULL}, *env[] = {NULL};
    pid_t pid;
    int status;
    errno = posix_spawn(&pid, "/bin/true", NULL, NULL, argv, env);
    return errno != 0 ? answer(false) : answer(waitpid(pid, &status, 0) == pid && status == 0);
}
static int has_filter(void)
{
    return prctl(PR_GET_SECCOMP, 0, 0, 0, 0) == 2 || errno == EPERM ? FINE : 3;
}

/* ---- who is asked */

static enum rg_code confine_worker(struct rg_sandbox *held)
{
    struct rg_err err = RG_ERR_INIT;
    const char *const readable[] = {folder, "/dev/null", "/nonexistent"};
    enum rg_code code = rg_sandbox_worker(readable, RG_ARRAY_LEN(readable), held, &err);
    if (code != RG_OK)
        (void)fprintf(stderr, "%s\n", err.text);
    return code;
}

static enum rg_code confine_front(struct rg_sandbox *held)
{
    struct rg_err err = RG_ERR_INIT;
    enum rg_code code = rg_sandbox_begin(held, &err);
    return code == RG_OK ? rg_sandbox_front(held, &err) : code;
}

/* Runs the question in a confined child and returns its answer. */
static int ask(enum rg_code (*confine)(struct rg_sandbox *held), int (*question)(void))
{
    int status;
    pid_t pid = fork();
    if (pid == 0) {
        struct rg_sandbox held;
        if (confine(&held) != RG_OK)
            _exit(100);
        if (!held.filter || !held.no_capabilities || !held.no_new_privileges)
            _exit(101);
        _exit(question());
    }
    assert_true(pid > 0);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    if (WIFSIGNALED(status))
        return 200 + WTERMSIG(status);
    return WEXITSTATUS(status);
}

struct question {
    const char *what;
    int (*ask)(void);
    bool by_path; /* it takes Landlock to refuse it */
};

static void expect(enum rg_code (*confine)(struct rg_sandbox *held), const struct question *v,
                   size_t n, int wanted)
{
    bool paths = rg_sandbox_landlock() > 0;
    for (size_t i = 0; i < n; i++) {
        if (v[i].by_path && !paths) {
            print_message("without Landlock: %s\n", v[i].what);
            continue;
        }
        int got = ask(confine, v[i].ask);
        if (got != wanted)
            fail_msg("%s: %d instead of %d", v[i].what, got, wanted);
    }
}

static int setup(void **state)
{
    struct sockaddr_in any = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    (void)state;
    memcpy(folder, "/tmp/rg-trust-XXXXXX", sizeof("/tmp/rg-trust-XXXXXX"));
    memcpy(outside, "/tmp/rg-other-XXXXXX", sizeof("/tmp/rg-other-XXXXXX"));
    if (mkdtemp(folder) == NULL || close(mkstemp(outside)) != 0)
        return -1;
    (void)snprintf(inside, sizeof(inside), "%s/root.pem", folder);
    (void)snprintf(link_in, sizeof(link_in), "%s/link.pem", folder);
    if (close(open(inside, O_CREAT | O_WRONLY | O_CLOEXEC, 0600)) != 0 ||
        symlink(outside, link_in) != 0)
        return -1;
    bound = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    return bind(bound, (struct sockaddr *)(void *)&any, sizeof(any));
}

static int teardown(void **state)
{
    (void)state;
    close(bound);
    (void)unlink(link_in);
    (void)unlink(inside);
    (void)unlink(outside);
    return rmdir(folder);
}

#define ASK(name)                                                                              \
    {                                                                                          \
#name, name, false                                                                     \
    }
#define ASK_PATH(name)                                                                         \
    {                                                                                          \
#name, name, true                                                                      \
    }

static void worker__asked__may_do_its_work(void **state)
{
    static const struct question v[] = {ASK(read_inside), ASK(list_inside), ASK(read_null),
                                        ASK(tcp4),        ASK(tcp6),        ASK(connect_out),
                                        ASK(map_plain),   ASK(has_filter)};
    (void)state;
    expect(confine_worker, v, RG_ARRAY_LEN(v), FINE);
}

static void worker__asked__reads_below_the_trust_store_only(void **state)
{
    static const struct question v[] = {ASK_PATH(link_outwards), ASK_PATH(read_outside),
                                        ASK_PATH(read_passwd), ASK_PATH(read_environ)};
    (void)state;
    expect(confine_worker, v, RG_ARRAY_LEN(v), REFUSED);
}

static void worker__asked__writes_nothing(void **state)
{
    static const struct question v[] = {
        ASK(write_inside),  ASK(append_inside), ASK(truncate_inside), ASK(write_null),
        ASK(make_file),     ASK(make_hidden),   ASK(open_by_struct),  ASK(make_folder),
        ASK(remove_inside), ASK(rename_inside), ASK(change_mode),     ASK(link_file)};
    (void)state;
    expect(confine_worker, v, RG_ARRAY_LEN(v), REFUSED);
}

static void worker__asked__neither_listens_nor_binds(void **state)
{
    static const struct question v[] = {ASK(listen_again), ASK(accept_one), ASK(bind_new),
                                        ASK(udp),          ASK(raw),        ASK(local),
                                        ASK(netlink),      ASK(packet)};
    (void)state;
    expect(confine_worker, v, RG_ARRAY_LEN(v), REFUSED);
}

static void worker__asked__runs_nothing(void **state)
{
    static const struct question v[] = {
        ASK(run_program),  ASK(run_by_descriptor), ASK(fork_once),         ASK(vfork_once),
        ASK(start_thread), ASK(map_code),          ASK(map_writable_code), ASK(turn_into_code)};
    (void)state;
    expect(confine_worker, v, RG_ARRAY_LEN(v), REFUSED);
}

static void worker__asked__touches_nobody_else(void **state)
{
    static const struct question v[] = {
        ASK(trace_parent),     ASK(read_parent),   ASK(kill_parent),    ASK(mount_something),
        ASK(become_other),     ASK(own_namespace), ASK(kernel_program), ASK(uring),
        ASK(type_on_terminal), ASK(raise_limit),   ASK(undo),           ASK(regain_capability)};
    (void)state;
    expect(confine_worker, v, RG_ARRAY_LEN(v), REFUSED);
}

static void front__asked__may_do_its_work(void **state)
{
    static const struct question v[] = {ASK(read_outside), ASK(write_inside), ASK(listen_again),
                                        ASK(tcp4),         ASK(udp),          ASK(local),
                                        ASK(netlink),      ASK(start_thread), ASK(spawn_worker),
                                        ASK(map_plain),    ASK(has_filter)};
    (void)state;
    expect(confine_front, v, RG_ARRAY_LEN(v), FINE);
}

static void front__asked__gains_nothing(void **state)
{
    static const struct question v[] = {
        ASK(trace_parent),   ASK(read_parent),      ASK(mount_something),
        ASK(become_other),   ASK(own_namespace),    ASK(kernel_program),
        ASK(uring),          ASK(packet),           ASK(map_writable_code),
        ASK(turn_into_code), ASK(regain_capability)};
    (void)state;
    expect(confine_front, v, RG_ARRAY_LEN(v), REFUSED);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(worker__asked__may_do_its_work),
        cmocka_unit_test(worker__asked__reads_below_the_trust_store_only),
        cmocka_unit_test(worker__asked__writes_nothing),
        cmocka_unit_test(worker__asked__neither_listens_nor_binds),
        cmocka_unit_test(worker__asked__runs_nothing),
        cmocka_unit_test(worker__asked__touches_nobody_else),
        cmocka_unit_test(front__asked__may_do_its_work),
        cmocka_unit_test(front__asked__gains_nothing),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
