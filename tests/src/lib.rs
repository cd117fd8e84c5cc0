//! Tests that cross crates: real processes, sockets, certificates and clients.
