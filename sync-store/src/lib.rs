//! Bounded lock-free zones for proxies: key-value tables, sticky sessions and rate limits that replicate.
