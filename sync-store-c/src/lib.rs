//! The C interface of `sync-store`: a process attaches to zones that a node has in mapped files (`map_file`), and reads, writes and counts in them as the
//! node does itself, by function calls and without a socket. The node replicates what changes.
//!
//! # Model
//!
//! A zone is attached by the path of its file, and may be used by all threads of the process at once until it is detached. After `fork` attach anew. Keys and values
//! are bytes with a length; a pointer may be null if its length is 0. Nothing is allocated by a call for values of up to 48 bytes. The time is that of the machine.
//!
//! What a function returns is a length or 0 if it went well, [`SYNC_NONE`] if there is no such record, and [`SYNC_FAILED`] if it failed; [`sync_last_error`]
//! then says why. A call of a zone that is null fails.
//!
//! # Example
//!
//! ```c
//! #include <stdio.h>
//! #include "sync_store.h"
//!
//! int main(void) {
//!     SyncLimit *limit = sync_limit_attach("/dev/shm/req");
//!     if (!limit) { fprintf(stderr, "%s\n", sync_last_error()); return 1; }
//!     SyncDecision decision;
//!     bool admitted = sync_limit_check(limit, "198.51.100.7", 12, 1, &decision) == 1;
//!     printf("%s, %llu left\n", admitted ? "admitted" : "refused", (unsigned long long)decision.remaining);
//!     sync_limit_detach(limit);
//! }
//! ```
//!
//! Link it with `libsync_store_c.so` or `libsync_store_c.a`; the header is `include/sync_store.h`.

#![allow(unsafe_code)]

use std::cell::RefCell;
use std::ffi::{CStr, CString, OsStr, c_char, c_void};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::time::Duration;

use sync_store::{
    Check, Clock as _, Error, Expiry, KeyvalZone, LimitZone, StickyZone, SystemClock, Time, Value,
};

/// There is no such record.
pub const SYNC_NONE: isize = -1;
/// The call failed: see `sync_last_error`.
pub const SYNC_FAILED: isize = -2;

/// A key-value zone.
#[derive(Debug)]
pub struct SyncKeyval(KeyvalZone);

/// A zone of sticky sessions.
#[derive(Debug)]
pub struct SyncSticky(StickyZone);

/// A zone of request limits.
#[derive(Debug)]
pub struct SyncLimit(LimitZone);

/// What became of a request, with the figures of its key afterwards.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SyncDecision {
    /// How many more requests of cost 1 would be admitted now.
    pub remaining: u64,
    /// Nanoseconds to hold the request back if it was admitted.
    pub wait_ns: u64,
    /// Nanoseconds until it would be admitted if it was refused; `UINT64_MAX` if never.
    pub retry_after_ns: u64,
    /// Nanoseconds until the key is as if it had never been used.
    pub reset_ns: u64,
}

thread_local! {
    static LAST_ERROR: RefCell<CString> = RefCell::default();
}

fn failed(error: &str) -> isize {
    // What comes from names and keys may contain zeros; a C string ends there.
    let text = CString::new(error.replace('\0', "\\0")).unwrap_or_default();
    LAST_ERROR.with(|last| *last.borrow_mut() = text);
    SYNC_FAILED
}

/// Why the latest call of this thread that failed did so. Valid until the next one that fails.
#[unsafe(no_mangle)]
pub extern "C" fn sync_last_error() -> *const c_char {
    LAST_ERROR.with(|last| last.borrow().as_ptr())
}

/// # Safety
/// `at` is null or points to `length` bytes that nobody changes meanwhile.
unsafe fn bytes<'a>(at: *const c_void, length: usize) -> &'a [u8] {
    if at.is_null() || length == 0 {
        return &[];
    }
    // SAFETY: the caller's promise.
    unsafe { std::slice::from_raw_parts(at.cast(), length) }
}

/// # Safety
/// `path` is null or a C string.
unsafe fn attach<T>(path: *const c_char, attach: impl FnOnce(&Path) -> Result<T, Error>) -> *mut T {
    if path.is_null() {
        failed("the path is null");
        return std::ptr::null_mut();
    }
    // SAFETY: not null, so a C string by the caller's promise.
    let path = unsafe { CStr::from_ptr(path) };
    match attach(Path::new(OsStr::from_bytes(path.to_bytes()))) {
        Ok(zone) => Box::into_raw(Box::new(zone)),
        Err(error) => {
            failed(&error.to_string());
            std::ptr::null_mut()
        }
    }
}

/// # Safety
/// `zone` is null or came from [`attach`] and was not detached.
unsafe fn detach<T>(zone: *mut T) {
    if !zone.is_null() {
        // SAFETY: made by `Box::into_raw`, and by the caller's promise ours alone now.
        drop(unsafe { Box::from_raw(zone) });
    }
}

/// # Safety
/// `zone` is null or came from [`attach`] and is not detached meanwhile.
unsafe fn with<T>(zone: *const T, act: impl FnOnce(&T, Time) -> Result<isize, Error>) -> isize {
    // SAFETY: the caller's promise.
    let Some(zone) = (unsafe { zone.as_ref() }) else { return failed("the zone is null") };
    act(zone, SystemClock.now()).unwrap_or_else(|error| failed(&error.to_string()))
}

/// Copies as much as there is room for; answers how long the value is.
///
/// # Safety
/// `buffer` is null or points to `capacity` bytes that are the caller's alone.
unsafe fn copy_out(value: Option<Value>, buffer: *mut c_void, capacity: usize) -> isize {
    let Some(value) = value else { return SYNC_NONE };
    if !buffer.is_null() {
        let length = value.len().min(capacity);
        // SAFETY: the caller's promise; the value lies elsewhere.
        unsafe { std::ptr::copy_nonoverlapping(value.as_ptr(), buffer.cast(), length) };
    }
    value.len().cast_signed()
}

/// Attaches to the key-value zone in this file. Null if that fails.
///
/// # Safety
/// `path` is a C string.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sync_keyval_attach(path: *const c_char) -> *mut SyncKeyval {
    // SAFETY: the caller's promise.
    unsafe { attach(path, |path| KeyvalZone::attach(path).map(SyncKeyval)) }
}

/// Detaches from a zone. Null is nothing.
///
/// # Safety
/// The zone came from `sync_keyval_attach`, and no thread uses it any more.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sync_keyval_detach(zone: *mut SyncKeyval) {
    // SAFETY: the caller's promise.
    unsafe { detach(zone) }
}

/// Copies the value of exactly this key into the buffer, as much as there is room for. Returns how long the value is, or `SYNC_NONE`.
///
/// # Safety
/// The zone is attached, the key and the buffer are as long as is said.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sync_keyval_get(
    zone: *const SyncKeyval,
    key: *const c_void,
    key_length: usize,
    value: *mut c_void,
    capacity: usize,
) -> isize {
    // SAFETY: the caller's promise.
    unsafe { with(zone, |zone, now| Ok(copy_out(zone.0.get(bytes(key, key_length), now), value, capacity))) }
}

/// The same for a key by the zone's type: the most specific range that contains the address, or the longest key that is a prefix of this one.
///
/// # Safety
/// As `sync_keyval_get`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sync_keyval_lookup(
    zone: *const SyncKeyval,
    key: *const c_void,
    key_length: usize,
    value: *mut c_void,
    capacity: usize,
) -> isize {
    // SAFETY: the caller's promise.
    unsafe {
        with(zone, |zone, now| Ok(copy_out(zone.0.lookup(bytes(key, key_length), now), value, capacity)))
    }
}

/// Writes a record, whether the key is there or not. It expires after so many milliseconds; 0: as the zone has it. Returns 0.
///
/// # Safety
/// The zone is attached, the key and the value are as long as is said.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sync_keyval_set(
    zone: *const SyncKeyval,
    key: *const c_void,
    key_length: usize,
    value: *const c_void,
    value_length: usize,
    expires_after_ms: u64,
) -> isize {
    let expiry = match expires_after_ms {
        0 => Expiry::Default,
        after => Expiry::After(Duration::from_millis(after)),
    };
    // SAFETY: the caller's promise.
    let (key, value) = unsafe { (bytes(key, key_length), bytes(value, value_length)) };
    // SAFETY: the caller's promise.
    unsafe { with(zone, |zone, now| zone.0.set(key, value, now, expiry).map(|()| 0)) }
}

/// Removes a record. Returns 0, or `SYNC_NONE` if it was not there.
///
/// # Safety
/// The zone is attached, the key is as long as is said.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sync_keyval_remove(
    zone: *const SyncKeyval,
    key: *const c_void,
    key_length: usize,
) -> isize {
    // SAFETY: the caller's promise.
    let key = unsafe { bytes(key, key_length) };
    // SAFETY: the caller's promise.
    unsafe {
        with(zone, |zone, now| zone.0.remove(key, now).map(|was_there| if was_there { 0 } else { SYNC_NONE }))
    }
}

/// Attaches to the zone of sticky sessions in this file. Null if that fails.
///
/// # Safety
/// `path` is a C string.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sync_sticky_attach(path: *const c_char) -> *mut SyncSticky {
    // SAFETY: the caller's promise.
    unsafe { attach(path, |path| StickyZone::attach(path).map(SyncSticky)) }
}

/// Detaches from a zone. Null is nothing.
///
/// # Safety
/// The zone came from `sync_sticky_attach`, and no thread uses it any more.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sync_sticky_detach(zone: *mut SyncSticky) {
    // SAFETY: the caller's promise.
    unsafe { detach(zone) }
}

/// Copies the server of a session into the buffer, as much as there is room for, and notes that the session was used. Returns how long the
/// server's name is, or `SYNC_NONE`.
///
/// # Safety
/// The zone is attached, the session and the buffer are as long as is said.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sync_sticky_lookup(
    zone: *const SyncSticky,
    session: *const c_void,
    session_length: usize,
    server: *mut c_void,
    capacity: usize,
) -> isize {
    // SAFETY: the caller's promise.
    unsafe {
        with(zone, |zone, now| {
            Ok(copy_out(zone.0.lookup(bytes(session, session_length), now), server, capacity))
        })
    }
}

/// Notes which server a session belongs to. Returns 0.
///
/// # Safety
/// The zone is attached, the session and the server are as long as is said.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sync_sticky_learn(
    zone: *const SyncSticky,
    session: *const c_void,
    session_length: usize,
    server: *const c_void,
    server_length: usize,
) -> isize {
    // SAFETY: the caller's promise.
    let (session, server) = unsafe { (bytes(session, session_length), bytes(server, server_length)) };
    // SAFETY: the caller's promise.
    unsafe { with(zone, |zone, now| zone.0.learn(session, server, now).map(|()| 0)) }
}

/// Forgets a session. Returns 0, or `SYNC_NONE` if it was not there.
///
/// # Safety
/// The zone is attached, the session is as long as is said.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sync_sticky_forget(
    zone: *const SyncSticky,
    session: *const c_void,
    session_length: usize,
) -> isize {
    // SAFETY: the caller's promise.
    let session = unsafe { bytes(session, session_length) };
    // SAFETY: the caller's promise.
    unsafe {
        with(zone, |zone, now| {
            zone.0.forget(session, now).map(|was_there| if was_there { 0 } else { SYNC_NONE })
        })
    }
}

/// Attaches to the zone of request limits in this file. Null if that fails.
///
/// # Safety
/// `path` is a C string.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sync_limit_attach(path: *const c_char) -> *mut SyncLimit {
    // SAFETY: the caller's promise.
    unsafe { attach(path, |path| LimitZone::attach(path).map(SyncLimit)) }
}

/// Detaches from a zone. Null is nothing.
///
/// # Safety
/// The zone came from `sync_limit_attach`, and no thread uses it any more.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sync_limit_detach(zone: *mut SyncLimit) {
    // SAFETY: the caller's promise.
    unsafe { detach(zone) }
}

/// Decides about a request of this cost by the terms of the zone, and charges it if it is admitted. A cost of 0 only looks, a negative one refunds. Returns 1 if the request is
/// admitted and 0 if it is refused; `decision` says more, unless it is null.
///
/// # Safety
/// The zone is attached, the key is as long as is said, and the decision is null or the caller's alone.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sync_limit_check(
    zone: *const SyncLimit,
    key: *const c_void,
    key_length: usize,
    cost: i64,
    decision: *mut SyncDecision,
) -> isize {
    // SAFETY: the caller's promise.
    let key = unsafe { bytes(key, key_length) };
    let judge = |zone: &SyncLimit, now| {
        let judged = zone.0.check(key, &Check { cost, ..Check::default() }, now);
        // SAFETY: the caller's promise.
        if let Some(decision) = unsafe { decision.as_mut() } {
            let nanos = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
            *decision = SyncDecision {
                remaining: judged.remaining(),
                wait_ns: nanos(judged.wait()),
                retry_after_ns: match judged.is_admitted() {
                    true => 0,
                    false => judged.retry_after().map_or(u64::MAX, nanos),
                },
                reset_ns: nanos(judged.reset()),
            };
        }
        Ok(isize::from(judged.is_admitted()))
    };
    // SAFETY: the caller's promise.
    unsafe { with(zone, judge) }
}
