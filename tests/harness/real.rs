//! The drivers that people run, on loopback.
