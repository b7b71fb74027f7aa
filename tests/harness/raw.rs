//! Clients that keep to QUIC and TLS and to nothing else.
