//! Authenticated peers, discovered by DNS, that exchange frames: TCP, TLS and Unix sockets.
