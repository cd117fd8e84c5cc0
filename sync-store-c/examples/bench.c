// Times calls on zones that a node has in mapped files (`map_file`), and beside them `GET` of a Redis that is asked over a Unix socket and over TCP, one request at a time: what a
// proxy's worker pays for one look-up.
//
//   cc -O2 -I sync-store-c/include sync-store-c/examples/bench.c -o bench -L target/release -lsync_store_c
//   LD_LIBRARY_PATH=target/release ./bench 100000 1000000 KEYVAL-FILE STICKY-FILE LIMIT-FILE [REDIS-SOCKET REDIS-PORT]
//
// All take turns, round by round. Printed are the median of the rounds in nanoseconds, and how many times longer than `keyval_get` it took, the median of the rounds' ratios.
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "sync_store.h"

enum { ROUNDS = 9, VALUE = 32, CONTENDERS_MAX = 5 };
// A round trip is that many times rarer than a call, so that rounds take as long.
enum { TRIPS_PER_CALLS = 100 };

static unsigned long keys;
static SyncKeyval *keyval;
static SyncSticky *sticky;
static SyncLimit *limit;

static void fail(const char *what, const char *why) {
    fprintf(stderr, "%s: %s\n", what, why);
    exit(2);
}

static double nanoseconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1e9 + now.tv_nsec;
}

// Keys that are spread over a zone.
static size_t key_of(unsigned long n, char *key) { return (size_t)sprintf(key, "key:%012lu", n * 2654435761UL % keys); }

static int keyval_get(int unused, unsigned long n) {
    char key[32], value[64];
    (void)unused;
    return sync_keyval_get(keyval, key, key_of(n, key), value, sizeof value) == VALUE;
}

static int sticky_lookup(int unused, unsigned long n) {
    char key[32], server[64];
    (void)unused;
    return sync_sticky_lookup(sticky, key, key_of(n, key), server, sizeof server) == VALUE;
}

static int limit_check(int unused, unsigned long n) {
    char key[32];
    (void)unused;
    return sync_limit_check(limit, key, key_of(n, key), 1, NULL) != SYNC_FAILED;
}

// Sends a command and reads an answer of so many bytes.
static int ask(int redis, const char *command, int length, char *answer, size_t expected) {
    if (write(redis, command, (size_t)length) != length) return 0;
    for (size_t have = 0; have < expected;) {
        ssize_t more = read(redis, answer + have, expected - have);
        if (more <= 0) return 0;
        have += (size_t)more;
    }
    return 1;
}

static int redis_get(int redis, unsigned long n) {
    char key[32], command[128], answer[64];
    size_t length = key_of(n, key);
    int written = sprintf(command, "*2\r\n$3\r\nGET\r\n$%zu\r\n%s\r\n", length, key);
    // `$32`, the value, and two line ends.
    return ask(redis, command, written, answer, 5 + VALUE + 2) && !memcmp(answer, "$32\r\n", 5);
}

static int redis_connect(int family, const struct sockaddr *address, socklen_t length) {
    int redis = socket(family, SOCK_STREAM, 0), on = 1;
    if (redis < 0 || connect(redis, address, length)) fail("Redis", "cannot connect");
    if (family == AF_INET) setsockopt(redis, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    return redis;
}

static int by_value(const void *left, const void *right) {
    double a = *(const double *)left, b = *(const double *)right;
    return (a > b) - (a < b);
}

static double median(const double *rounds) {
    double sorted[ROUNDS];
    memcpy(sorted, rounds, sizeof sorted);
    qsort(sorted, ROUNDS, sizeof *sorted, by_value);
    return sorted[ROUNDS / 2];
}

int main(int count, char **words) {
    if (count != 6 && count != 8) fail("usage", "bench KEYS CALLS KEYVAL-FILE STICKY-FILE LIMIT-FILE [REDIS-SOCKET REDIS-PORT]");
    unsigned long calls = strtoul(words[2], NULL, 10), trips = calls / TRIPS_PER_CALLS + 1;
    if (!(keys = strtoul(words[1], NULL, 10)) || !calls) fail("KEYS and CALLS", "must be at least 1");
    if (!(keyval = sync_keyval_attach(words[3]))) fail(words[3], sync_last_error());
    if (!(sticky = sync_sticky_attach(words[4]))) fail(words[4], sync_last_error());
    if (!(limit = sync_limit_attach(words[5]))) fail(words[5], sync_last_error());

    struct {
        const char *name;
        int (*act)(int, unsigned long);
        int redis;
        unsigned long times;
        double ns[ROUNDS];
    } all[CONTENDERS_MAX] = {{"keyval_get", keyval_get, 0, calls, {0}},
                             {"sticky_lookup", sticky_lookup, 0, calls, {0}},
                             {"limit_check", limit_check, 0, calls, {0}}};
    int contenders = 3;
    if (count == 8) {
        struct sockaddr_un local = {.sun_family = AF_UNIX};
        if (strlen(words[6]) >= sizeof local.sun_path) fail(words[6], "too long for a socket");
        strcpy(local.sun_path, words[6]);
        struct sockaddr_in remote = {.sin_family = AF_INET, .sin_port = htons((unsigned short)atoi(words[7]))};
        remote.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        all[3].name = "Redis GET, Unix socket", all[3].redis = redis_connect(AF_UNIX, (struct sockaddr *)&local, sizeof local);
        all[4].name = "Redis GET, TCP", all[4].redis = redis_connect(AF_INET, (struct sockaddr *)&remote, sizeof remote);
        for (; contenders < CONTENDERS_MAX; contenders++) all[contenders].act = redis_get, all[contenders].times = trips;
    }

    char key[32], value[VALUE + 1];
    memset(value, 'v', VALUE);
    value[VALUE] = 0;
    for (unsigned long n = 0; n < keys; n++) {
        size_t length = (size_t)sprintf(key, "key:%012lu", n);
        if (sync_keyval_set(keyval, key, length, value, VALUE, 0) == SYNC_FAILED) fail(words[3], sync_last_error());
        if (sync_sticky_learn(sticky, key, length, value, VALUE) == SYNC_FAILED) fail(words[4], sync_last_error());
        if (count == 8) {
            char command[160], answer[8];
            int written = sprintf(command, "*3\r\n$3\r\nSET\r\n$%zu\r\n%s\r\n$%d\r\n%s\r\n", length, key, VALUE, value);
            if (!ask(all[3].redis, command, written, answer, 5) || memcmp(answer, "+OK", 3)) fail("Redis", "SET failed");
        }
    }
    for (int round = 0; round < ROUNDS; round++)
        for (int turn = 0; turn < contenders; turn++) {
            // Nobody always comes after the same one.
            int at = (turn + round) % contenders;
            unsigned long good = 0;
            double begin = nanoseconds();
            for (unsigned long n = 0; n < all[at].times; n++) good += (unsigned long)all[at].act(all[at].redis, n);
            all[at].ns[round] = (nanoseconds() - begin) / (double)all[at].times;
            if (good != all[at].times) fail(all[at].name, "an answer is missing");
        }
    printf("| | ns | times keyval_get |\n|---|--:|--:|\n");
    for (int at = 0; at < contenders; at++) {
        double ratios[ROUNDS];
        for (int round = 0; round < ROUNDS; round++) ratios[round] = all[at].ns[round] / all[0].ns[round];
        printf("| %s | %.0f | %.1f |\n", all[at].name, median(all[at].ns), median(ratios));
    }
    sync_limit_detach(limit);
    sync_sticky_detach(sticky);
    sync_keyval_detach(keyval);
    return 0;
}
