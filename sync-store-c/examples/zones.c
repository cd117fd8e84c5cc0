// Reads, writes and counts in zones that a node has in mapped files (`map_file`), and times the calls.
//
//   cc -O2 -I sync-store-c/include sync-store-c/examples/zones.c -o zones -L target/release -lsync_store_c
//   LD_LIBRARY_PATH=target/release ./zones get /dev/shm/blocked 198.51.100.7
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "sync_store.h"

static int fail(const char *what) {
    fprintf(stderr, "%s: %s\n", what, sync_last_error());
    return 2;
}

// Prints a value that was copied out; the exit status is 1 if there is none.
static int print(ptrdiff_t length, const char *value, size_t capacity, const char *what) {
    if (length == SYNC_FAILED) return fail(what);
    if (length == SYNC_NONE) return 1;
    size_t copied = (size_t)length < capacity ? (size_t)length : capacity;
    printf("%.*s\n", (int)copied, value);
    return 0;
}

static double nanoseconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1e9 + now.tv_nsec;
}

// Keys that are spread over a zone.
static size_t key_of(unsigned long n, char *key) { return (size_t)sprintf(key, "key:%012lu", n * 2654435761UL % 100000); }

static int bench(const char *keyval_path, const char *limit_path, unsigned long calls) {
    SyncKeyval *keyval = sync_keyval_attach(keyval_path);
    if (!keyval) return fail(keyval_path);
    SyncLimit *limit = sync_limit_attach(limit_path);
    if (!limit) return fail(limit_path);
    char key[32], value[64];
    memset(value, 'v', sizeof value);
    for (unsigned long n = 0; n < 100000; n++)
        if (sync_keyval_set(keyval, key, key_of(n, key), value, 32, 0) < 0) return fail("set");
    double begin = nanoseconds();
    unsigned long found = 0;
    for (unsigned long n = 0; n < calls; n++) found += sync_keyval_get(keyval, key, key_of(n, key), value, sizeof value) == 32;
    double middle = nanoseconds();
    for (unsigned long n = 0; n < calls; n++) sync_limit_check(limit, key, key_of(n, key), 1, NULL);
    double end = nanoseconds();
    if (found != calls) return fprintf(stderr, "%lu of %lu found\n", found, calls), 2;
    printf("keyval_get %.1f ns\nlimit_check %.1f ns\n", (middle - begin) / calls, (end - middle) / calls);
    sync_limit_detach(limit);
    sync_keyval_detach(keyval);
    return 0;
}

int main(int count, char **words) {
    const char *command = count > 1 ? words[1] : "", *path = count > 2 ? words[2] : "";
    const char *key = count > 3 ? words[3] : "";
    char value[4096];
    if (!strcmp(command, "get") && count == 4) {
        SyncKeyval *zone = sync_keyval_attach(path);
        if (!zone) return fail(path);
        int status = print(sync_keyval_lookup(zone, key, strlen(key), value, sizeof value), value, sizeof value, "get");
        sync_keyval_detach(zone);
        return status;
    }
    if (!strcmp(command, "set") && count == 5) {
        SyncKeyval *zone = sync_keyval_attach(path);
        if (!zone) return fail(path);
        if (sync_keyval_set(zone, key, strlen(key), words[4], strlen(words[4]), 0)) return fail("set");
        sync_keyval_detach(zone);
        return 0;
    }
    if (!strcmp(command, "remove") && count == 4) {
        SyncKeyval *zone = sync_keyval_attach(path);
        if (!zone) return fail(path);
        ptrdiff_t removed = sync_keyval_remove(zone, key, strlen(key));
        sync_keyval_detach(zone);
        return removed == SYNC_FAILED ? fail("remove") : removed == SYNC_NONE;
    }
    if (!strcmp(command, "server") && count == 4) {
        SyncSticky *zone = sync_sticky_attach(path);
        if (!zone) return fail(path);
        int status = print(sync_sticky_lookup(zone, key, strlen(key), value, sizeof value), value, sizeof value, "server");
        sync_sticky_detach(zone);
        return status;
    }
    if (!strcmp(command, "learn") && count == 5) {
        SyncSticky *zone = sync_sticky_attach(path);
        if (!zone) return fail(path);
        if (sync_sticky_learn(zone, key, strlen(key), words[4], strlen(words[4]))) return fail("learn");
        sync_sticky_detach(zone);
        return 0;
    }
    if (!strcmp(command, "check") && count == 5) {
        SyncLimit *zone = sync_limit_attach(path);
        if (!zone) return fail(path);
        SyncDecision decision;
        ptrdiff_t admitted = sync_limit_check(zone, key, strlen(key), atoll(words[4]), &decision);
        if (admitted < 0) return fail("check");
        printf("%s remaining=%" PRIu64 " retry_after_ns=%" PRIu64 "\n", admitted ? "admitted" : "refused", decision.remaining,
               decision.retry_after_ns);
        sync_limit_detach(zone);
        return 0;
    }
    if (!strcmp(command, "bench") && count == 5) return bench(path, words[3], strtoul(words[4], NULL, 10));
    fprintf(stderr, "usage: zones get|remove|server FILE KEY | set|learn FILE KEY VALUE | check FILE KEY COST | bench KEYVAL-FILE LIMIT-FILE CALLS\n");
    return 64;
}
