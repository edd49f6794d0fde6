/* Life of a daemon here:
 *
 *        start              ends                 its time comes
 *   ─────────────▶ RUNNING ──────▶ WAITING ─────────────────────▶ RUNNING
 *                     │ ends with exit code 2 or 3, or while stopping
 *                     ▼
 *                   GONE
 *
 * All children are forked by the main thread, since PR_SET_PDEATHSIG tells of the end of the thread that forked.
 */
#include "up.h"

#include "cluster_dir.h"
#include "libcommon/check.h"
#include "libcommon/clock.h"
#include "libcommon/error.h"
#include "libcommon/member.h"
#include "status.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define BACKOFF_MS_MIN  200
#define BACKOFF_MS_MAX  5000
#define STEADY_MS       10000 /* a daemon that ran that long starts again with the shortest backoff */
#define STOP_MS         10000 /* from SIGTERM to SIGKILL */
#define ORPHANS_MS      12000 /* daemons of a killed supervisor get as long to end */
#define WAIT_TOLD_MS    10000 /* how often what is still missing is said */
#define LAST_LINE_BYTES 4096

#define NODES_DEFAULT  3
#define METADS_DEFAULT 1
#define SHARDS_DEFAULT 64

enum daemon_state { DAEMON_WAITING, DAEMON_RUNNING, DAEMON_GONE };

struct daemon {
    const struct plan_process *process;
    enum daemon_state state;
    pid_t pid;
    uint64_t started_ms;
    uint64_t start_at_ms; /* while WAITING */
    uint64_t backoff_ms;  /* the next one */
    off_t log_start;      /* where this run's lines begin */
};

struct up {
    struct plan plan;
    struct daemon *daemons; /* owned, as plan.processes */
    const char *data;
    int lock_fd, signal_fd, ready_fd;
    int told_fd; /* --detach: the starting process reads from it that the cluster is ready; else -1 */
    sigset_t old_signals;
    bool stopping;
    enum plan_kind stopping_kind;
    uint64_t kill_at_ms;
    int code;

    pthread_t watcher;
    atomic_bool watcher_stop;
};

__attribute__((format(printf, 1, 2))) static void say(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vprintf(format, arguments);
    va_end(arguments);
    printf("\n");
    fflush(stdout);
}

/* ---- starting ---- */

_Noreturn static void become_daemon(const struct up *up, const struct plan_process *process, int log_fd,
                                    pid_t supervisor) {
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    if (getppid() != supervisor) _exit(1); /* it died before the line above */
    setpgid(0, 0);                         /* Ctrl-C is the supervisor's alone: it stops the daemons in order */
    signal(SIGPIPE, SIG_DFL);
    sigprocmask(SIG_SETMASK, &up->old_signals, NULL);
    int null_fd = open("/dev/null", O_RDONLY);
    if (null_fd >= 0) dup2(null_fd, STDIN_FILENO);
    dup2(log_fd, STDOUT_FILENO);
    dup2(log_fd, STDERR_FILENO);
    execv(process->args[0], process->args);
    dprintf(STDERR_FILENO, "cannot run %s: %s\n", process->args[0], strerror(errno));
    _exit(2);
}

static void plan_restart(struct daemon *daemon, uint64_t now_ms) {
    if (now_ms - daemon->started_ms >= STEADY_MS) daemon->backoff_ms = BACKOFF_MS_MIN;
    daemon->state = DAEMON_WAITING;
    daemon->start_at_ms = now_ms + daemon->backoff_ms;
    daemon->backoff_ms = daemon->backoff_ms * 2 < BACKOFF_MS_MAX ? daemon->backoff_ms * 2 : BACKOFF_MS_MAX;
}

static void start_daemon(struct up *up, struct daemon *daemon) {
    const struct plan_process *process = daemon->process;
    daemon->started_ms = clock_boottime_ms();
    int log_fd = open(process->log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
    pid_t supervisor = getpid();
    pid_t pid = -1;
    if (log_fd >= 0) {
        daemon->log_start = lseek(log_fd, 0, SEEK_END);
        pid = fork();
    }
    if (pid == 0) become_daemon(up, process, log_fd, supervisor);
    if (pid < 0) {
        say("%s cannot be started: %s", process->name, strerror(errno));
        plan_restart(daemon, daemon->started_ms);
    } else {
        daemon->pid = pid;
        daemon->state = DAEMON_RUNNING;
    }
    if (log_fd >= 0) close(log_fd);
}

static void start_due(struct up *up) {
    uint64_t now_ms = clock_boottime_ms();
    for (size_t i = 0; i < up->plan.count && !up->stopping; i++)
        if (up->daemons[i].state == DAEMON_WAITING && up->daemons[i].start_at_ms <= now_ms)
            start_daemon(up, &up->daemons[i]);
}

/* ---- ready ---- */

static void *watch(void *arg) {
    struct up *up = arg;
    struct status_wait wait = {.metad = up->plan.metad, .gateway = up->plan.gateway, .stop = &up->watcher_stop};
    char missing[256];
    for (;;) {
        wait.deadline_ms = clock_boottime_ms() + WAIT_TOLD_MS;
        if (status_wait_ready(&wait, missing, sizeof missing) == SK_OK) break;
        if (atomic_load(&up->watcher_stop)) return NULL;
        say("not ready yet: %s", missing);
    }
    eventfd_write(up->ready_fd, 1);
    return NULL;
}

static void say_how_to_go_on(const struct up *up) {
    say("The cluster is ready: gateway %s, metad %s, data in %s, logs in %s/log.", up->plan.gateway,
        up->plan.metad, up->data, up->data);
    say("Go on with:  skerry --gateway %s SET greeting hello", up->plan.gateway);
    say("             skerry --gateway %s GET greeting", up->plan.gateway);
    say("             skerry --gateway %s             (a prompt)", up->plan.gateway);
    say("             redis-cli -p %" PRIu64 " GET greeting", up->plan.resp_port);
    say("             skerry status --metad %s --gateway %s", up->plan.metad, up->plan.gateway);
    if (up->plan.page[0] != 0) say("Look at it:  %s", up->plan.page);
    if (up->told_fd >= 0) say("It stays up until:  skerry up --stop --data %s", up->data);
    else say("Ctrl-C stops it; started again on the same directory it has its data.");
}

/* A detached supervisor says the rest into its own log. */
static void leave_terminal(struct up *up) {
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/log/up.log", up->data);
    int log_fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
    int null_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    if (null_fd >= 0) dup2(null_fd, STDIN_FILENO);
    if (log_fd >= 0) {
        dup2(log_fd, STDOUT_FILENO);
        dup2(log_fd, STDERR_FILENO);
        close(log_fd);
    }
    if (null_fd >= 0) close(null_fd);
}

static void begin_stop(struct up *up, int code);

static void on_ready(struct up *up) {
    eventfd_t count;
    eventfd_read(up->ready_fd, &count);
    say_how_to_go_on(up);
    if (up->told_fd < 0) return;
    ssize_t written = write(up->told_fd, "r", 1);
    close(up->told_fd);
    up->told_fd = -1;
    leave_terminal(up);
    if (written != 1) begin_stop(up, 1); /* whoever started us is gone and does not know of us */
}

/* ---- ending ---- */

static void describe_end(int status, char *text, size_t text_bytes) {
    if (WIFSIGNALED(status))
        snprintf(text, text_bytes, "was ended by signal %d (%s)", WTERMSIG(status), strsignal(WTERMSIG(status)));
    else snprintf(text, text_bytes, "ended with exit code %d", WEXITSTATUS(status));
}

static bool says_why(const char *line) {
    return strstr(line, "level=error") != NULL || strstr(line, "level=") == NULL;
}

/* Of the end of what this run wrote: the last line that is an error or no log line, else the last one; empty when there
 * is none. */
static void read_last_line(const struct daemon *daemon, char last[LAST_LINE_BYTES]) {
    char text[LAST_LINE_BYTES];
    last[0] = 0;
    int fd = open(daemon->process->log, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return;
    off_t start = lseek(fd, 0, SEEK_END) - (LAST_LINE_BYTES - 1);
    ssize_t size = pread(fd, text, LAST_LINE_BYTES - 1, start > daemon->log_start ? start : daemon->log_start);
    close(fd);
    text[size > 0 ? size : 0] = 0;
    bool found = false;
    char *rest = text;
    for (char *line; (line = strsep(&rest, "\n")) != NULL;) {
        if (line[0] == 0 || (found && !says_why(line))) continue;
        found = says_why(line);
        strcpy(last, line);
    }
}

static void on_daemon_end(struct up *up, struct daemon *daemon, int status) {
    pid_t pid = daemon->pid;
    daemon->pid = 0;
    daemon->state = DAEMON_GONE;
    int code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
    if (up->stopping && (code == 0 || code == up->code)) return; /* one bad configuration is told once */
    char end[128], line[LAST_LINE_BYTES];
    describe_end(status, end, sizeof end);
    read_last_line(daemon, line);
    const char *name = daemon->process->name;
    if (up->stopping) {
        say("%s (pid %d) %s while stopping", name, (int)pid, end);
    } else if (code == 2) {
        fprintf(stderr, "skerry: %s cannot run with this configuration: %s\n", name,
                line[0] != 0 ? line : daemon->process->log);
        begin_stop(up, 2);
    } else if (code == EXIT_REMOVED) {
        say("%s was removed from the cluster and is not started again", name);
    } else {
        plan_restart(daemon, clock_boottime_ms());
        uint64_t delay_ms = daemon->start_at_ms - clock_boottime_ms();
        say("%s (pid %d) %s; starting it again in %.1f s%s%s%s", name, (int)pid, end, (double)delay_ms / 1000.0,
            WIFSIGNALED(status) ? "" : "; ", WIFSIGNALED(status) ? "" : daemon->process->log,
            WIFSIGNALED(status) || line[0] == 0 ? "" : " ends with:");
        if (!WIFSIGNALED(status) && line[0] != 0) say("  %s", line);
    }
}

static void reap(struct up *up) {
    int status;
    for (pid_t pid; (pid = waitpid(-1, &status, WNOHANG)) > 0;)
        for (size_t i = 0; i < up->plan.count; i++)
            if (up->daemons[i].pid == pid) on_daemon_end(up, &up->daemons[i], status);
}

/* ---- stopping: gateway, then the shardds, then metad ---- */

static size_t signal_kind(struct up *up, enum plan_kind kind, int number) {
    size_t running = 0;
    for (size_t i = 0; i < up->plan.count; i++) {
        struct daemon *daemon = &up->daemons[i];
        if (daemon->process->kind != kind || daemon->state != DAEMON_RUNNING) continue;
        running++;
        if (number != 0) kill(daemon->pid, number);
    }
    return running;
}

static void begin_stop_of_kind(struct up *up, enum plan_kind kind) {
    up->stopping_kind = kind;
    up->kill_at_ms = clock_boottime_ms() + STOP_MS;
    signal_kind(up, kind, SIGTERM);
}

static void begin_stop(struct up *up, int code) {
    if (up->stopping) return;
    up->stopping = true;
    up->code = code;
    atomic_store(&up->watcher_stop, true);
    for (size_t i = 0; i < up->plan.count; i++)
        if (up->daemons[i].state == DAEMON_WAITING) up->daemons[i].state = DAEMON_GONE;
    begin_stop_of_kind(up, PLAN_GATEWAY);
}

/* True when nothing runs any more. */
static bool go_on_stopping(struct up *up) {
    while (signal_kind(up, up->stopping_kind, 0) == 0) {
        if (up->stopping_kind == PLAN_METAD) return true;
        begin_stop_of_kind(up, up->stopping_kind - 1);
    }
    if (clock_boottime_ms() >= up->kill_at_ms) {
        say("%s did not end within %d s: killed", plan_kind_name(up->stopping_kind), STOP_MS / 1000);
        signal_kind(up, up->stopping_kind, SIGKILL);
        up->kill_at_ms = UINT64_MAX;
    }
    return false;
}

static void on_stop_signal(struct up *up, int number) {
    if (up->stopping && number == SIGINT) { /* Ctrl-C again: now */
        for (int kind = PLAN_GATEWAY; kind >= PLAN_METAD; kind--) signal_kind(up, (enum plan_kind)kind, SIGKILL);
    } else if (!up->stopping) {
        say("stopping");
        begin_stop(up, 0);
    }
}

/* ---- the loop ---- */

static void on_signals(struct up *up) {
    struct signalfd_siginfo info;
    while (read(up->signal_fd, &info, sizeof info) == sizeof info) {
        if (info.ssi_signo == SIGCHLD) reap(up);
        else on_stop_signal(up, (int)info.ssi_signo);
    }
}

static int next_timeout_ms(const struct up *up) {
    uint64_t now_ms = clock_boottime_ms();
    uint64_t at_ms = up->stopping ? up->kill_at_ms : UINT64_MAX;
    for (size_t i = 0; i < up->plan.count; i++)
        if (up->daemons[i].state == DAEMON_WAITING && up->daemons[i].start_at_ms < at_ms)
            at_ms = up->daemons[i].start_at_ms;
    if (at_ms == UINT64_MAX) return -1;
    return at_ms <= now_ms ? 0 : (int)(at_ms - now_ms);
}

static void supervise(struct up *up) {
    for (;;) {
        start_due(up);
        if (up->stopping && go_on_stopping(up)) return;
        struct pollfd fds[] = {{.fd = up->signal_fd, .events = POLLIN}, {.fd = up->ready_fd, .events = POLLIN}};
        int rc = poll(fds, 2, next_timeout_ms(up));
        if (rc < 0 && errno != EINTR) begin_stop(up, 1);
        if (rc <= 0) continue;
        if ((fds[0].revents & POLLIN) != 0) on_signals(up);
        if ((fds[1].revents & POLLIN) != 0 && !up->stopping) on_ready(up);
    }
}

/* ---- setting up ---- */

/* Before there are threads: they inherit the mask. */
static int catch_signals(struct up *up) {
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGCHLD);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGHUP);
    signal(SIGPIPE, SIG_IGN);
    if (sigprocmask(SIG_BLOCK, &signals, &up->old_signals) != 0) return SK_EUNEXPECTED;
    up->signal_fd = signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK);
    up->ready_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    return up->signal_fd >= 0 && up->ready_fd >= 0 ? SK_OK : SK_EUNEXPECTED;
}

static int run(struct up *up) {
    up->daemons = calloc(up->plan.count, sizeof *up->daemons);
    if (up->daemons == NULL || catch_signals(up) != SK_OK) {
        fprintf(stderr, "skerry: cannot set up the supervisor: %s\n", strerror(errno));
        return 1;
    }
    for (size_t i = 0; i < up->plan.count; i++)
        up->daemons[i] = (struct daemon){.process = &up->plan.processes[i], .backoff_ms = BACKOFF_MS_MIN};
    start_due(up);
    if (pthread_create(&up->watcher, NULL, watch, up) != 0) {
        begin_stop(up, 1);
        supervise(up);
        return up->code;
    }
    supervise(up);
    pthread_join(up->watcher, NULL);
    say("stopped");
    return up->code;
}

static uint64_t count_cores(void) {
    cpu_set_t cores;
    return sched_getaffinity(0, sizeof cores, &cores) == 0 ? (uint64_t)CPU_COUNT(&cores) : 1;
}

static bool is_program(const char *path) {
    struct stat info;
    return stat(path, &info) == 0 && S_ISREG(info.st_mode) && access(path, X_OK) == 0;
}

/* The directory of this program. */
static int find_own_directory(char room[PATH_MAX]) {
    ssize_t size = readlink("/proc/self/exe", room, PATH_MAX - 1);
    if (size <= 0) return SK_NOT_FOUND;
    room[size] = 0;
    *strrchr(room, '/') = 0;
    return SK_OK;
}

/* A daemon's program: in `directory` (installed), or in the folder of its own beside that (a build tree). */
static int find_program(const char *directory, enum plan_kind kind, char room[PATH_MAX]) {
    const char *name = plan_kind_name(kind);
    if (snprintf(room, PATH_MAX, "%s/%s", directory, name) < PATH_MAX && is_program(room)) return SK_OK;
    if (snprintf(room, PATH_MAX, "%s/../%s/%s", directory, name, name) < PATH_MAX && is_program(room))
        return SK_OK;
    fprintf(stderr, "skerry: the program %s is neither in %s nor in %s/../%s\n", name, directory, directory, name);
    return SK_NOT_FOUND;
}

/* What the cluster was created with wins over defaults; what was asked for must agree where it cannot change. */
static int settle(const struct up_options *options, struct cluster_settings *settings) {
    struct cluster_settings kept = {0};
    int err = cluster_dir_read_settings(options->data, &kept);
    if (err == SK_ECORRUPT) {
        fprintf(stderr, "skerry: %s/up.settings is damaged\n", options->data);
        return SK_ECONFIG;
    }
    bool fixed_differs = err == SK_OK && ((options->shards != 0 && options->shards != kept.shards) ||
                                          (options->lanes != 0 && options->lanes != kept.lanes));
    if (fixed_differs || (options->nodes != 0 && options->nodes < kept.nodes) ||
        (options->metads != 0 && options->metads < kept.metads)) {
        fprintf(stderr,
                "skerry: %s was created with --nodes %" PRIu64 " --metad %" PRIu64 " --shards %" PRIu64
                " --lanes %" PRIu64 "; shards and lanes are fixed, nodes and metads may only be added\n",
                options->data, kept.nodes, kept.metads, kept.shards, kept.lanes);
        return SK_ECONFIG;
    }
    *settings = kept;
    if (options->nodes != 0) settings->nodes = options->nodes;
    if (settings->nodes == 0) settings->nodes = NODES_DEFAULT;
    if (options->metads != 0) settings->metads = options->metads;
    if (settings->metads == 0) settings->metads = METADS_DEFAULT;
    if (settings->shards == 0) settings->shards = options->shards != 0 ? options->shards : SHARDS_DEFAULT;
    if (settings->lanes == 0)
        settings->lanes = options->lanes != 0 ? options->lanes : plan_lanes(count_cores(), settings->nodes);
    err = cluster_dir_write_settings(options->data, settings);
    if (err != SK_OK) fprintf(stderr, "skerry: cannot write %s/up.settings: %s\n", options->data, error_text(err));
    return err;
}

static int make_plan(struct up *up, const struct up_options *options) {
    struct cluster_settings settings;
    int err = settle(options, &settings);
    if (err != SK_OK) return err;
    if (settings.metads > 1) err = cluster_dir_make_secret(options->data, PLAN_SECRET);
    if (err != SK_OK) {
        fprintf(stderr, "skerry: cannot write %s/" PLAN_SECRET ": %s\n", options->data, error_text(err));
        return err;
    }
    char programs[PLAN_KINDS][PATH_MAX], own[PATH_MAX];
    if (options->programs == NULL) err = find_own_directory(own);
    if (err != SK_OK) return err;
    const char *directory = options->programs != NULL ? options->programs : own;
    struct plan_options plan = {
        .data = options->data,
        .metads = settings.metads,
        .nodes = settings.nodes,
        .shards = settings.shards,
        .lanes = settings.lanes,
        .gateway_port = options->gateway_port,
        .resp_port = options->resp_port,
        .port_offset = options->port_offset,
        .durability = options->durability,
        .extra = options->extra,
        .extra_count = options->extra_count,
    };
    for (int kind = PLAN_METAD; kind < PLAN_KINDS; kind++) {
        err = find_program(directory, (enum plan_kind)kind, programs[kind]);
        if (err != SK_OK) return err;
        plan.programs[kind] = programs[kind];
    }
    char text[256] = "out of memory";
    err = plan_make(&up->plan, &plan, text, sizeof text);
    if (err != SK_OK) fprintf(stderr, "skerry: %s\n", text);
    return err;
}

static int make_directories(const struct plan *plan) {
    for (size_t i = 0; i < plan->count; i++) {
        const char *path = plan->processes[i].data;
        if (path == NULL || mkdir(path, 0777) == 0 || errno == EEXIST) continue;
        fprintf(stderr, "skerry: cannot make the directory %s: %s\n", path, strerror(errno));
        return SK_EIO;
    }
    return SK_OK;
}

/* In the process that stays. `told_fd` is owned. */
static int run_supervisor(const struct up_options *options, int told_fd) {
    struct up up = {.data = options->data, .lock_fd = -1, .signal_fd = -1, .ready_fd = -1, .told_fd = told_fd};
    char text[PATH_MAX + 128] = "";
    int err = cluster_dir_make(options->data, text, sizeof text);
    if (err == SK_OK) err = cluster_dir_lock(options->data, ORPHANS_MS, &up.lock_fd, text, sizeof text);
    if (err != SK_OK) {
        fprintf(stderr, "skerry: %s\n", text);
        return err == SK_ELOCKED ? 1 : 2;
    }
    err = make_plan(&up, options);
    if (err == SK_OK) err = make_directories(&up.plan);
    int code = err == SK_OK ? run(&up) : 2;
    plan_deinit(&up.plan);
    free(up.daemons);
    close(up.lock_fd);
    return code;
}

/* The starting process waits for the supervisor to say that the cluster is ready, or to end. */
static int wait_for_detached(pid_t pid, int told_fd) {
    char byte;
    ssize_t size;
    do size = read(told_fd, &byte, 1);
    while (size < 0 && errno == EINTR);
    if (size == 1) return 0;
    int status;
    if (waitpid(pid, &status, 0) != pid) return 1;
    return WIFEXITED(status) && WEXITSTATUS(status) != 0 ? WEXITSTATUS(status) : 1;
}

static int run_detached(const struct up_options *options) {
    int fds[2];
    pid_t pid = pipe2(fds, O_CLOEXEC) == 0 ? fork() : -1;
    if (pid < 0) {
        fprintf(stderr, "skerry: cannot detach: %s\n", strerror(errno));
        return 1;
    }
    if (pid == 0) {
        close(fds[0]);
        setsid();
        return run_supervisor(options, fds[1]);
    }
    close(fds[1]);
    int code = wait_for_detached(pid, fds[0]);
    close(fds[0]);
    return code;
}

static int stop_detached(const char *data) {
    pid_t pid = cluster_dir_holder(data);
    if (pid == 0) {
        fprintf(stderr, "skerry: no cluster runs on %s\n", data);
        return 1;
    }
    if (kill(pid, SIGTERM) != 0 && errno != ESRCH) { /* ESRCH: its daemons are ending by themselves */
        fprintf(stderr, "skerry: cannot stop pid %d: %s\n", (int)pid, strerror(errno));
        return 1;
    }
    uint64_t deadline_ms = clock_boottime_ms() + PLAN_KINDS * STOP_MS + 2000;
    while (cluster_dir_holder(data) != 0) {
        if (clock_boottime_ms() >= deadline_ms) {
            fprintf(stderr, "skerry: the cluster on %s has not stopped yet (pid %d)\n", data, (int)pid);
            return 1;
        }
        usleep(20000);
    }
    say("stopped");
    return 0;
}

int up_run(const struct up_options *options) {
    if (options->stop) return stop_detached(options->data);
    return options->detach ? run_detached(options) : run_supervisor(options, -1);
}
