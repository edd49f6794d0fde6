/* A network between hosts that are namespaces of this machine, for tests that cut, delay and lose what passes between them.
 * Each host has one interface, a TUN device whose other end is this process, which passes IP packets on as the rules of the
 * link from one host to another say. So real TCP meets real loss; nothing is done to a connection that a network could
 * not do.
 *
 * usage: skerry-switch HOSTS
 * Host i has the address 10.77.0.(i + 1) in a namespace of its own. Commands come as lines on stdin; each is answered by one
 * line, "error ..." if it is none:
 *
 *   link FROM TO NAME VALUE   sets a rule of a directed link; FROM and TO are hosts or * for all. Rules and their values at
 *                             the start: up 1, delay_us 0, jitter_us 0 (a random part of it is added), loss_ppm 0,
 *                             repeat_ppm 0, bytes_per_s 0 (any)
 *   renew HOST                the host begins anew: the connections it had are gone without a word, as after a power loss
 *   host HOST                 the path of its namespace, for nsenter --net=PATH
 *   counts                    packets so far: passed P lost L repeated R
 *
 * The namespaces belong to this process and those in them: nothing of them is left when these have ended, however they end.
 * It ends with its parent, or when stdin does. One thread. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#define HOSTS_MAX        64u
#define NETWORK          0x0a4d0000u /* 10.77.0.0 */
#define NETMASK          0xffffff00u
#define PACKET_BYTES_MAX 65536u
#define MTU              1500
#define QUEUE_PACKETS    1000     /* of an interface, and of a link */
#define BATCH            64       /* packets of one host before the others have their turn */
#define DESTINATION_AT   16u      /* in an IPv4 header, */
#define HEADER_BYTES     20u      /* which has at least so many */
#define MILLION          1000000u /* of ppm */

enum rule { RULE_UP, RULE_DELAY_US, RULE_JITTER_US, RULE_LOSS_PPM, RULE_REPEAT_PPM, RULE_BYTES_PER_S, RULE_COUNT };

static const char *const rule_names[RULE_COUNT] = {"up",       "delay_us",   "jitter_us",
                                                   "loss_ppm", "repeat_ppm", "bytes_per_s"};

struct link {
    uint64_t rules[RULE_COUNT];
    uint64_t free_ns; /* when the wire has sent what it was given, if bytes_per_s is set */
    uint32_t waiting;
};

struct packet {
    uint64_t due_ns, serial; /* of two that are due at one time the earlier goes first */
    struct link *link;
    uint32_t to;
    size_t size;
    uint8_t bytes[];
};

struct host {
    int tun_fd, namespace_fd;
};

static struct host hosts[HOSTS_MAX];
static uint32_t host_count;
static struct link links[HOSTS_MAX][HOSTS_MAX]; /* [from][to] */
static struct packet **heap;                    /* owned, and so are those in it; the first is due first */
static size_t heap_count, heap_capacity;
static uint64_t serial, random_state;
static uint64_t passed, lost, repeated;

__attribute__((noreturn)) static void die(const char *doing) {
    (void)fprintf(stderr, "skerry-switch: %s: %s\n", doing, strerror(errno));
    exit(1);
}

static uint64_t now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* splitmix64; 0 to below - 1. */
static uint64_t random_below(uint64_t below) {
    uint64_t mixed = random_state += UINT64_C(0x9e3779b97f4a7c15);
    mixed = (mixed ^ mixed >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    mixed = (mixed ^ mixed >> 27) * UINT64_C(0x94d049bb133111eb);
    return (mixed ^ mixed >> 31) % below;
}

/* ---- hosts ---- */

static void set_address(struct ifreq *request, uint32_t address) {
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(address)};
    memcpy(&request->ifr_addr, &in, sizeof in);
}

static void change_interface(int socket_fd, unsigned long what, struct ifreq *request) {
    if (ioctl(socket_fd, what, request) != 0) die("setting up an interface");
}

static void bring_up(int socket_fd, const char *name) {
    struct ifreq request = {0};
    (void)snprintf(request.ifr_name, sizeof request.ifr_name, "%s", name);
    change_interface(socket_fd, SIOCGIFFLAGS, &request);
    request.ifr_flags |= IFF_UP;
    change_interface(socket_fd, SIOCSIFFLAGS, &request);
}

/* In the namespace that this thread is in. */
static void set_up_interfaces(uint32_t address, const char *name) {
    int socket_fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (socket_fd < 0) die("socket");
    struct ifreq request = {0};
    (void)snprintf(request.ifr_name, sizeof request.ifr_name, "%s", name);
    set_address(&request, address);
    change_interface(socket_fd, SIOCSIFADDR, &request);
    set_address(&request, NETMASK);
    change_interface(socket_fd, SIOCSIFNETMASK, &request);
    request.ifr_mtu = MTU;
    change_interface(socket_fd, SIOCSIFMTU, &request);
    request.ifr_qlen = QUEUE_PACKETS;
    change_interface(socket_fd, SIOCSIFTXQLEN, &request);
    bring_up(socket_fd, name);
    bring_up(socket_fd, "lo");
    close(socket_fd);
}

/* This thread moves into the new namespace; it needs to be in none in particular. */
static void make_host(uint32_t number) {
    struct host *host = &hosts[number];
    if (unshare(CLONE_NEWNET) != 0) die("unshare (which needs root)");
    host->tun_fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
    if (host->tun_fd < 0) die("/dev/net/tun");
    struct ifreq request = {.ifr_flags = IFF_TUN | IFF_NO_PI};
    (void)snprintf(request.ifr_name, sizeof request.ifr_name, "skerry");
    if (ioctl(host->tun_fd, TUNSETIFF, &request) != 0) die("TUNSETIFF");
    set_up_interfaces(NETWORK + number + 1, request.ifr_name);
    host->namespace_fd = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
    if (host->namespace_fd < 0) die("/proc/self/ns/net");
}

static void renew_host(uint32_t number) {
    close(hosts[number].tun_fd);
    close(hosts[number].namespace_fd);
    make_host(number);
}

/* ---- packets under way ---- */

static bool is_before(const struct packet *a, const struct packet *b) {
    return a->due_ns != b->due_ns ? a->due_ns < b->due_ns : a->serial < b->serial;
}

static void heap_add(struct packet *packet) {
    if (heap_count == heap_capacity) {
        heap_capacity = heap_capacity == 0 ? 1024 : 2 * heap_capacity;
        heap = realloc(heap, heap_capacity * sizeof(struct packet *));
        if (heap == NULL) die("memory");
    }
    size_t at = heap_count++;
    while (at > 0 && is_before(packet, heap[(at - 1) / 2])) {
        heap[at] = heap[(at - 1) / 2];
        at = (at - 1) / 2;
    }
    heap[at] = packet;
}

static struct packet *heap_take(void) {
    struct packet *first = heap[0], *last = heap[--heap_count];
    size_t at = 0, child;
    while ((child = 2 * at + 1) < heap_count) {
        if (child + 1 < heap_count && is_before(heap[child + 1], heap[child])) child++;
        if (!is_before(heap[child], last)) break;
        heap[at] = heap[child];
        at = child;
    }
    heap[at] = last;
    return first;
}

/* A host whose queue is full loses it, as one whose interface is down. */
static void deliver(uint32_t to, const uint8_t *bytes, size_t size) {
    if (write(hosts[to].tun_fd, bytes, size) == (ssize_t)size) {
        passed++;
    } else {
        lost++;
    }
}

static void delay(struct link *link, uint32_t to, const uint8_t *bytes, size_t size, uint64_t due_ns) {
    struct packet *packet = link->waiting < QUEUE_PACKETS ? malloc(sizeof *packet + size) : NULL;
    if (packet == NULL) {
        lost++;
        return;
    }
    *packet = (struct packet){.due_ns = due_ns, .serial = ++serial, .link = link, .to = to, .size = size};
    memcpy(packet->bytes, bytes, size);
    link->waiting++;
    heap_add(packet);
}

static void deliver_due(uint64_t now) {
    while (heap_count > 0 && heap[0]->due_ns <= now) {
        struct packet *packet = heap_take();
        packet->link->waiting--;
        /* what is on its way when a link is cut is lost too */
        if (packet->link->rules[RULE_UP] != 0) {
            deliver(packet->to, packet->bytes, packet->size);
        } else {
            lost++;
        }
        free(packet);
    }
}

/* When the link would hand over a packet that it gets now; 0 = at once. */
static uint64_t due_of(struct link *link, size_t size, uint64_t now) {
    const uint64_t *rules = link->rules;
    uint64_t due = now;
    if (rules[RULE_BYTES_PER_S] > 0) {
        if (link->free_ns < now) link->free_ns = now;
        link->free_ns += size * UINT64_C(1000000000) / rules[RULE_BYTES_PER_S];
        due = link->free_ns;
    }
    due += rules[RULE_DELAY_US] * 1000u;
    if (rules[RULE_JITTER_US] > 0) due += random_below(rules[RULE_JITTER_US] * 1000u + 1);
    return due == now ? 0 : due;
}

static void send_one(struct link *link, uint32_t to, const uint8_t *bytes, size_t size, uint64_t now) {
    uint64_t due = due_of(link, size, now);
    if (due == 0) {
        deliver(to, bytes, size);
    } else {
        delay(link, to, bytes, size, due);
    }
}

static bool happens(uint64_t ppm) { return ppm > 0 && random_below(MILLION) < ppm; }

/* The host that an IPv4 packet is for; what is for none goes nowhere. */
static bool find_destination(const uint8_t *bytes, size_t size, uint32_t *to) {
    uint32_t address;
    if (size < HEADER_BYTES || bytes[0] >> 4 != 4) return false;
    memcpy(&address, bytes + DESTINATION_AT, sizeof address);
    address = ntohl(address);
    *to = address - NETWORK - 1;
    return address > NETWORK && *to < host_count;
}

static void take_packet(uint32_t from, const uint8_t *bytes, size_t size) {
    uint32_t to;
    if (!find_destination(bytes, size, &to)) return;
    struct link *link = &links[from][to];
    if (link->rules[RULE_UP] == 0 || happens(link->rules[RULE_LOSS_PPM])) {
        lost++;
        return;
    }
    uint64_t now = now_ns();
    send_one(link, to, bytes, size, now);
    if (!happens(link->rules[RULE_REPEAT_PPM])) return;
    repeated++;
    send_one(link, to, bytes, size, now);
}

static void take_packets(uint32_t from) {
    static uint8_t bytes[PACKET_BYTES_MAX];
    for (int i = 0; i < BATCH; i++) {
        ssize_t size = read(hosts[from].tun_fd, bytes, sizeof bytes);
        if (size <= 0) return;
        take_packet(from, bytes, (size_t)size);
    }
}

/* ---- commands ---- */

static bool parse_number(const char *text, uint64_t *number) {
    char *end;
    errno = 0;
    *number = strtoull(text, &end, 10);
    return errno == 0 && end != text && *end == '\0';
}

static bool parse_host(const char *text, uint32_t *host) {
    uint64_t number;
    if (!parse_number(text, &number) || number >= host_count) return false;
    *host = (uint32_t)number;
    return true;
}

/* The hosts from `first` to before `end`. */
static bool parse_hosts(const char *text, uint32_t *first, uint32_t *end) {
    *first = 0;
    *end = host_count;
    if (strcmp(text, "*") == 0) return true;
    if (!parse_host(text, first)) return false;
    *end = *first + 1;
    return true;
}

static bool set_rule(char *const *words) {
    uint32_t from, from_end, to_first, to_end;
    uint64_t value;
    unsigned rule = 0;
    while (rule < RULE_COUNT && strcmp(words[2], rule_names[rule]) != 0) rule++;
    if (rule == RULE_COUNT || !parse_number(words[3], &value)) return false;
    if (!parse_hosts(words[0], &from, &from_end) || !parse_hosts(words[1], &to_first, &to_end)) return false;
    for (; from < from_end; from++) {
        for (uint32_t to = to_first; to < to_end; to++) links[from][to].rules[rule] = value;
    }
    return true;
}

static void print_host(uint32_t number) { (void)printf("/proc/%d/fd/%d\n", getpid(), hosts[number].namespace_fd); }

static bool do_command(char *const *words, unsigned count) {
    uint32_t host;
    if (count == 5 && strcmp(words[0], "link") == 0) {
        if (!set_rule(words + 1)) return false;
        (void)puts("ok");
    } else if (count == 2 && strcmp(words[0], "renew") == 0 && parse_host(words[1], &host)) {
        renew_host(host);
        print_host(host);
    } else if (count == 2 && strcmp(words[0], "host") == 0 && parse_host(words[1], &host)) {
        print_host(host);
    } else if (count == 1 && strcmp(words[0], "counts") == 0) {
        (void)printf("passed %" PRIu64 " lost %" PRIu64 " repeated %" PRIu64 "\n", passed, lost, repeated);
    } else {
        return false;
    }
    return true;
}

static void do_line(char *line) {
    char *words[6], *rest = line;
    unsigned count = 0;
    while (count < 6 && (words[count] = strtok_r(NULL, " ", &rest)) != NULL) count++;
    if (!do_command(words, count)) (void)puts("error: not a command");
    (void)fflush(stdout);
}

/* False: the other side has gone. */
static bool take_commands(void) {
    static char lines[4096];
    static size_t filled;
    ssize_t got = read(STDIN_FILENO, lines + filled, sizeof lines - 1 - filled);
    if (got <= 0) return false;
    filled += (size_t)got;
    lines[filled] = '\0';
    char *line = lines, *end;
    while ((end = strchr(line, '\n')) != NULL) {
        *end = '\0';
        do_line(line);
        line = end + 1;
    }
    filled -= (size_t)(line - lines);
    memmove(lines, line, filled);
    return true;
}

/* ---- the whole ---- */

/* Until something has come or the first packet is due. */
static void wait_for_work(struct pollfd *waits) {
    struct timespec timeout = {0}, *until = NULL;
    for (uint32_t i = 0; i < host_count; i++) waits[i] = (struct pollfd){.fd = hosts[i].tun_fd, .events = POLLIN};
    waits[host_count] = (struct pollfd){.fd = STDIN_FILENO, .events = POLLIN};
    if (heap_count > 0) {
        uint64_t now = now_ns(), left = heap[0]->due_ns > now ? heap[0]->due_ns - now : 0;
        timeout = (struct timespec){.tv_sec = (time_t)(left / 1000000000u), .tv_nsec = (long)(left % 1000000000u)};
        until = &timeout;
    }
    if (ppoll(waits, host_count + 1, until, NULL) < 0 && errno != EINTR) die("poll");
}

static void run(void) {
    struct pollfd waits[HOSTS_MAX + 1];
    bool running = true;
    while (running) {
        wait_for_work(waits);
        deliver_due(now_ns());
        for (uint32_t i = 0; i < host_count; i++) {
            if (waits[i].revents != 0) take_packets(i);
        }
        if (waits[host_count].revents != 0) running = take_commands();
    }
}

int main(int argc, char **argv) {
    uint64_t count = 0;
    if (argc != 2 || !parse_number(argv[1], &count) || count == 0 || count > HOSTS_MAX) {
        (void)fprintf(stderr, "usage: skerry-switch HOSTS (1 to %u)\n", HOSTS_MAX);
        return 2;
    }
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    (void)signal(SIGPIPE, SIG_IGN);
    random_state = now_ns();
    host_count = (uint32_t)count;
    for (uint32_t i = 0; i < host_count; i++) {
        make_host(i);
        for (uint32_t j = 0; j < host_count; j++) links[i][j].rules[RULE_UP] = 1;
    }
    run();
    return 0;
}
