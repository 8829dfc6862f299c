//! How gRPC dependencies are reached: addresses, targets, certificates, encodings.
