// Reads, writes and counts in zones that a node has in mapped files (`map_file`).
//
//   cc -O2 -I sync-store-c/include sync-store-c/examples/zones.c -o zones -L target/release -lsync_store_c
//   LD_LIBRARY_PATH=target/release ./zones get /dev/shm/blocked 198.51.100.7
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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
    fprintf(stderr, "usage: zones get|remove|server FILE KEY | set|learn FILE KEY VALUE | check FILE KEY COST\n");
    return 64;
}
