// The C interface of sync-store. Made by cbindgen from sync-store-c/src/lib.rs; the test `header` writes it anew if UPDATE_HEADER is set.

#ifndef SYNC_STORE_H
#define SYNC_STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// There is no such record.
#define SYNC_NONE -1

// The call failed: see `sync_last_error`.
#define SYNC_FAILED -2

// A key-value zone.
typedef struct SyncKeyval SyncKeyval;

// A zone of request limits.
typedef struct SyncLimit SyncLimit;

// A zone of sticky sessions.
typedef struct SyncSticky SyncSticky;

// What became of a request, with the figures of its key afterwards.
typedef struct {
  // How many more requests of cost 1 would be admitted now.
  uint64_t remaining;
  // Nanoseconds to hold the request back if it was admitted.
  uint64_t wait_ns;
  // Nanoseconds until it would be admitted if it was refused; `UINT64_MAX` if never.
  uint64_t retry_after_ns;
  // Nanoseconds until the key is as if it had never been used.
  uint64_t reset_ns;
} SyncDecision;

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

// Why the latest call of this thread that failed did so. Valid until the next one that fails.
const char *sync_last_error(void);

// Attaches to the key-value zone in this file. Null if that fails.
//
// # Safety
// `path` is a C string.
SyncKeyval *sync_keyval_attach(const char *path);

// Detaches from a zone. Null is nothing.
//
// # Safety
// The zone came from `sync_keyval_attach`, and no thread uses it any more.
void sync_keyval_detach(SyncKeyval *zone);

// Copies the value of exactly this key into the buffer, as much as there is room for. Returns how long the value is, or `SYNC_NONE`.
//
// # Safety
// The zone is attached, the key and the buffer are as long as is said.
ptrdiff_t sync_keyval_get(const SyncKeyval *zone,
                          const void *key,
                          size_t key_length,
                          void *value,
                          size_t capacity);

// The same for a key by the zone's type: the most specific range that contains the address, or the longest key that is a prefix of this one.
//
// # Safety
// As `sync_keyval_get`.
ptrdiff_t sync_keyval_lookup(const SyncKeyval *zone,
                             const void *key,
                             size_t key_length,
                             void *value,
                             size_t capacity);

// Writes a record, whether the key is there or not. It expires after so many milliseconds; 0: as the zone has it. Returns 0.
//
// # Safety
// The zone is attached, the key and the value are as long as is said.
ptrdiff_t sync_keyval_set(const SyncKeyval *zone,
                          const void *key,
                          size_t key_length,
                          const void *value,
                          size_t value_length,
                          uint64_t expires_after_ms);

// Removes a record. Returns 0, or `SYNC_NONE` if it was not there.
//
// # Safety
// The zone is attached, the key is as long as is said.
ptrdiff_t sync_keyval_remove(const SyncKeyval *zone, const void *key, size_t key_length);

// Attaches to the zone of sticky sessions in this file. Null if that fails.
//
// # Safety
// `path` is a C string.
SyncSticky *sync_sticky_attach(const char *path);

// Detaches from a zone. Null is nothing.
//
// # Safety
// The zone came from `sync_sticky_attach`, and no thread uses it any more.
void sync_sticky_detach(SyncSticky *zone);

// Copies the server of a session into the buffer, as much as there is room for, and notes that the session was used. Returns how long the
// server's name is, or `SYNC_NONE`.
//
// # Safety
// The zone is attached, the session and the buffer are as long as is said.
ptrdiff_t sync_sticky_lookup(const SyncSticky *zone,
                             const void *session,
                             size_t session_length,
                             void *server,
                             size_t capacity);

// Notes which server a session belongs to. Returns 0.
//
// # Safety
// The zone is attached, the session and the server are as long as is said.
ptrdiff_t sync_sticky_learn(const SyncSticky *zone,
                            const void *session,
                            size_t session_length,
                            const void *server,
                            size_t server_length);

// Forgets a session. Returns 0, or `SYNC_NONE` if it was not there.
//
// # Safety
// The zone is attached, the session is as long as is said.
ptrdiff_t sync_sticky_forget(const SyncSticky *zone, const void *session, size_t session_length);

// Attaches to the zone of request limits in this file. Null if that fails.
//
// # Safety
// `path` is a C string.
SyncLimit *sync_limit_attach(const char *path);

// Detaches from a zone. Null is nothing.
//
// # Safety
// The zone came from `sync_limit_attach`, and no thread uses it any more.
void sync_limit_detach(SyncLimit *zone);

// Decides about a request of this cost by the terms of the zone, and charges it if it is admitted. A cost of 0 only looks, a negative one refunds. Returns 1 if the request is
// admitted and 0 if it is refused; `decision` says more, unless it is null.
//
// # Safety
// The zone is attached, the key is as long as is said, and the decision is null or the caller's alone.
ptrdiff_t sync_limit_check(const SyncLimit *zone,
                           const void *key,
                           size_t key_length,
                           int64_t cost,
                           SyncDecision *decision);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* SYNC_STORE_H */
