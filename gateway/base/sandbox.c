/* DESIGN
 *
 * Three layers, each of which would do alone against most of what could go wrong:
 *
 *   privileges  no_new_privs, empty capability sets. The only layer that needs nothing of the
 *               kernel's build.
 *   Landlock    a worker reads below its trust store and nowhere else. By path, which seccomp
 *               cannot see. Raw system calls: Debian 12 has no library for it.
 *   seccomp     a worker has a list of what it may call, all else is EPERM; the front, which
 *               spawns processes, writes files and runs four libraries, a list of what it may
 * not.
 *
 * A refused call fails with EPERM and does not kill: what a new libc or kernel brings is then a
 * failed call and no dead gateway.
 *
 * The sanitizers make calls of their own (clone, ptrace, report files): a worker built with one
 * has the front's list plus what the worker must never do, and no Landlock. That is the only
 * switch, and only the compiler's flags throw it. */
#include "gateway/base/sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <seccomp.h>
#include <stdint.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "gateway/base/mem.h"

/* libseccomp's own argument macros leave the second datum out; clang minds. */
#pragma GCC diagnostic ignored "-Wmissing-field-initializers"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define LOOSE 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define LOOSE 1
#endif
#endif
#ifndef LOOSE
#define LOOSE 0
#endif

static enum rg_code failed(struct rg_err *err, const char *what, int number)
{
    return rg_fail(err, RG_E_INTERNAL, "%s: %s", what, strerror(number));
}

/* ---- privileges */

static bool set_capabilities(uint64_t keep)
{
    struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[2] = {{0}};
    struct __user_cap_data_struct now[2] = {{0}};
    if (syscall(SYS_capget, &head, now) != 0)
        return false;
    if ((now[0].permitted | now[1].permitted | now[0].inheritable | now[1].inheritable) == 0)
        return true;              /* and a service manager may have forbidden the call below */
    for (int i = 0; i < 2; i++) { /* only what there is can be kept */
        data[i].permitted = now[i].permitted & (uint32_t)(keep >> (32 * i));
        data[i].effective = data[i].permitted;
    }
    return syscall(SYS_capset, &head, data) == 0;
}

/* The bounding set can only shrink with CAP_SETPCAP; without it there is nothing to lose. */
static void empty_the_bounding_set(void)
{
    for (unsigned long cap = 0; cap <= 63; cap++)
        if (prctl(PR_CAPBSET_READ, cap, 0, 0, 0) == 1)
            (void)prctl(PR_CAPBSET_DROP, cap, 0, 0, 0);
    (void)prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
}

enum rg_code rg_sandbox_begin(struct rg_sandbox *out, struct rg_err *err)
{
    *out = (struct rg_sandbox){.landlock = 0};
    empty_the_bounding_set();
    if (!set_capabilities(UINT64_C(1) << CAP_NET_BIND_SERVICE))
        return failed(err, "capabilities", errno);
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
        return failed(err, "no_new_privs", errno);
    out->no_new_privileges = true;
    return RG_OK;
}

/* ---- seccomp */

/* The front: what reaches into other processes, the kernel, the machine, or gains privileges.
 */
static const int NEVER[] = {
    SCMP_SYS(process_vm_readv),
    SCMP_SYS(process_vm_writev),
    SCMP_SYS(kcmp),
    SCMP_SYS(bpf),
    SCMP_SYS(perf_event_open),
    SCMP_SYS(userfaultfd),
    SCMP_SYS(io_uring_setup),
    SCMP_SYS(io_uring_enter),
    SCMP_SYS(io_uring_register),
    SCMP_SYS(add_key),
    SCMP_SYS(request_key),
    SCMP_SYS(keyctl),
    SCMP_SYS(init_module),
    SCMP_SYS(finit_module),
    SCMP_SYS(delete_module),
    SCMP_SYS(kexec_load),
    SCMP_SYS(kexec_file_load),
    SCMP_SYS(reboot),
    SCMP_SYS(swapon),
    SCMP_SYS(swapoff),
    SCMP_SYS(acct),
    SCMP_SYS(quotactl),
    SCMP_SYS(syslog),
    SCMP_SYS(mount),
    SCMP_SYS(umount2),
    SCMP_SYS(move_mount),
    SCMP_SYS(open_tree),
    SCMP_SYS(fsopen),
    SCMP_SYS(fsmount),
    SCMP_SYS(fsconfig),
    SCMP_SYS(pivot_root),
    SCMP_SYS(chroot),
    SCMP_SYS(setns),
    SCMP_SYS(unshare),
    SCMP_SYS(mknod),
    SCMP_SYS(mknodat),
    SCMP_SYS(open_by_handle_at),
    SCMP_SYS(name_to_handle_at),
    SCMP_SYS(fanotify_init),
    SCMP_SYS(settimeofday),
    SCMP_SYS(clock_settime),
    SCMP_SYS(clock_adjtime),
    SCMP_SYS(adjtimex),
    SCMP_SYS(sethostname),
    SCMP_SYS(setdomainname),
    SCMP_SYS(setuid),
    SCMP_SYS(setgid),
    SCMP_SYS(setreuid),
    SCMP_SYS(setregid),
    SCMP_SYS(setresuid),
    SCMP_SYS(setresgid),
    SCMP_SYS(setgroups),
    SCMP_SYS(setfsuid),
    SCMP_SYS(setfsgid),
    SCMP_SYS(iopl),
    SCMP_SYS(ioperm),
    SCMP_SYS(modify_ldt),
    SCMP_SYS(vhangup),
    SCMP_SYS(lookup_dcookie),
    SCMP_SYS(move_pages),
    SCMP_SYS(migrate_pages),
    SCMP_SYS(vmsplice),
#if !LOOSE
    SCMP_SYS(ptrace),
    SCMP_SYS(personality),
#endif
};

/* A worker built with a sanitizer: beyond NEVER. */
static const int NEVER_IN_WORKERS[] = {
    SCMP_SYS(bind),   SCMP_SYS(listen),   SCMP_SYS(accept),    SCMP_SYS(accept4),
    SCMP_SYS(execve), SCMP_SYS(execveat), SCMP_SYS(fork),      SCMP_SYS(vfork),
    SCMP_SYS(mkdir),  SCMP_SYS(mkdirat),  SCMP_SYS(unlink),    SCMP_SYS(unlinkat),
    SCMP_SYS(rename), SCMP_SYS(renameat), SCMP_SYS(renameat2), SCMP_SYS(link),
    SCMP_SYS(linkat), SCMP_SYS(symlink),  SCMP_SYS(symlinkat), SCMP_SYS(chmod),
    SCMP_SYS(fchmod), SCMP_SYS(fchmodat), SCMP_SYS(truncate),
};

/* A worker: one thread, one epoll, TLS, log lines. Those with rules about arguments stand in
 * allow_some. */
static const int WORKER_MAY[] = {
    SCMP_SYS(read),
    SCMP_SYS(readv),
    SCMP_SYS(pread64),
    SCMP_SYS(write),
    SCMP_SYS(writev),
    SCMP_SYS(recvmsg),
    SCMP_SYS(recvfrom),
    SCMP_SYS(sendmsg),
    SCMP_SYS(sendto),
    SCMP_SYS(close),
    SCMP_SYS(close_range),
    SCMP_SYS(dup),
    SCMP_SYS(dup2),
    SCMP_SYS(dup3),
    SCMP_SYS(fcntl),
    SCMP_SYS(lseek),
    SCMP_SYS(fstat),
    SCMP_SYS(newfstatat),
    SCMP_SYS(stat),
    SCMP_SYS(lstat),
    SCMP_SYS(statx),
    SCMP_SYS(access),
    SCMP_SYS(faccessat),
    SCMP_SYS(faccessat2),
    SCMP_SYS(readlink),
    SCMP_SYS(readlinkat),
    SCMP_SYS(getdents64),
    SCMP_SYS(munmap),
    SCMP_SYS(mremap),
    SCMP_SYS(brk),
    SCMP_SYS(madvise),
    SCMP_SYS(mlock),
    SCMP_SYS(mlock2),
    SCMP_SYS(munlock),
    SCMP_SYS(getrandom),
    SCMP_SYS(clock_gettime),
    SCMP_SYS(clock_getres),
    SCMP_SYS(clock_nanosleep),
    SCMP_SYS(nanosleep),
    SCMP_SYS(gettimeofday),
    SCMP_SYS(time),
    SCMP_SYS(epoll_wait),
    SCMP_SYS(epoll_pwait),
    SCMP_SYS(epoll_pwait2),
    SCMP_SYS(epoll_ctl),
    SCMP_SYS(poll),
    SCMP_SYS(ppoll),
    SCMP_SYS(select),
    SCMP_SYS(pselect6),
    SCMP_SYS(connect),
    SCMP_SYS(shutdown),
    SCMP_SYS(setsockopt),
    SCMP_SYS(getsockopt),
    SCMP_SYS(getsockname),
    SCMP_SYS(getpeername),
    SCMP_SYS(rt_sigaction),
    SCMP_SYS(rt_sigprocmask),
    SCMP_SYS(rt_sigreturn),
    SCMP_SYS(sigaltstack),
    SCMP_SYS(exit),
    SCMP_SYS(exit_group),
    SCMP_SYS(futex),
    SCMP_SYS(getpid),
    SCMP_SYS(gettid),
    SCMP_SYS(getuid),
    SCMP_SYS(geteuid),
    SCMP_SYS(getgid),
    SCMP_SYS(getegid),
    SCMP_SYS(sched_yield),
    SCMP_SYS(sched_getaffinity),
    SCMP_SYS(restart_syscall),
    SCMP_SYS(rseq),
    SCMP_SYS(set_robust_list),
    SCMP_SYS(uname),
};

static int add_all(scmp_filter_ctx filter, uint32_t action, const int *calls, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        int rc = seccomp_rule_add(filter, action, calls[i], 0);
        /* Negative pseudo numbers: this machine has no such call. */
        if (rc != 0 && rc != -EDOM && rc != -EINVAL)
            return rc;
    }
    return 0;
}

/* Reading is opening without any of these. */
static const scmp_datum_t WRITING =
    O_ACCMODE | O_CREAT | O_TRUNC | O_APPEND | (O_TMPFILE & ~O_DIRECTORY);

static int allow_some(scmp_filter_ctx filter)
{
    const uint32_t allow = SCMP_ACT_ALLOW;
    const scmp_datum_t tcp = SOCK_STREAM, kind = ~(scmp_datum_t)(SOCK_NONBLOCK | SOCK_CLOEXEC);
    int rc = 0;
    rc |= seccomp_rule_add(filter, allow, SCMP_SYS(openat), 1,
                           SCMP_A2(SCMP_CMP_MASKED_EQ, WRITING, O_RDONLY));
    rc |= seccomp_rule_add(filter, allow, SCMP_SYS(open), 1,
                           SCMP_A1(SCMP_CMP_MASKED_EQ, WRITING, O_RDONLY));
    rc |= seccomp_rule_add(filter, allow, SCMP_SYS(mmap), 1,
                           SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0));
    rc |= seccomp_rule_add(filter, allow, SCMP_SYS(mprotect), 1,
                           SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0));
    rc |= seccomp_rule_add(filter, allow, SCMP_SYS(ioctl), 1, SCMP_A1(SCMP_CMP_EQ, FIONREAD));
    rc |= seccomp_rule_add(filter, allow, SCMP_SYS(ioctl), 1, SCMP_A1(SCMP_CMP_EQ, FIONBIO));
    rc |= seccomp_rule_add(filter, allow, SCMP_SYS(socket), 2, SCMP_A0(SCMP_CMP_EQ, AF_INET),
                           SCMP_A1(SCMP_CMP_MASKED_EQ, kind, tcp));
    rc |= seccomp_rule_add(filter, allow, SCMP_SYS(socket), 2, SCMP_A0(SCMP_CMP_EQ, AF_INET6),
                           SCMP_A1(SCMP_CMP_MASKED_EQ, kind, tcp));
    /* Its own limits, to be read; abort() and raise(), of itself. */
    rc |= seccomp_rule_add(filter, allow, SCMP_SYS(prlimit64), 2, SCMP_A0(SCMP_CMP_EQ, 0),
                           SCMP_A2(SCMP_CMP_EQ, 0));
    rc |= seccomp_rule_add(filter, allow, SCMP_SYS(tgkill), 1,
                           SCMP_A0(SCMP_CMP_EQ, (scmp_datum_t)getpid()));
    return rc;
}

/* Memory that is both written and run. ld.so of a spawned worker maps code, so that alone may.
 */
static int refuse_writable_code(scmp_filter_ctx filter, uint32_t refuse)
{
    const scmp_datum_t both = PROT_WRITE | PROT_EXEC;
    int rc = seccomp_rule_add(filter, refuse, SCMP_SYS(mmap), 1,
                              SCMP_A2(SCMP_CMP_MASKED_EQ, both, both));
    rc |= seccomp_rule_add(filter, refuse, SCMP_SYS(mprotect), 1,
                           SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, PROT_EXEC));
    return rc;
}

static int fill_loose(scmp_filter_ctx filter, bool worker)
{
    const uint32_t refuse = SCMP_ACT_ERRNO(EPERM);
    int rc = add_all(filter, refuse, NEVER, RG_ARRAY_LEN(NEVER));
    if (rc == 0)
        rc = refuse_writable_code(filter, refuse);
    if (rc == 0)
        rc = seccomp_rule_add(filter, refuse, SCMP_SYS(socket), 1,
                              SCMP_A0(SCMP_CMP_GT, AF_NETLINK));
    if (rc == 0 && worker)
        rc = add_all(filter, refuse, NEVER_IN_WORKERS, RG_ARRAY_LEN(NEVER_IN_WORKERS));
    return rc;
}

static enum rg_code install_filter(bool worker, struct rg_err *err)
{
    bool list = worker && !LOOSE;
    scmp_filter_ctx filter = seccomp_init(list ? SCMP_ACT_ERRNO(EPERM) : SCMP_ACT_ALLOW);
    if (filter == NULL)
        return rg_fail(err, RG_E_INTERNAL, "seccomp: out of memory");
    int rc = seccomp_attr_set(filter, SCMP_FLTATR_CTL_TSYNC, worker ? 0 : 1);
    if (rc == 0 && list) {
        rc = add_all(filter, SCMP_ACT_ALLOW, WORKER_MAY, RG_ARRAY_LEN(WORKER_MAY));
        rc = rc != 0 ? rc : allow_some(filter);
    } else if (rc == 0) {
        rc = fill_loose(filter, worker);
    }
    if (rc == 0)
        rc = seccomp_load(filter);
    seccomp_release(filter);
    return rc == 0 ? RG_OK : failed(err, "seccomp", rc < 0 ? -rc : rc);
}

/* ---- Landlock, by the numbers of its ABI: the header of Debian 12 stops at version 2 */

enum { LL_CREATE = 444, LL_ADD_RULE = 445, LL_RESTRICT = 446, LL_VERSION = 1, LL_BENEATH = 1 };
static const uint64_t LL_READ_FILE = 1 << 2, LL_READ_DIR = 1 << 3, LL_FS_V1 = (1 << 13) - 1,
                      LL_REFER = 1 << 13, LL_TRUNCATE = 1 << 14, LL_IOCTL_DEV = 1 << 15,
                      LL_BIND_TCP = 1 << 0;

struct ruleset {
    uint64_t fs, net; /* net: since version 4 */
};
struct beneath {
    uint64_t access;
    int32_t fd;
} __attribute__((packed));

int rg_sandbox_landlock(void)
{
    long version = syscall(LL_CREATE, NULL, 0, LL_VERSION);
    return version < 0 ? 0 : (int)version;
}

static void allow_path(int ruleset, const char *path)
{
    struct stat info;
    struct beneath rule = {.access = LL_READ_FILE, .fd = open(path, O_PATH | O_CLOEXEC)};
    if (rule.fd < 0)
        return;
    if (fstat(rule.fd, &info) == 0 && S_ISDIR(info.st_mode))
        rule.access |= LL_READ_DIR;
    (void)syscall(LL_ADD_RULE, ruleset, LL_BENEATH, &rule, 0);
    close(rule.fd);
}

static enum rg_code confine_paths(const char *const *readable, size_t n, int version,
                                  struct rg_err *err)
{
    struct ruleset handled = {.fs = LL_FS_V1};
    if (version >= 2)
        handled.fs |= LL_REFER;
    if (version >= 3)
        handled.fs |= LL_TRUNCATE;
    if (version >= 5)
        handled.fs |= LL_IOCTL_DEV;
    if (version >= 4)
        handled.net = LL_BIND_TCP;
    size_t size = version >= 4 ? sizeof(handled) : sizeof(handled.fs);
    int ruleset = (int)syscall(LL_CREATE, &handled, size, 0);
    if (ruleset < 0)
        return failed(err, "Landlock", errno);
    for (size_t i = 0; i < n; i++)
        allow_path(ruleset, readable[i]);
    long rc = syscall(LL_RESTRICT, ruleset, 0);
    int number = errno;
    close(ruleset);
    return rc == 0 ? RG_OK : failed(err, "Landlock", number);
}

/* ---- the two kinds of process */

static enum rg_code drop_the_rest(struct rg_sandbox *out, struct rg_err *err)
{
    if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0 || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
        return failed(err, "prctl", errno);
    out->no_new_privileges = true;
    if (!set_capabilities(0))
        return failed(err, "capabilities", errno);
    out->no_capabilities = true;
    return RG_OK;
}

enum rg_code rg_sandbox_front(struct rg_sandbox *out, struct rg_err *err)
{
    *out = (struct rg_sandbox){.landlock = 0};
    enum rg_code code = drop_the_rest(out, err);
    enum rg_code filtered = install_filter(false, err);
    out->filter = filtered == RG_OK;
    return code != RG_OK ? code : filtered;
}

enum rg_code rg_sandbox_worker(const char *const *readable, size_t n, struct rg_sandbox *out,
                               struct rg_err *err)
{
    *out = (struct rg_sandbox){.landlock = 0};
    empty_the_bounding_set();
    enum rg_code code = drop_the_rest(out, err);
    int version = LOOSE ? 0 : rg_sandbox_landlock();
    if (version > 0) {
        enum rg_code confined = confine_paths(readable, n, version, err);
        out->landlock = confined == RG_OK ? version : 0;
        code = code != RG_OK ? code : confined;
    }
    enum rg_code filtered = install_filter(true, err);
    out->filter = filtered == RG_OK;
    return code != RG_OK ? code : filtered;
}
